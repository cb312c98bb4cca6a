"""The installed command, as a process of its own, on the real model."""

import json
import os
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
    assert done.stderr.startswith("gossamer: --file is '-', but standard input is closed")


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_an_interrupt_is_one_line() -> None:
    script = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a job in the background may have it ignored
        "from gossamer.cli import embed, main\n"
        "embed._check_out = lambda *given: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.argv[1:] = ['embed', 'model', 'a text']\n"
        "main.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "gossamer: interrupted\n")
