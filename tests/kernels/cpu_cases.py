"""What tests of the compiled kernel share: the instruction sets of this machine, and the bounds that each holds."""

from __future__ import annotations

import torch
from kernel_cases import Call, assert_same, poisoned, run

from gossamer.kernels.backends.cpu import library

SETS = [
    name
    for name in library.INSTRUCTION_SETS
    if library.library().gs_supports(name.encode()) and library._open(name) is not None
]
OUTPUT, GRADIENT = 2e-6, 5e-6
"""||found - wanted|| / ||wanted|| of the output, and of all three gradients together, in float32."""


def compare(call: Call, output_error: float = OUTPUT, gradient_error: float = GRADIENT) -> None:
    """Output, log-sum-exp and gradients in float32, against the float64 reference of the same rounded inputs."""
    call = call.to(torch.float32)
    wanted = run(call.to(torch.float64), "reference")
    with poisoned():
        found = run(call, "cpu")
    assert_same(found, wanted, output_error, gradient_error)
