"""The table of backends: one file or folder each, by the names that users give.

`portable` has no name of its own: it goes by that of `blocked`, where operators of our own cannot be used.
"""

from gossamer.kernels.backend import Backend
from gossamer.kernels.backends.blocked import BLOCKED
from gossamer.kernels.backends.cpu import CPU
from gossamer.kernels.backends.dense import DENSE
from gossamer.kernels.backends.portable import PORTABLE
from gossamer.kernels.backends.reference import REFERENCE
from gossamer.kernels.inputs import Inputs
from gossamer.kernels.operator import needs_plain_operations

__all__ = ["BACKENDS", "backends_for"]

_OPERATORS = (REFERENCE, DENSE, BLOCKED, CPU)
_PLAIN = (REFERENCE, DENSE, PORTABLE, CPU)

BACKENDS = tuple(one.name for one in _OPERATORS)


def backends_for(inputs: Inputs) -> tuple[Backend, ...]:
    """The backends that may be thought of for this call, in the order of `BACKENDS`."""
    return _PLAIN if needs_plain_operations(inputs) else _OPERATORS
