"""The entry point: streams that cannot fail and interrupts that leave no traceback, then the command itself.

It imports next to nothing, so that nothing comes before its handler of Ctrl-C.
"""

import io
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

__all__ = ["main"]

_INTERRUPTED = 130
_SIGINT = 2


def main() -> None:
    """Run the command line of this process, and leave with its exit code."""
    _occupy_closed_descriptors()
    _handle_interrupts(_interrupt_or_end)
    _prepare_streams()
    try:
        from gossamer.cli.command import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        end_interrupted()
    _handle_interrupts(lambda number, frame: end_interrupted())  # Python takes a while to go
    sys.exit(code)


def end_interrupted() -> None:
    """Say so in one line, as JSON where that was asked for, and leave without another instruction of Python."""
    if os.isatty(2):
        _write(2, b"\r\x1b[K\x1b[?25h")  # a spinner may have hidden the cursor
    _write(2, b"gossamer: interrupted\n")
    if "--json" in sys.argv:
        _write(1, b'{"error": {"type": "Interrupt", "message": "interrupted"}}\n')
    os._exit(_INTERRUPTED)


def _write(descriptor: int, data: bytes) -> None:
    try:
        os.write(descriptor, data)
    except OSError:
        return


def _interrupt_or_end(number: int, frame: "FrameType | None") -> None:
    """KeyboardInterrupt, but in the middle of an import, where compiled modules turn it into something else."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            end_interrupted()
        frame = frame.f_back
    raise KeyboardInterrupt


def _handle_interrupts(handler: object) -> None:
    """Unless they are ignored, as in a job in the background."""
    import _signal  # type: ignore[import-not-found]  # `signal` itself takes ten times as long to import

    if _signal.getsignal(_SIGINT) is not _signal.SIG_IGN:
        _signal.signal(_SIGINT, handler)


def _occupy_closed_descriptors() -> None:
    """A file opened later would become the standard stream that the caller closed, as by `>&-`."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free


def _prepare_streams() -> None:
    """What cannot be written in a stream's encoding becomes a question mark; a lost remark is no failure."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    elif hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    try:
        descriptor = 2 if sys.stderr is None else sys.stderr.fileno()
    except (OSError, ValueError):  # not a stream of the system's
        return
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    raw = io.BufferedWriter(_Remarks(descriptor))  # type: ignore[type-var]
    sys.stderr = io.TextIOWrapper(raw, encoding=encoding, errors="replace", line_buffering=True)


class _Remarks(io.RawIOBase):
    """Standard error, where what cannot be written (a full disk, a reader that went away) is let go."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: "memoryview", /) -> int:  # type: ignore[override]
        try:
            return os.write(self._descriptor, data)
        except OSError:
            return len(data)
