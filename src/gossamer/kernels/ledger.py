"""What a pass takes, told by the modules that would compute it: operations on shapes alone, and what autograd keeps.

A module's `account` stands beside its `forward` and does the same on tensors of the "meta" device, which have a shape
and a dtype and no memory. The ledger counts multiply-adds, the memory that is held at once, what is kept for the
backward pass, each tensor once, and what that pass holds beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["ID", "WIDE", "Ledger", "Operation", "Section", "own_frame"]

ID = 8
"""Bytes of a token's id."""
WIDE = 4
"""Bytes of a number in float32, in which gradients of attention, norms' statistics and losses are kept."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Operation:
    """One operation that autograd knows: it `saves` these, and holds `backward_bytes` beside the gradients it makes.

    hands_on: the gradient of an input is that of the output itself, not a new tensor.
    """

    out: Tensor
    inputs: tuple[Tensor, ...]
    saves: tuple[Tensor, ...]
    backward_bytes: int = 0
    hands_on: bool = False


@dataclass(kw_only=True, eq=False)
class Section:
    """One part of a model: its FLOPs (2 a multiply-add), its memory in bytes, and its work by kind.

    kind: what is told together; owner: the name of the module. saved: what it keeps that no earlier section does.
    forward: the most at once while it runs, without what others keep; live_bytes: the same of the tensors that a name
    still holds. cached_bytes: weights that autocast holds in its dtype until the pass ends and nobody keeps.
    work: numbers or multiply-adds, by operation and what else its time depends on; again: what of them runs once more.
    """

    kind: str
    owner: str
    flops: int = 0
    pair_flops: int = 0
    forward: int = 0
    live_bytes: int = 0
    cached_bytes: int = 0
    operations: list[Operation] = field(default_factory=list)
    saved: dict[int, Tensor] = field(default_factory=dict)
    work: Counter[tuple[str, Any]] = field(default_factory=Counter)
    again: Counter[tuple[str, Any]] = field(default_factory=Counter)
    backends: set[str] = field(default_factory=set)

    @property
    def kept(self) -> int:
        """Bytes from its forward to its backward pass."""
        return _total(self.saved.values())

    @property
    def backward(self) -> int:
        """The most bytes at once while its backward pass runs, without gradients of weights."""
        return _backward_bytes(self.operations, self.saved)

    def reads(self, parameter: Tensor) -> bool:
        """Whether one of its operations reads this parameter."""
        return any(x is parameter for operation in self.operations for x in operation.inputs)


P = ParamSpec("P")
T = TypeVar("T")


def own_frame(account: Callable[P, T]) -> Callable[P, T]:
    """Of an account that is handed a ledger: what it makes is given back when it returns, but its result."""

    @wraps(account)
    def framed(*args: P.args, **kwargs: P.kwargs) -> T:
        ledger = next(x for x in (*args, *kwargs.values()) if isinstance(x, Ledger))
        with ledger.frame():
            out = account(*args, **kwargs)
        if isinstance(out, Tensor):
            ledger.hold(out)
        return out

    return framed


class Ledger:
    """The sections of one pass over a micro-batch.

    training: what autograd keeps is counted, for the parameters that require gradients. autocast: the dtype of linear
    maps, where it is on. device: that of the pass. global_tokens: how many first tokens of each text are global.
    padded: whether some texts are filled up, so that there is a mask of keys.
    """

    def __init__(
        self,
        *,
        training: bool = False,
        autocast: torch.dtype | None = None,
        device: str = "cpu",
        global_tokens: int = 0,
        padded: bool = False,
    ) -> None:
        self.training = training
        self.autocast = autocast
        self.device = device
        self.global_tokens = global_tokens
        self.padded = padded
        self.sections: list[Section] = []
        self._frames: list[dict[int, Tensor]] = [{}]
        self._saved: dict[int, Tensor] = {}
        self._casts: dict[int, Tensor] = {}
        self._roots: dict[int, Tensor] = {}
        self._values: list[Tensor] = []  # nobody else may get the id of one of them

    @property
    def here(self) -> Section:
        return self.sections[-1]

    @contextmanager
    def section(self, kind: str, owner: str, *inputs: Tensor) -> Iterator[Section]:
        """What is told inside belongs to this part, which reads `inputs`."""
        self.sections.append(Section(kind=kind, owner=owner))
        with self.frame():
            self.hold(*inputs)
            yield self.here

    @contextmanager
    def frame(self) -> Iterator[None]:
        """The names of one function: what they hold is given back when it returns."""
        self._frames.append({})
        try:
            yield
        finally:
            self._frames.pop()

    def hold(self, *values: Tensor) -> None:
        """A name of the present frame holds these."""
        self._frames[-1].update({id(x): x for x in map(self._root, values) if not isinstance(x, nn.Parameter)})
        self._values.extend(values)

    def release(self, *values: Tensor) -> None:
        """No name of the present frame holds these any more."""
        for x in values:
            self._frames[-1].pop(id(self._root(x)), None)

    def view(self, x: Tensor, *shape: int) -> Tensor:
        """The same memory in another shape."""
        out = torch.empty(shape, dtype=x.dtype, device="meta", requires_grad=x.requires_grad)
        self._roots[id(out)] = self._root(x)
        self._values.append(out)
        return out

    def _root(self, x: Tensor) -> Tensor:
        return self._roots.get(id(x), x)

    def memory(self, size: int) -> Tensor:
        """So many bytes of something that is kept: a mask, statistics, ids."""
        return torch.empty(size, dtype=torch.uint8, device="meta")

    def operation(
        self,
        shape: Sequence[int],
        dtype: torch.dtype,
        inputs: tuple[Tensor, ...],
        *,
        saves: Iterable[Tensor] = (),
        saves_output: bool = False,
        scratch: int = 0,
        backward_bytes: int = 0,
        hands_on: bool = False,
    ) -> Tensor:
        """The result of an operation; `scratch`: bytes that it holds beside its result while it runs."""
        out = torch.empty(tuple(shape), dtype=dtype, device="meta")
        inputs = tuple(map(self._root, inputs))
        if self.training and any(x.requires_grad for x in inputs):
            out.requires_grad_()
            saved = tuple(map(self._root, (*saves, out) if saves_output else saves))
            self._save(saved)
            self.here.operations.append(
                Operation(out=out, inputs=inputs, saves=saved, backward_bytes=backward_bytes, hands_on=hands_on)
            )
        self.hold(out)
        self._mark(scratch)
        return out

    def count(self, operation: str, detail: Any, units: int, flops: int = 0) -> None:
        """Work of an operation, whose time depends on `detail` besides."""
        self.here.work[operation, detail] += units
        self.here.flops += flops

    def in_autocast_dtype(self, x: Tensor) -> Tensor:
        """What a linear map reads: a copy in autocast's dtype, of a trained weight one for the whole pass."""
        if self.autocast is None or x.dtype in (self.autocast, torch.float64):
            return x
        if not (isinstance(x, nn.Parameter) and x.requires_grad):
            return self.to_dtype(x, self.autocast)
        if id(x) not in self._casts:
            self._casts[id(x)] = torch.empty(x.shape, dtype=self.autocast, device="meta")
            self._values.append(x)
            self.here.cached_bytes += self._casts[id(x)].nbytes
        return self._casts[id(x)]

    def to_dtype(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return x if x.dtype == dtype else self.operation(x.shape, dtype, (x,))

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        shape, dtype = torch.broadcast_shapes(x.shape, y.shape), torch.promote_types(x.dtype, y.dtype)
        return self.operation(shape, dtype, (x, y), hands_on=True)

    def multiply(self, x: Tensor, y: Tensor) -> Tensor:
        saves = [one for one, other in ((x, y), (y, x)) if other.requires_grad]
        shape, dtype = torch.broadcast_shapes(x.shape, y.shape), torch.promote_types(x.dtype, y.dtype)
        return self.operation(shape, dtype, (x, y), saves=saves)

    def dropout(self, x: Tensor, rate: float) -> Tensor:
        """The CPU keeps its mask in the dtype of what is dropped, GPUs a flag a number."""
        if not (rate and self.training):
            return x
        self.count("dropout", None, x.numel())
        mask = self.memory(x.nbytes if self.device == "cpu" else x.numel())
        return self.operation(x.shape, x.dtype, (x,), saves=(mask,))

    def checkpoint(self, step: Callable[[Tensor, Ledger], Tensor], x: Tensor) -> Tensor:
        """`step`, of which nothing but what it reads is kept: it runs once more in the backward pass."""
        inner, out, weights = self._run_again(step, x)
        return self.operation(
            out.shape, out.dtype, (x, *weights), saves=(x,), scratch=max(inner.live_bytes - x.nbytes - out.nbytes, 0),
            backward_bytes=max(inner.forward, inner.backward) - x.nbytes,
        )  # fmt: skip

    def reversible(
        self, step: Callable[..., Tensor], source: Tensor, target: Tensor, slices: Sequence[tuple[int, slice]] = ()
    ) -> Tensor:
        """`target + step(source)`, of which nothing is kept: both are computed again from the result and `source`.

        slices: that it is computed in, one after another: how many rows of each text are read, and which of those are
        written, which `step` is told.
        """
        rows, _, size = source.shape
        parts: list[tuple[Tensor, Callable[..., Tensor]]] = [(source, step)]
        if slices:
            parts = [(self.view(source, rows, count, size), partial(step, own=own)) for count, own in slices]
        scratch, backward = 0, 0
        weights: tuple[nn.Parameter, ...] = ()
        for part, step_of_part in parts:
            inner, out, weights = self._run_again(step_of_part, part)
            scratch = max(scratch, inner.live_bytes - part.nbytes, out.nbytes)
            backward = max(backward, inner.forward, inner.backward)
        # Slices add to gradients of the source that are their own.
        backward += target.nbytes + (source.nbytes if len(slices) > 1 else 0)
        return self.operation(
            target.shape, target.dtype, (source, target, *weights), hands_on=True, scratch=scratch,
            backward_bytes=backward,
        )  # fmt: skip

    def _run_again(
        self, step: Callable[[Tensor, Ledger], Tensor], x: Tensor
    ) -> tuple[Section, Tensor, tuple[nn.Parameter, ...]]:
        """`step` on a ledger of its own, whose work is done twice: its section, its result, the weights it read."""
        again = Ledger(
            training=True, autocast=self.autocast, device=self.device, global_tokens=self.global_tokens,
            padded=self.padded,
        )  # fmt: skip
        with again.section("again", self.here.owner, x) as inner:
            out = step(x, again)
        for mine in (self.here.work, self.here.again):
            mine.update(inner.work)
        self.here.flops += inner.flops
        self.here.pair_flops += inner.pair_flops
        self.here.backends |= inner.backends
        for weight, cast_weight in again._casts.items():
            if weight not in self._casts:
                self._casts[weight] = cast_weight
                self.here.cached_bytes += cast_weight.nbytes
        self._values += again._values
        weights = tuple(x for operation in inner.operations for x in operation.inputs if isinstance(x, nn.Parameter))
        return inner, out, weights

    def _save(self, values: tuple[Tensor, ...]) -> None:
        casts = {id(x) for x in self._casts.values()}
        for x in values:
            if isinstance(x, nn.Parameter) or id(x) in self._saved:
                continue
            self._saved[id(x)] = self.here.saved[id(x)] = x
            self._values.append(x)
            if id(x) in casts:
                self.here.cached_bytes = max(self.here.cached_bytes - x.nbytes, 0)

    def _mark(self, scratch: int) -> None:
        """Note what is held at this moment."""
        live = {key: x for frame in self._frames for key, x in frame.items()}
        self.here.live_bytes = max(self.here.live_bytes, _total(live.values()) + scratch)
        mine = {key: x for key, x in live.items() if key not in self._saved} | self.here.saved
        self.here.forward = max(self.here.forward, _total(mine.values()) + self.here.cached_bytes + scratch)


def _total(values: Iterable[Tensor]) -> int:
    return sum(x.nbytes for x in values)


class _Gradient:
    """The memory of a gradient, which several values may share."""

    def __init__(self, size: int) -> None:
        self.size = size


def _backward_bytes(operations: list[Operation], saved: dict[int, Tensor]) -> int:
    """The most bytes at once while these operations' backward pass runs, the last one's result having a gradient."""
    if not operations:
        return 0
    users = Counter(id(x) for operation in operations for x in operation.saves if id(x) in saved)
    kept = _total(saved.values())
    gradients = {id(operations[-1].out): _Gradient(operations[-1].out.nbytes)}
    most = 0
    for operation in reversed(operations):
        gradient = gradients.get(id(operation.out))
        if gradient is None:
            continue
        moment = _spread(operation, gradient, gradients)
        most = max(most, kept + moment + operation.backward_bytes)
        del gradients[id(operation.out)]
        for x in operation.saves:
            users[id(x)] -= 1
            if users[id(x)] == 0:
                kept -= x.nbytes
    return most


def _spread(operation: Operation, gradient: _Gradient, gradients: dict[int, _Gradient]) -> int:
    """Give the inputs of an operation their gradients; the bytes of all gradients at the fullest moment."""
    new: list[tuple[int, _Gradient]] = []
    for x in operation.inputs:
        if x.requires_grad and not isinstance(x, nn.Parameter):
            handed_on = operation.hands_on and x.nbytes == gradient.size
            new.append((id(x), gradient if handed_on else _Gradient(x.nbytes)))
    moment = sum(one.size for one in {*gradients.values(), *(one for _, one in new)})
    for key, one in new:
        first = gradients.get(key)
        # A sum of two is made in place where nobody else holds the first one.
        is_shared = first is not None and sum(other is first for other in gradients.values()) > 1
        gradients[key] = one if first is None else _Gradient(one.size) if is_shared else first
        moment += one.size if is_shared else 0
    return moment
