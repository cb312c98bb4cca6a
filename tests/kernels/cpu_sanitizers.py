"""Proof that the sanitizers are at work: calls that lie about memory must stop the process. Run by `make sanitize`."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch

from gossamer import Window, attend
from gossamer.kernels.backends.cpu import attention as cpu_attention
from gossamer.kernels.backends.cpu import library


def too_many_keys(call: Any) -> None:
    call.keys.rows += 100


def a_size_too_large(call: Any) -> None:
    call.size += 16


def a_step_beyond_64_bits(call: Any) -> None:
    call.k.row_stride = 2**62


LIES: dict[Callable[[Any], None], str] = {
    too_many_keys: "AddressSanitizer: heap-buffer-overflow",
    a_size_too_large: "AddressSanitizer: heap-buffer-overflow",
    a_step_beyond_64_bits: "runtime error: signed integer overflow",
}


class Liar:
    """The library, but what it is told is not so."""

    def __init__(self, lie: Callable[[Any], None]) -> None:
        self.lie, self.library = lie, library.library()

    def gs_forward(self, call: Any) -> int:
        self.lie(call._obj)
        return int(self.library.gs_forward(ctypes.byref(call._obj)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.library, name)


def tell(name: str) -> None:
    """Make one call of which something is not true."""
    lie = next(one for one in LIES if one.__name__ == name)
    cpu_attention.library = lambda: Liar(lie)  # type: ignore[assignment]
    q, k, v = (torch.randn(1, 1, 50, 16) for _ in range(3))
    attend(q, k, v, Window(200, 200), backend="cpu")


def main() -> None:
    for instructions in library.INSTRUCTION_SETS:
        if not library.library().gs_supports(instructions.encode()):
            print(f"{instructions}: not on this processor")
            continue
        for lie, report in LIES.items():
            done = subprocess.run(
                [sys.executable, __file__, lie.__name__],
                env={**os.environ, library.VARIABLE: instructions},
                capture_output=True,
                text=True,
            )
            if done.returncode == 0 or report not in done.stderr:
                sys.exit(f"{instructions}, {lie.__name__}: not noticed\n{done.stderr}")
        print(f"{instructions}: the sanitizers notice {', '.join(lie.__name__ for lie in LIES)}")


if __name__ == "__main__":
    tell(sys.argv[1]) if len(sys.argv) > 1 else main()
