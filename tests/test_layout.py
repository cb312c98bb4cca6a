"""The shape of the package: which part may import which, what stays out, how big a function may get."""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "gossamer"
API_PAGE = ROOT / "docs" / "api.md"

MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 450

# Each part may import the parts of the lines before its own, never its own line's neighbours nor a later line.
ORDER = [
    ["errors"],
    ["checks", "numbered_notes", "settings"],
    ["devices", "regular_files"],
    ["atomic_files"],
    ["text"],
    ["metrics"],
    ["patterns"],
    ["kernels"],
    ["layers"],
    ["models"],
    ["generation"],
    ["families"],
    ["checkpoints"],
    ["inspection"],
    ["surgery"],
    ["training"],
    ["recipes"],
    ["tasks"],
    ["exporting", "integrations", "serve"],
    ["cli"],
]
RANK = {part: rank for rank, parts in enumerate(ORDER) for part in parts}
ENTRY_FILES = {"__init__.py", "__main__.py"}  # the package's own: they gather every part
ROOT_NAMES = {"__version__"}  # names that any part may take from the package itself


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imported_modules(source: str, package: str) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of every import in `source`: in functions and under TYPE_CHECKING too.

    `package` is the dotted package that relative imports start from; `from a import b` counts as `a.b`.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = parents[: len(parents) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{stem}.{alias.name}") for alias in node.names)


def direction_faults(source: str, path: Path) -> list[str]:
    """Imports in the file at `path` (inside the package) that point the wrong way, each said in one line."""
    part = path.parts[0].removesuffix(".py")
    if path.parts[0] in ENTRY_FILES:
        return []
    if part not in RANK:
        return [f"{path}: unknown part {part!r}; give it a place in ORDER, or move the file into a known part"]
    faults = []
    package = ".".join(["gossamer", *path.parent.parts])
    for line, name in imported_modules(source, package):
        top, *rest = name.split(".")
        if top != "gossamer" or (rest and rest[0] in ROOT_NAMES):
            continue
        target = rest[0] if rest else "gossamer itself"
        if target not in RANK:
            faults.append(f"{path}:{line}: {part} imports {name}: {target!r} is not a known part")
        elif target != part and RANK[target] >= RANK[part]:
            faults.append(f"{path}:{line}: {part} imports {name}: {target} stands later in the order than {part}")
    return faults


def size_faults(source: str, path: Path) -> list[str]:
    lines = len(source.splitlines())
    faults = [f"{path}: {lines} lines, {MAX_FILE_LINES} allowed"] if lines > MAX_FILE_LINES else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                faults.append(f"{path}:{node.lineno}: {node.name} has {length} lines, {MAX_FUNCTION_LINES} allowed")
    return faults


def modules_loaded_by(code: str) -> set[str]:
    """Top-level modules in `sys.modules` after `code` ran in a fresh interpreter."""
    script = f"{code}\nimport sys; print('LOADED', *sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1].split()
    assert last[0] == "LOADED"
    return set(last[1:])


def test_imports_point_one_way():
    faults = [fault for path in sources() for fault in direction_faults(path.read_text(), path.relative_to(PACKAGE))]
    assert not faults, "\n".join(faults)


def test_package_never_imports_transformers():
    found = [
        f"{path.relative_to(ROOT)}:{line}: imports {name}"
        for path in sources()
        for line, name in imported_modules(path.read_text(), "gossamer")
        if name.split(".")[0] == "transformers"
    ]
    assert not found, "\n".join(found)


def test_test_files_have_names_of_their_own():
    """pytest imports them by name alone: of two that share one, the second is not run where the first was."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py")
    assert [name for name, count in names.items() if count > 1] == []


def test_functions_and_files_stay_small():
    faults = [fault for path in sources() for fault in size_faults(path.read_text(), path.relative_to(PACKAGE))]
    assert not faults, "\n".join(faults)


def test_public_names_are_the_documented_ones():
    import gossamer

    assert API_PAGE.is_file(), f"{API_PAGE.relative_to(ROOT)} is missing: it documents the names of gossamer.__all__"
    documented = re.findall(r"^### `gossamer\.(\w+)", API_PAGE.read_text(), flags=re.MULTILINE)
    assert sorted(documented) == sorted(gossamer.__all__)
    missing = [name for name in gossamer.__all__ if not hasattr(gossamer, name)]
    assert not missing, f"gossamer.__all__ names what gossamer does not have: {missing}"


@pytest.mark.parametrize(
    "code",
    [
        "import gossamer",
        "import sys; sys.argv = ['gossamer', '--help']\n"
        "from gossamer.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code",
    ],
    ids=["import", "help"],
)
def test_start_is_fast_because_torch_is_not_loaded(code: str):
    heavy = modules_loaded_by(code) & {"torch", "numpy", "matplotlib", "accelerate", "transformers"}
    assert not heavy, f"loaded at start: {sorted(heavy)}"


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("patterns/window.py", "from gossamer.kernels import attend"),
        ("patterns/window.py", "from ..kernels import attend"),
        ("patterns/window.py", "from .. import kernels"),
        ("patterns/deep/window.py", "from ...kernels.select import choose"),
        ("models/model.py", "def build():\n    import gossamer.families.bert"),
        ("models/model.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from gossamer.cli import main"),
        ("models/model.py", "import gossamer"),
        ("models/model.py", "from gossamer import load"),
        ("exporting/onnx.py", "from gossamer.serve import app"),
        ("text/data.py", "from gossamer.metrics import recall"),
        ("errors.py", "from gossamer.text import data"),
        ("extras/new.py", ""),
        ("helpers.py", ""),
    ],
)
def test_a_wrong_import_is_found(path: str, source: str):
    assert len(direction_faults(source, Path(path))) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("patterns/window.py", "from gossamer.errors import InputError\nfrom .base import Pattern\nimport math"),
        ("kernels/select.py", "from ..patterns import Window\nfrom gossamer.text.data import speeches"),
        ("kernels/select.py", "from gossamer import __version__, patterns"),
        ("text/data.py", "from gossamer.errors import InputError"),
        ("cli/main.py", "from gossamer.serve import app"),
        ("__init__.py", "from gossamer.cli import main"),
    ],
)
def test_a_right_import_passes(path: str, source: str):
    assert direction_faults(source, Path(path)) == []


def test_a_long_function_and_a_long_file_are_found():
    longest = "def f():\n" + "    pass\n" * (MAX_FUNCTION_LINES - 1)
    assert size_faults(longest, Path("x.py")) == []
    assert len(size_faults(longest + "    pass\n", Path("x.py"))) == 1
    assert size_faults("pass\n" * MAX_FILE_LINES, Path("x.py")) == []
    assert len(size_faults("pass\n" * (MAX_FILE_LINES + 1), Path("x.py"))) == 1
