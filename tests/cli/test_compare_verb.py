"""gossamer compare: models side by side on the command line, and what is refused before anything is measured."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gossamer as gs

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def longer(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gs.save(gs.lengthen(gs.load(small), to=64, window=32)[0], tmp_path_factory.mktemp("longer") / "longer")


def test_models_side_by_side(gossamer: Command, small: Path, longer: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = gossamer("compare", small, longer, small, "--quick", "--html", page)
    assert (done.code, done.err) == (0, f"gossamer: {page}: written\n")
    head, _, parameters, *rest = done.out.splitlines()
    assert head.split("|")[1].strip() == ""
    assert [cell.strip() for cell in head.split("|")[2:5]] == [str(small), str(longer), f"{small} (2)"]
    assert parameters.split("|")[4].strip().endswith(" (1x)")
    assert any(line.startswith("| weights on disk ") for line in rest)
    assert not any("time, " in line for line in rest)
    assert page.read_text(encoding="utf-8").count("<svg") == 1


def test_as_json_with_time_and_memory(gossamer: Command, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is told by a process of its own, which is tested with the recipes."""
    monkeypatch.setattr(
        "gossamer.recipes.receipts.comparison.peak_memory", lambda folder, batch, tokens: batch * tokens
    )
    monkeypatch.setattr("gossamer.recipes.receipts.measure._AT_LEAST", 0)
    done = gossamer("compare", small, small, "--json")
    assert done.code == 0
    assert done.json["models"] == [str(small), f"{small} (2)"]
    rows = {row["name"]: row for row in done.json["rows"]}
    assert rows["peak memory, 8 x 32 tokens"]["values"] == [256, 256]
    assert [name for name in rows if name.startswith("time")] == [
        f"time, {batch} x 32 tokens, {threads}" for threads in ("1 thread", "2 threads") for batch in (1, 8)
    ]
    assert all(value > 0 for value in rows["time, 8 x 32 tokens, 2 threads"]["values"])


def test_what_cannot_be_compared(gossamer: Command, small: Path, tmp_path: Path) -> None:
    cases: list[tuple[tuple[object, ...], str]] = [
        ((small,), f"{small}: is one model; name two or more to compare"),
        ((small, tmp_path / "none"), f"'{tmp_path / 'none'}': no such directory; name a model directory"),
        ((small, small, "--html", tmp_path / "page.txt"), "the name must end in .html"),
        ((small, small, "--html", tmp_path / "none" / "page.html"), "none"),
    ]
    for arguments, message in cases:
        done = gossamer("compare", *arguments, "--quick")
        assert (done.code, done.out) == (2, "")
        assert message in done.error
