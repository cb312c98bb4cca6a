"""The installed command, as a process of its own, on the real model."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

GOSSAMER = Path(sys.executable).with_name("gossamer")


def start(*args: object, **more: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [GOSSAMER, *map(str, args)], capture_output=True, text=True, encoding="utf-8", timeout=300, check=False, **more
    )


def test_help_starts_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    begin = time.perf_counter()
    done = start("--help")
    with capsys.disabled():
        print(f" [gossamer --help: {time.perf_counter() - begin:.2f} s] ", end="")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: gossamer VERB")


def test_the_package_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "gossamer", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, start("--version").stdout)


def test_the_main_paths_on_the_real_model(minilm: Path, tmp_path: Path) -> None:
    longer = start("lengthen", minilm, "--to", 1024, "--window", 128, "--out", tmp_path / "long", "--json")
    assert json.loads(longer.stdout)["family"] == "longformer"
    text = "The state of the Union is strong. " * 120
    done = start("embed", tmp_path / "long", "--file", "-", "--spans", 256, "--json", input=text)
    data = json.loads(done.stdout)
    assert (done.returncode, data["size"], data["texts"][0]["passes"]) == (0, 384, 1)
    assert len(data["rows"]) == 4


def test_a_reader_that_goes_away_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([GOSSAMER, "--help"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("args", [["--version"], ["env"], ["env", "--json"], ["summary", "/nowhere", "--json"]])
def test_a_full_disk_is_one_line(args: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([GOSSAMER, *args], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    *waiting, line = done.stderr.splitlines()
    assert all(one.endswith(" ...") for one in waiting)  # said where the machine is slow
    assert done.returncode == 2
    full_disk = "the output could not be written (No space left on device): free some space or write it elsewhere"
    assert line.startswith("gossamer: '/nowhere': " if "/nowhere" in args else f"gossamer: {full_disk}")


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
def test_closed_streams_are_no_bug() -> None:
    def shell(line: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(["sh", "-c", f"'{GOSSAMER}' {line}"], capture_output=True, text=True, check=False)

    for line in ("env >&-", "env 2>&-"):
        done = shell(line)
        assert done.returncode == 0
        assert all(one.endswith(" ...") for one in done.stderr.splitlines())
    done = shell("embed model --file - <&-")
    assert done.returncode == 2
    assert done.stderr.startswith("gossamer: a text is '-', but standard input is closed")


INTERRUPTED = """
import atexit, os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background may have it ignored
when = sys.argv[1]
interrupt = lambda *given, **more: os.kill(os.getpid(), signal.SIGINT)
class AtImport:
    def find_spec(self, name, path=None, target=None):
        if name == when:
            try:
                interrupt()
            except KeyboardInterrupt:  # as compiled modules do
                raise ImportError("no module, and no word of an interrupt")
sys.meta_path.insert(0, AtImport())
if when == "the work":
    from gossamer.cli import embed
    embed._check_out = interrupt
if when == "the end":
    atexit.register(interrupt)
sys.argv[1:] = sys.argv[2:]
from gossamer.cli.main import main
main()
"""


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize(
    ("when", "as_json"),
    [
        ("gossamer.cli.command", ()),
        ("typer", ("--json",)),
        ("rich.console", ()),
        ("torch", ("--json",)),
        ("the work", ()),
        ("the work", ("--json",)),
    ],
)
def test_an_interrupt_is_one_line_whenever_it_comes(when: str, as_json: tuple[str, ...]) -> None:
    line = [sys.executable, "-c", INTERRUPTED, when, "embed", "/nowhere", "a text", *as_json]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert [one for one in done.stderr.splitlines() if not one.endswith(" ...")] == ["gossamer: interrupted"]
    assert (json.loads(done.stdout) if as_json else done.stdout) == (
        {"error": {"type": "Interrupt", "message": "interrupted"}} if as_json else ""
    )


TERMINATED = INTERRUPTED.replace("signal.SIGINT)\nclass", "signal.SIGTERM)\nclass")


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_sigterm_ends_as_an_interrupt_does(as_json: tuple[str, ...]) -> None:
    line = [sys.executable, "-c", TERMINATED, "the work", "embed", "/nowhere", "a text", *as_json]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (143, "gossamer: ended by SIGTERM\n")
    assert (json.loads(done.stdout)["error"]["type"] if as_json else done.stdout) == ("Terminated" if as_json else "")


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_sigterm_in_an_import_ends_at_once() -> None:
    line = [sys.executable, "-c", TERMINATED, "torch", "embed", "/nowhere", "a text"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_an_interrupt_while_python_goes_leaves_no_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, "the end", "-V"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "gossamer: interrupted\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("stream", ["2>/dev/full", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("args", "code"), [("-V", 0), ("embed M none.txt", 2), ("x", 2)])
def test_a_lost_standard_error_leaves_the_exit_code(stream: str, args: str, code: int) -> None:
    assert subprocess.run(["sh", "-c", f"'{GOSSAMER}' {args} {stream}"], check=False).returncode == code
