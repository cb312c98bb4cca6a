"""The graph of a model that reads whole texts: an encoder with any head, or a decoder with a head for labels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gossamer.exporting.graph import MOST_CHECKED, Case, Graph, Named, Run, draw_ids, widest_window
from gossamer.models import Model
from gossamer.models.output import Output

__all__ = ["WholeText"]

EXAMPLE = (2, 24)
"""Texts and tokens that the graph is traced with."""
CHOICES = 3
"""Choices of each text that it is traced with, where the head takes any."""
_FIELDS = ("logits", "pair_logits", "pooled", "last_hidden_state")


class _Module(nn.Module):
    """Ids and masks of a batch in, the tensors named by `fields` out."""

    def __init__(self, model: Model, inputs: tuple[str, ...], fields: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.inputs, self.fields = model, inputs, fields

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.read(given))

    def read(self, given: tuple[Tensor, ...]) -> list[Tensor]:
        out = self.model(**dict(zip(self.inputs, given, strict=True)))
        return [getattr(out, name) for name in self.fields]


class WholeText(Graph):
    """Inputs [batch, length] (with choices, [batch, choices, length]): input_ids, attention_mask and token_type_ids.

    The last where the model tells token types apart. Outputs are the fields of `Output` that its head gives: `logits`,
    with `pair_logits` where it scores pairs; of an encoder alone, or with the head "embed", `pooled` and
    `last_hidden_state`.
    """

    kind = "whole-text"

    def __init__(self, model: Model) -> None:
        self.model = model
        head = model.architecture.head
        self._lead = ("batch", "choices") if head is not None and head.takes_choices else ("batch",)
        shape = (*self._lead, "length")
        names = ["input_ids", "attention_mask"]
        names += ["token_type_ids"] if model.architecture.embeddings.token_types > 1 else []
        self.inputs = tuple(Named(name=name, dtype="int64", shape=shape) for name in names)
        longest = model.architecture.length
        self.bounds = {"batch": (1, 2**20), "choices": (1, 2**10), "length": (1, longest)}
        self._example = (EXAMPLE[0], min(EXAMPLE[1], max(longest // 2, 1)))
        out, shorter = (self._read(names, length) for length in (self._example[1], self._example[1] - 1 or 2))
        self.outputs = tuple(self._named(name, out, shorter) for name in _given(out))
        self.module = self._module = _Module(model, tuple(names), tuple(one.name for one in self.outputs)).eval()

    def example(self) -> tuple[Tensor, ...]:
        return self._draw(*self._example, seed=0)

    def cases(self, run: Run) -> Iterator[Case]:
        for i, length in enumerate(self._lengths()):
            batch = (1, 3, 2)[i % 3]
            given = self._draw(batch, length, seed=i + 1, choices=(1, 4, 2)[i % 3])
            with torch.no_grad():
                wanted = self._module.read(given)
            found = run(given)
            for named, one, other in zip(self.outputs, found, wanted, strict=True):
                real = given[1].bool() if "length" in named.shape else None
                yield Case(said=f"{named.name} of {batch} x {length:,}", found=one, wanted=other, real=real)

    def _lengths(self) -> list[int]:
        """Of texts to check: 1 token, few, around a block of 64, and below, at and above the widest window."""
        window, longest = widest_window(self.model.architecture), min(self.model.architecture.length, MOST_CHECKED)
        around = [window - 1, window, window + 1, window + 70] if window else [min(longest, 200)]
        return sorted({one for one in (1, 3, 63, 65, *around) if 1 <= one <= longest and one != self._example[1]})

    def _draw(self, batch: int, length: int, seed: int, choices: int = CHOICES) -> tuple[Tensor, ...]:
        """Texts of which the last one is a third shorter than the others: padded behind, by even seeds before."""
        real = torch.ones(batch, *[choices for _ in self._lead[1:]], length, dtype=torch.bool)
        if batch > 1:
            padding = slice(length - length // 3, None) if seed % 2 else slice(length // 3)
            real[-1, ..., padding] = False
        given = [draw_ids(self.model, real.shape, real, seed), real.long()]
        if len(self.inputs) > 2:
            given.append((torch.arange(length) > length // 3).long().expand(real.shape).clone())
        return tuple(given)

    def _read(self, names: list[str], length: int) -> Output:
        with torch.no_grad():
            out: Output = self.model(**dict(zip(names, self._draw(EXAMPLE[0], length, seed=0), strict=True)))
        return out

    def _named(self, name: str, out: Output, shorter: Output) -> Named:
        """Sizes that differ from those of a shorter text are its length."""
        value, other = (getattr(one, name) for one in (out, shorter))
        sizes = zip(value.shape[len(self._lead) :], other.shape[len(self._lead) :], strict=True)
        shape = (*self._lead, *("length" if one != less else one for one, less in sizes))
        return Named(name=name, dtype=str(value.dtype).removeprefix("torch."), shape=shape)


def _given(out: Output) -> list[str]:
    """What the graph gives: the scores of a head; without any, all that there is."""
    scores = [name for name in _FIELDS[:2] if getattr(out, name) is not None]
    return scores or [name for name in _FIELDS[2:] if getattr(out, name) is not None]
