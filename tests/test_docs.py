"""The documentation runs: every Python block of every page, in order, page by page."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
OUTPUT = re.compile(r'^ *"?output"?: "?([\w./-]+)', re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)[^)]*\)")
WITH_CODE = [page for page in PAGES if BLOCK.search(page.read_text())]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_python_blocks_run(
    page: Path, minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As pasted, in an empty folder; the sample model is there by its name."""
    monkeypatch.chdir(tmp_path)
    text, names = page.read_text(), {}
    for found in BLOCK.finditer(text):
        line = text[: found.start()].count("\n") + 1
        exec(compile("\n" * line + found[1], str(page), "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_two_runs_of_a_page_write_one_folder(page: Path) -> None:
    outputs = OUTPUT.findall(page.read_text())
    assert len(outputs) == len(set(outputs))


def test_there_are_blocks_to_run() -> None:
    assert {page.name for page in WITH_CODE} >= {"README.md", "patterns.md", "attention.md", "lengthen.md", "embed.md"}
