"""Which tokens a small masked language model, trained beside the model, has put in the place of others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gossamer.checkpoints import save
from gossamer.errors import InputError
from gossamer.metrics.labels import f1
from gossamer.models import Architecture, Model
from gossamer.models.checks import is_finite, require, require_positive
from gossamer.models.heads import Head, MaskedLM, ReplacedToken
from gossamer.text import Tokenizer
from gossamer.training.data.packing import Rows
from gossamer.training.objectives.base import IGNORED, Batch, Direction, unwrapped
from gossamer.training.objectives.texts.language import Labeller
from gossamer.training.objectives.texts.masking import MaskingObjective

__all__ = ["ReplacedTokenObjective", "generator_of"]

_GENERATOR = "generator"
_TABLES = ("word", "position", "token_type", "norm")
"""What both models share: all of the embeddings but the map to their own width."""


@dataclass(frozen=True, kw_only=True)
class ReplacedTokenObjective(MaskingObjective, kind="replaced-token"):
    """ELECTRA's discriminator, with its generator (Clark et al. 2020, arXiv 2003.10555, section 2).

    Of the text's tokens `share` become the mask. The generator, a masked LM with `generator` of the model's heads, and
    so of its width and that of its feed-forward (section 3.2), learns what they were; a draw from what it predicts
    stands in their place, and the model tells for every token whether it is the text's own. The loss is the
    generator's plus `weight` times the model's, which reaches nothing of the generator through the draw. Both share
    word, position and type tables and their norm. Where a step is cut into parts (`batch.accumulation`), a part's two
    means both count by its share of the masked tokens, the second of which is not quite its share of all tokens.

    While training the generator is the module `generator` of the model; it is saved beside it, as `last-generator`.
    """

    heads: ClassVar[tuple[type[Head], ...]] = (ReplacedToken,)
    measures: ClassVar[tuple[str, ...]] = ("tokens", "correct", "right", "found", "wanted")
    is_reckoned: ClassVar[bool] = False

    kind: Literal["replaced-token"] = "replaced-token"
    generator: float = 0.25
    weight: float = 50.0

    def __post_init__(self) -> None:
        super().__post_init__()
        share = self.generator
        require(
            is_finite(share) and 0 < share <= 1, "generator", share, "a share of the model's heads above 0, up to 1"
        )
        require_positive(self, "weight")

    def new_head(self, rows: Sequence[Any] = (), usual: Head | None = None) -> Head:
        return usual or ReplacedToken()

    def labeller(self, tokenizer: Tokenizer) -> Labeller:
        """All that is taken out becomes the mask (section 2), without BERT's exceptions."""
        labelled, mask_id = super().labeller(tokenizer), tokenizer.mask_id
        assert mask_id is not None

        def mask(rows: Rows, seeds: Sequence[tuple[int, ...]]) -> tuple[np.ndarray, np.ndarray]:
            ids, labels = labelled(rows, seeds)
            return np.where(labels == IGNORED, ids, mask_id), labels

        return mask

    def attach(self, model: Model, seed: int, processes: int) -> None:
        require(processes == 1, "objective.kind", self.kind, f"another one on {processes} processes: it trains on one")
        if not isinstance(model.architecture.head, ReplacedToken):
            return  # which is refused elsewhere
        try:
            architecture = generator_of(model.architecture, self.generator)
        except InputError as problem:
            raise InputError(f"objective.generator is {self.generator}: {problem}") from None
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            generator = Model(architecture).to(next(model.parameters()).dtype)
        for name in _TABLES:
            # Not as a module, so that optimizer and checkpoints have each tensor once.
            generator.embeddings._modules.pop(name, None)
            generator.embeddings.__dict__[name] = getattr(model.embeddings, name)
        model.add_module(_GENERATOR, generator)

    def detach(self, model: Model) -> None:
        model._modules.pop(_GENERATOR, None)

    @contextmanager
    def alone(self, model: Model) -> Iterator[None]:
        generator = model._modules.pop(_GENERATOR)
        try:
            yield
        finally:
            model.add_module(_GENERATOR, generator)

    def save_beside(self, model: Model, folder: Path) -> None:
        generator = cast(Model, model.get_submodule(_GENERATOR))
        with torch.device("meta"):
            whole = Model(generator.architecture, family=model.family, tokenizer=model.tokenizer)
        tables = model.embeddings.state_dict()
        shared = {f"embeddings.{name}": one for name, one in tables.items() if name.partition(".")[0] in _TABLES}
        whole.load_state_dict(shared | generator.state_dict(), assign=True)
        save(whole, folder.with_name(f"{folder.name}-generator"))

    def loss(self, model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        first, second, *_ = self._both(model, batch)
        return first + self.weight * second

    def measure(self, model: nn.Module, batch: Batch) -> tuple[Float[Tensor, ""], dict[str, float]]:
        """The loss; tokens, of how many it is told rightly what they are, and those replaced, found and wanted.

        What the generator puts is drawn from the batch's own seed, so that a run that goes on finds the same.
        """
        with torch.random.fork_rng():
            torch.manual_seed(int(batch["input_ids"].sum()))
            first, second, logits, is_replaced = self._both(model, batch)
        is_told = batch.get("attention_mask", torch.ones_like(is_replaced)).bool()
        found, wanted = (logits > 0) & is_told, is_replaced & is_told
        counts = {"tokens": is_told, "correct": (found == wanted) & is_told, "right": found & wanted}
        counts |= {"found": found, "wanted": wanted}
        return first + self.weight * second, {name: float(one.sum()) for name, one in counts.items()}

    def scores(self, model: Model, loss: float, labels: int, sums: Mapping[str, float]) -> dict[str, float | None]:
        """The share of tokens of which it is told rightly whether they were replaced, and the F1 of those that were."""
        accuracy = sums["correct"] / sums["tokens"] if sums["tokens"] else None
        return {"accuracy": accuracy, "f1": f1(sums["right"], sums["found"], sums["wanted"])}

    def directions(self, model: Model | None = None) -> Mapping[str, Direction]:
        return {"accuracy": "higher", "f1": "higher"}

    def _both(
        self, model: nn.Module, batch: Batch
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, "batch length"], Bool[Tensor, "batch length"]]:
        """The generator's loss, the model's, its scores, and where they should be above 0."""
        guessed = cast(Model, unwrapped(model).get_submodule(_GENERATOR))(**batch)
        labels = batch["labels"]
        is_taken = labels != IGNORED
        original = torch.where(is_taken, labels, batch["input_ids"])
        read = original.masked_scatter(is_taken, _drawn(guessed.logits.detach()[is_taken]))
        is_replaced = read != original
        told = model(**{**batch, "input_ids": read, "labels": is_replaced.long()})
        return guessed.loss, told.loss, told.logits, is_replaced


def generator_of(architecture: Architecture, share: float) -> Architecture:
    """A masked LM of as many layers with this share of the heads, one at least, and so of all widths.

    Heads are as wide as the model's, and so are the embeddings, which a map takes to its width.
    """
    head = architecture.head
    assert isinstance(head, ReplacedToken)
    heads = [one.attention.heads for one in architecture.layers]
    require(len(set(heads)) == 1, "layers.attention.heads", heads, "the same in all layers")
    fewer = max(1, round(heads[0] * share))
    hidden = max(1, architecture.hidden_size * fewer // heads[0])
    layers = tuple(
        replace(
            one,
            attention=replace(one.attention, heads=fewer, key_heads=None),
            feed_forward=replace(one.feed_forward, width=max(1, one.feed_forward.width * fewer // heads[0])),
        )
        for one in architecture.layers
    )
    embeddings = replace(architecture.embeddings, projection=architecture.embeddings.size != hidden)
    masked = MaskedLM(activation=head.activation, norm_eps=architecture.layers[0].norm.eps)
    return replace(architecture, hidden_size=hidden, embeddings=embeddings, layers=layers, head=masked, pooler=False)


def _drawn(logits: Float[Tensor, "tokens vocabulary"]) -> Int[Tensor, "tokens"]:
    """Of each row of scores a token, by its probability: the highest with Gumbel noise, which NaN does not break."""
    uniform = torch.rand(logits.shape, device=logits.device).clamp_(min=1e-20)
    return (logits.float() - (-uniform.log()).log()).argmax(dim=-1)
