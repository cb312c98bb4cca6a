"""The journal: what it writes, how it is cut back after a kill, the live line, TensorBoard's files and the plot."""

import io
import json
import math
import mmap
import os
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gossamer import InputError
from gossamer.training.journal import live as journal_live
from gossamer.training.journal.journal import FILE, PLOT, Journal, read_journal
from gossamer.training.journal.live import LiveLine, describe, memory_in_use
from gossamer.training.journal.plot import thinned


def record(journal: Journal, steps: range) -> None:
    """What a run writes: a line a step, held-out text after every third."""
    for step in steps:
        journal.write(step, "train", loss=5.0 / step, rate=0.001)
        if step % 3 == 0:
            journal.write(step, "held-out", loss=6.0 / step, bits_per_byte=2.0)


def test_a_line_is_one_json_object(tmp_path: Path) -> None:
    with Journal(tmp_path / "run", live=False) as journal:
        journal.write(1, "train", loss=2.5, note="größer", missing=None, wrong=math.nan, huge=math.inf)
        lines = (tmp_path / "run" / FILE).read_text(encoding="utf-8").splitlines()  # before it is closed
    assert lines == [
        '{"step": 1, "split": "train", "loss": 2.5, "note": "größer", "missing": null, "wrong": null, "huge": null}'
    ]


def test_each_line_is_handed_to_the_system_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path, live=False)
    calls: list[bytes] = []

    class Narrow:
        """A disk that takes a few bytes at a time."""

        def write(self, data: memoryview) -> int:
            calls.append(bytes(data[:7]))
            return len(calls[-1])

    journal.close()
    monkeypatch.setattr(journal, "_file", Narrow())
    journal.write(12, "train", loss=1.0)
    assert b"".join(calls) == b'{"step": 12, "split": "train", "loss": 1.0}\n'


@given(killed=st.integers(4, 12), checkpoint=st.integers(0, 4), torn=st.integers(0, 60))
def test_a_run_that_was_killed_and_goes_on_leaves_the_file_of_an_unbroken_one(
    tmp_path_factory: pytest.TempPathFactory, killed: int, checkpoint: int, torn: int
) -> None:
    whole, broken = (tmp_path_factory.mktemp(name) for name in ("whole", "broken"))
    with Journal(whole, live=False) as journal:
        record(journal, range(1, 13))
    expected = (whole / FILE).read_bytes()
    with Journal(broken, live=False) as journal:
        record(journal, range(1, killed + 1))
    last = b'{"step": 99, "split": "train", "loss": 0.123456789, "rate": 1.0}\n'
    with (broken / FILE).open("ab") as file:
        file.write(last[:torn])
    step = 3 * checkpoint if 3 * checkpoint <= killed else 0
    with Journal(broken, live=False, resume_step=step) as journal:
        record(journal, range(step + 1, 13))
    assert (broken / FILE).read_bytes() == expected
    assert sorted(path.name for path in broken.iterdir()) == [FILE]


def test_a_torn_line_is_removed_though_no_step_is_cut(tmp_path: Path) -> None:
    for torn in (b'{"step": 2, "spl', b'{"step": 2}'):  # the second one lacks its end alone
        (tmp_path / FILE).write_bytes(b'{"step": 1, "split": "train"}\n' + torn)
        with Journal(tmp_path, live=False, resume_step=5) as journal:
            journal.write(6)
        assert [one["step"] for one in read_journal(tmp_path / FILE)] == [1, 6]


def test_a_whole_file_is_not_written_again(tmp_path: Path) -> None:
    with Journal(tmp_path, live=False) as journal:
        record(journal, range(1, 4))
    before = (tmp_path / FILE).stat().st_ino
    Journal(tmp_path, live=False, resume_step=3).close()
    assert (tmp_path / FILE).stat().st_ino == before


def test_a_new_run_begins_anew(tmp_path: Path) -> None:
    for _ in range(2):
        with Journal(tmp_path, live=False) as journal:
            journal.write(0, "held-out", loss=1.0)
    assert len((tmp_path / FILE).read_text().splitlines()) == 1
    with pytest.raises(InputError, match="resume_step is -1; it must be a step, 0 or more"):
        Journal(tmp_path, live=False, resume_step=-1)


@pytest.mark.parametrize(
    "garbage", [b"\0" * 30 + b"\n", b"[1]\n", b'{"step": "1"}\n', b"\xff\xfe\n", b"{}\n", b"[" * 100000 + b"\n"]
)
def test_lines_that_are_no_records_are_read_over(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / FILE).write_bytes(b'{"step": 1}\n' + garbage + b'{"step": 2}\n')
    assert [one["step"] for one in read_journal(tmp_path / FILE)] == [1, 2]
    Journal(tmp_path, live=False, resume_step=2).close()
    assert (tmp_path / FILE).read_bytes() == b'{"step": 1}\n{"step": 2}\n'


def test_a_failure_while_cutting_leaves_the_journal_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / FILE).write_bytes(b'{"step": 1}\n{"step": 2}\n')

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        Journal(tmp_path, live=False, resume_step=1)
    assert (tmp_path / FILE).read_bytes() == b'{"step": 1}\n{"step": 2}\n'
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_the_plot_shows_both_curves_and_is_the_same_each_time(tmp_path: Path) -> None:
    with Journal(tmp_path, live=False) as journal:
        assert journal.plot() is None
        record(journal, range(1, 1000))
        journal.write(1000, "train", loss=math.nan)
        path = journal.plot()
        assert path == tmp_path / PLOT
        first = path.read_bytes()
        journal.plot()
    assert (tmp_path / PLOT).read_bytes() == first
    root = ElementTree.fromstring(first)
    assert root.tag.endswith("svg")
    text = first.decode()
    assert "<!-- train -->" in text
    assert "<!-- held-out -->" in text
    assert len(first) < 100_000


@given(points=st.lists(st.floats(0, 10), min_size=1, max_size=300), most=st.integers(1, 50))
def test_thinned_curves_keep_their_mean_and_their_end(points: list[float], most: int) -> None:
    curve = list(enumerate(points))
    shown = thinned(curve, most)
    assert len(shown) <= most
    assert shown[-1][0] == len(points) - 1
    if len(points) % -(-len(points) // most) == 0:
        means = [loss for _, loss in shown]
        assert sum(means) / len(means) == pytest.approx(sum(points) / len(points))


def test_the_live_line_is_a_plain_one_now_and_then_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(journal_live.time, "monotonic", lambda: now)
    line = LiveLine()
    for step in range(1, 41):
        line.show(step, 40, {"loss": 4.0 / step, "tokens_per_second": 12345.6, "memory": 2_500_000_000})
        now += 1.0
    line.close()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "step 1/40  loss 4.0000  12,346 tokens/s  2.50 GB",
        "step 11/40  loss 0.3636  12,346 tokens/s  2.50 GB  29 s left",
        "step 21/40  loss 0.1905  12,346 tokens/s  2.50 GB  19 s left",
        "step 31/40  loss 0.1290  12,346 tokens/s  2.50 GB  9 s left",
        "step 40/40  loss 0.1000  12,346 tokens/s  2.50 GB  0 s left",
    ]


@pytest.mark.parametrize(("at_most", "left"), [(None, "29 s"), (100.0, "29 s"), (7.0, "7 s"), (0.0, "0 s")])
def test_no_more_is_left_than_the_time_of_the_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, at_most: float | None, left: str
) -> None:
    now = 100.0
    monkeypatch.setattr(journal_live.time, "monotonic", lambda: now)
    line = LiveLine()
    line.show(1, 40, {"memory": None})
    now += 10.0
    line.show(11, 40, {"memory": None, "seconds_at_most": at_most})
    assert capsys.readouterr().err.splitlines()[-1] == f"step 11/40  {left} left"


def test_on_a_terminal_one_line_changes_and_the_last_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(
        journal_live, "Console", lambda **rest: Console(file=screen, force_terminal=True, width=60, highlight=False)
    )
    line = LiveLine()
    for step in (1, 2, 3):
        line.show(step, 3, {"loss": 1.0 * step, "memory": 10**9, "seconds_left": 5000})
        line._due = 0.0
    line.close()
    line.close()
    shown = screen.getvalue()
    assert "loss 2.0000" in shown
    assert shown.count("\x1b[2K") >= 2  # lines that were taken back
    assert "step 3/3  loss 3.0000  1.00 GB  1 h 23 min left" in shown.splitlines()[-2]


@pytest.mark.parametrize(
    ("seconds", "words"), [(59.4, "59 s"), (60, "1 min"), (3600, "1 h 00 min"), (7260, "2 h 01 min")]
)
def test_durations(seconds: float, words: str) -> None:
    assert describe(1, 2, {"seconds_left": seconds}) == f"step 1/2  {words} left"


def test_the_line_leaves_out_what_is_missing() -> None:
    assert describe(1000, 2000, {"loss": 1, "bits_per_byte": 2, "rate": 0.0003, "memory": None}) == (
        "step 1,000/2,000  loss 1.0000  2.0000 bits/byte  rate 3.00e-04"
    )


def test_memory_is_what_is_resident(tmp_path: Path) -> None:
    before = memory_in_use()
    if before is None:
        assert not Path("/proc/self/statm").exists()
        return
    # Pages of its own: what an allocator hands out may have been resident before.
    with mmap.mmap(-1, 50_000_000) as held:
        for at in range(0, len(held), mmap.PAGESIZE):
            held[at] = 1
        now = memory_in_use()
    assert now is not None
    assert 40_000_000 < now - before < 60_000_000


def test_a_journal_without_live_line_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Journal(tmp_path, live=False) as journal:
        journal.show(1, 2, loss=1.0)
    with Journal(tmp_path, live=True) as journal:
        journal.show(2, 2, loss=1.0, memory=10**9)
    assert capsys.readouterr() == ("", "step 2/2  loss 1.0000  1.00 GB\n")


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    with Journal(tmp_path, live=False, tensorboard=True) as journal:
        record(journal, range(1, 7))
        journal.sync()
    with Journal(tmp_path, live=False, tensorboard=True, resume_step=3) as journal:
        record(journal, range(4, 6))
    files = sorted((tmp_path / "tensorboard").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert [scalars(path) for path in files] == [
        [(step, "train") for step in (1, 2, 3)] + [(3, "held-out")] + [(step, "train") for step in (4, 5, 6)]
        + [(6, "held-out")],
        [(4, "restarted"), (4, "train"), (5, "train")],
    ]  # fmt: skip


def scalars(path: Path) -> list[tuple[int, str]]:
    """(step, split) of the losses in an event file, and where TensorBoard is told that a run was restarted."""
    from tensorboardX.proto.event_pb2 import Event

    data, found, at = path.read_bytes(), [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 8], "little")  # TFRecord: length, its check sum, the event, its check sum
        event = Event.FromString(data[at + 12 : at + 12 + size])
        at += 16 + size
        if event.WhichOneof("what") == "session_log":
            found.append((event.step, "restarted"))
        found += [(event.step, one.tag.split("/")[1]) for one in event.summary.value if one.tag.startswith("loss/")]
    return found


def test_tensorboard_that_is_missing_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(InputError) as problem:
        Journal(tmp_path, live=False, tensorboard=True)
    assert str(problem.value) == (
        "tensorboard is on but tensorboardX is not installed: pip install 'gossamer[tensorboard]', or turn it off"
    )
    assert not any(tmp_path.iterdir())


def test_records_are_what_was_written(tmp_path: Path) -> None:
    values: dict[str, Any] = {"loss": 0.1 + 0.2, "tokens": 10**15, "rate": 5e-324}
    with Journal(tmp_path, live=False) as journal:
        journal.write(7, "train", **values)
        journal.sync()
    assert list(read_journal(tmp_path / FILE)) == [{"step": 7, "split": "train", **values}]
    assert json.loads((tmp_path / FILE).read_text()) == {"step": 7, "split": "train", **values}
