"""What a model is trained to do: its loss, a small function of model and batch, and the data that it asks for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.errors import InputError, quote
from gossamer.models import Model
from gossamer.models.heads import Head
from gossamer.models.next_token import IGNORED
from gossamer.text import Tokenizer, byte_tokenizer

if TYPE_CHECKING:
    from gossamer.training.processes import Processes

__all__ = ["IGNORED", "Batch", "BatchSource", "Direction", "Objective", "RunData", "filled", "learnt", "unwrapped"]

Batch = Mapping[str, Tensor]
"""What a model reads, by the names of its arguments, and `labels`."""
Direction = Literal["higher", "lower"]
"""Which way a score is better."""


class BatchSource(Protocol):
    """The batches of a run, each a pure function of seed and step, so that a run goes on from its step alone."""

    @property
    def digest(self) -> str:
        """SHA-256 that changes with what is learnt from; not with the names of files."""

    def at(self, step: int) -> dict[str, Tensor]:
        """This process's rows of a step, from 0; one row or more."""

    def ids(self, step: int) -> list[str]:
        """Where the rows of a step came from."""

    def steps(self, epochs: float) -> int:
        """Steps in which everything is read so many times, rounded up."""

    def tokens_before(self, step: int) -> int:
        """Tokens that all processes have read before a step."""

    def share_without_labels(self) -> float:
        """Which share of the first rows have no label."""

    def evaluation(self) -> Iterator[dict[str, Tensor]]:
        """This process's batches of what is held out; what stands in them beside tensors are numbers to be
        summed, and `examples`, the rows themselves.
        """

    def every_row(self, steps: int | None, held_out: bool) -> Iterator[dict[str, Tensor]]:
        """All rows of all processes that so many steps read, in the order of the data, whatever the seed if each epoch
        reads the same ones; with held_out also what is held out. InputError where only `steps` would tell them.
        """


@dataclass(frozen=True, kw_only=True)
class RunData:
    """What a run reads and how, for an objective that begins with it.

    steps: of the whole run, None where only its minutes are given. evaluates: whether held-out rows are read. say:
    shows a line; remark: keeps it for the receipt, too.
    """

    batches: BatchSource
    steps: int | None
    evaluates: bool
    processes: Processes
    precision: str
    say: Callable[[str], None]
    remark: Callable[[str], None]

    def every_row(self, held_out: bool) -> Iterator[dict[str, Tensor]]:
        """All rows that the run reads, in batches; with held_out also those that it evaluates."""
        return self.batches.every_row(self.steps, held_out and self.evaluates)


@dataclass(frozen=True, kw_only=True)
class Objective(ABC):
    """What is learnt: settings, and the loss of a model for a batch.

    A kind of objective is a class of its own in a file of its own; `Objective(kind="masked-lm")` is one of that kind,
    as `pathlib.Path(...)` is one of its system's. A teacher or a penalty is a term that `loss` adds: a micro-batch's
    loss counts by its share of the step's labels, and those shares add up to one, so a term of the weights alone counts
    once a step. The loop calls `before_step` for what follows a schedule.

    heads: which it trains. measures: the sums over held-out rows that its scores are made of; series: the lists, a
    value or more a row, for what no sum tells, such as a rank correlation. writes: whether its model goes on with a
    text. is_reckoned: whether `estimate` knows what it takes. shards: whether FSDP2 may cut its model. without_head:
    what to do about a checkpoint that has none of the heads.
    """

    kinds: ClassVar[dict[str, type[Objective]]] = {}
    heads: ClassVar[tuple[type[Head], ...]]
    measures: ClassVar[tuple[str, ...]] = ()
    series: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[bool] = False
    is_reckoned: ClassVar[bool] = True
    shards: ClassVar[bool] = True
    without_head: ClassVar[str] = "; model.new_head: true draws one"

    kind: str = "causal-lm"

    def __init_subclass__(cls, kind: str | None = None, **rest: object) -> None:
        super().__init_subclass__(**rest)
        if kind is not None:
            Objective.kinds[kind] = cls

    def __new__(cls, **settings: Any) -> Objective:
        return super().__new__(cls if cls is not Objective else Objective.class_of(settings.get("kind", cls.kind)))

    def __str__(self) -> str:
        """As it would be written, whatever its class is called."""
        return repr(self).replace(type(self).__qualname__, "Objective", 1)

    @staticmethod
    def class_of(kind: object) -> type[Objective]:
        """The class of a kind; InputError for one that is none."""
        if not isinstance(kind, str) or kind not in Objective.kinds:
            raise InputError(
                f"kind is {quote(kind)}; it must be one of {', '.join(map(repr, sorted(Objective.kinds)))}"
            )
        return Objective.kinds[kind]

    @property
    def of_data(self) -> Objective:
        """The objective that knows the data: this one, or that to which it adds a term."""
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """What its data have beside a text; none: plain text will do."""
        return ()

    @abstractmethod
    def new_head(self, rows: Sequence[Any] = (), usual: Head | None = None) -> Head:
        """The head that is drawn on a checkpoint. rows: the data, which may have its labels. usual: as it is there."""

    def own_tokenizer(self) -> Tokenizer:
        """Bytes, for weights that are drawn."""
        return byte_tokenizer()

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:  # noqa: B027 - most will take any
        """Raise InputError for a tokenizer that will not do."""

    def remarks(self, batches: BatchSource) -> Iterator[str]:
        """What is to be said of the data before a run."""
        return iter(())

    def before_step(self, model: Model, step: int) -> None:  # noqa: B027 - most change nothing
        """Called before each step, counted from 0: the place for what changes with it."""

    def attach(self, model: Model, seed: int, processes: int) -> None:  # noqa: B027 - most learn alone
        """Give a model what it learns with beside its own weights, as modules of its own, drawn by the run's seed."""

    def begin(self, model: Model, run: RunData) -> None:  # noqa: B027
        """Called before the first step of a run, or of a part of it, when model and data are known to be the run's."""

    def detach(self, model: Model) -> None:  # noqa: B027
        """Take that off for good."""

    def identity(self, model: Model) -> dict[str, str]:
        """What is learnt with beside the data, such as a teacher, and the SHA-256 with which alone a run goes on."""
        return {}

    @contextmanager
    def alone(self, model: Model) -> Iterator[None]:
        """The model without it, as it is saved."""
        yield

    def save_beside(self, model: Model, folder: Path) -> None:  # noqa: B027
        """Save it beside the folder of the model."""

    def loss(self, model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        """The mean loss over the labels of a batch. model: a `Model`, or what wraps one for several processes."""
        loss: Tensor = model(**batch).loss
        return loss

    @abstractmethod
    def count_labels(self, model: Model, batch: Batch) -> int:
        """How many labels the loss of a batch is the mean of."""

    def weigh(self, model: Model, batch: Batch) -> float:
        """What the loss of a batch counts for beside others': its number of labels, unless these have weights."""
        return self.count_labels(model, batch)

    @abstractmethod
    def any_labels(self, batch: Batch) -> Tensor:
        """Labels for a batch that has none to learn, since every process goes through every pass."""

    def measure(self, model: nn.Module, batch: Batch) -> tuple[Float[Tensor, ""], dict[str, float]]:
        """The loss of a held-out batch, and those of `measures` that the batch itself does not bring."""
        return self.loss(model, batch), {}

    def measure_examples(
        self, model: nn.Module, batch: Batch, examples: Sequence[Any]
    ) -> tuple[Float[Tensor, ""], dict[str, Any]]:
        """The same of a batch whose rows are known (`examples` of its `BatchSource`), and the values of `series`."""
        return self.measure(model, batch)

    @abstractmethod
    def scores(self, model: Model, loss: float, labels: int, sums: Mapping[str, Any]) -> dict[str, float | None]:
        """How well a model does, beside its mean loss over so many held-out labels; None for what cannot be told."""

    def directions(self, model: Model | None = None) -> Mapping[str, Direction]:
        """Which way each of `scores` is better, for choosing the best by it; of a model, those that it can have."""
        return {}


def learnt(labels: Tensor) -> Tensor:
    """Where there is something to learn: not -100, and in labels that are numbers not NaN."""
    return ~labels.isnan() if labels.is_floating_point() else labels != IGNORED


def filled(labels: Tensor) -> Tensor:
    """The same labels, 0 where nothing is to be learnt."""
    return torch.where(learnt(labels), labels, 0)


def unwrapped(model: nn.Module) -> Model:
    """The model inside of what shares it between processes."""
    return cast(Model, model if isinstance(model, Model) else model.module)
