"""What a model's states are over some tokens, and norms of a narrower one that give what its own give."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from gossamer.errors import InputError
from gossamer.layers import LayerNorm, RMSNorm
from gossamer.models.checks import require
from gossamer.models.evaluation import evaluating, reading_whole
from gossamer.models.model import Model
from gossamer.surgery.students.narrow_maps import sides_of, through
from gossamer.text.speeches import speeches

__all__ = ["fit_norms", "sample_batch", "second_moments"]

TEXTS = 32
"""How many texts are read, or rows of drawn ids."""
TOKENS = 64
"""How many tokens of each."""
LEAST_SPREAD = 1e-6
"""Below this variance of a normalised dimension its gain is not fitted."""
Norm = LayerNorm | RMSNorm
Inputs = Mapping[str, Tensor]


def sample_batch(model: Model, texts: Sequence[str] | None) -> dict[str, Tensor]:
    """A batch of the first texts, of shipped speeches, or of ids that are drawn where there is no tokenizer.

    Raises InputError for texts that are none, and for texts without a tokenizer.
    """
    length, tokenizer = min(TOKENS, model.reading_length()), model.tokenizer
    if texts is not None:
        listed = not isinstance(texts, str) and len(texts) > 0 and all(isinstance(text, str) and text for text in texts)
        require(listed, "texts", texts, "a list of texts, none of them empty")
        require(tokenizer is not None, "texts", texts, "left out: the teacher has no tokenizer")
    if tokenizer is None:
        drawn = torch.Generator().manual_seed(0)
        vocabulary = model.architecture.embeddings.vocabulary_size
        return {"input_ids": torch.randint(vocabulary, (TEXTS, length), generator=drawn)}
    read = texts[:TEXTS] if texts is not None else [one.text[: 16 * TOKENS] for one in islice(speeches(), TEXTS)]
    # One by one, since not every tokenizer has a token to fill up with.
    rows = [tokenizer(text, max_length=length)["input_ids"][0] for text in read]
    ids = pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_id or 0)
    lengths = torch.tensor([len(row) for row in rows])
    return {"input_ids": ids, "attention_mask": (torch.arange(ids.shape[1]) < lengths[:, None]).long()}


@torch.no_grad()
def second_moments(model: Model, batch: Inputs) -> Float[Tensor, "hidden hidden"]:
    """The mean of `x x^T` over all states x of real tokens, those of each layer taken to one size, in float64.

    Raises InputError where they are not finite.
    """
    real = _real(batch)
    total = torch.zeros(2 * (model.architecture.hidden_size,), dtype=torch.float64)
    for states in _read(model, batch):
        x = states.cpu()[real].double()
        total += x.T @ x / x.square().sum().clamp(min=1e-30)
    if not bool(total.isfinite().all()):
        raise InputError("the teacher's states hold NaN or infinity; go back to sound weights before narrowing it")
    return total


@torch.no_grad()
def fit_norms(model: Model, student: Model, maps: Mapping[str, Tensor], batch: Inputs) -> None:
    """Give the student's norms the gains and biases that `_Fit` says of what the model's norms give, mapped.

    One after the other, each by what it reads when those before it are fitted. Norms that read no token of the batch,
    those of a head, stay as they are.
    """
    real, wanted = _real(batch), dict[str, list[Tensor]]()
    sides = {name: maps.get(sides_of(f"{name}.weight")[0]) for name, _ in _norms(model)}

    def keep(name: str, module: Norm, x: Tensor, output: Tensor) -> None:
        by = sides[name]
        if by is not None:
            wanted.setdefault(name, []).append(through(_rows(output, real).double(), 1, by).float())

    with _hooked(model, keep):
        _read(model, batch)
    fits = {name: _Fit(module) for name, module in _norms(student) if name in wanted}

    def fit(name: str, module: Norm, x: Tensor, output: Tensor) -> Tensor:
        if name in fits:
            fits[name].see(_rows(x, real).double(), wanted[name].pop(0).double())
            return module.forward(x)
        return output

    with _hooked(student, fit):
        _read(student, batch)


class _Fit:
    """The gain and bias of a norm with which each dimension has the mean and deviation that are wanted of it.

    Its sign is that with which they go together. Least squares would give smaller gains, and so vectors that are more
    alike, where a narrow model says less.
    """

    def __init__(self, norm: Norm) -> None:
        self.norm = norm
        self.count = 0
        self.sums: Tensor | float = 0.0

    def see(self, x: Float[Tensor, "tokens size"], wanted: Float[Tensor, "tokens size"]) -> None:
        """Fit to these tokens and all before them: layers that share weights share their norms."""
        norm = self.norm
        x = (F.layer_norm if isinstance(norm, LayerNorm) else F.rms_norm)(x, x.shape[-1:], eps=norm.eps)
        self.count += len(x)
        new = torch.stack([x.sum(0), wanted.sum(0), x.square().sum(0), wanted.square().sum(0), (x * wanted).sum(0)])
        self.sums = new + self.sums
        x_mean, mean, x_squares, squares, products = self.sums / self.count
        bias = getattr(norm, "bias", None)
        if bias is None:
            x_mean, mean = torch.zeros_like(mean), torch.zeros_like(mean)
        offset = norm.offset if isinstance(norm, RMSNorm) else 0.0
        spread, of_input = (squares - mean.square()).clamp(min=0), x_squares - x_mean.square()
        gain = (spread / of_input).sqrt() * torch.where(products < x_mean * mean, -1, 1)
        # A dimension that hardly changes over these tokens says nothing of what it does over others.
        gain = torch.where(of_input > LEAST_SPREAD, gain, norm.weight.cpu().double() + offset)
        norm.weight.copy_(gain - offset)
        if bias is not None:
            bias.copy_(mean - gain * x_mean)


def _norms(model: Model) -> list[tuple[str, Norm]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, LayerNorm | RMSNorm)]


@contextmanager
def _hooked(model: Model, see: Callable[[str, Norm, Tensor, Tensor], Any]) -> Iterator[None]:
    """Call this with the name, the module, the input and the output of each norm; what it gives is the output."""
    hooks = [
        module.register_forward_hook(lambda module, inputs, output, name=name: see(name, module, inputs[0], output))
        for name, module in _norms(model)
    ]
    try:
        with reading_whole(model):
            yield
    finally:
        for hook in hooks:
            hook.remove()


def _rows(x: Tensor, real: Tensor) -> Float[Tensor, "rows size"]:
    """Those of real tokens, or all of what is no token's: states of distances."""
    return x.cpu()[real] if x.ndim > 2 else x.cpu()


def _real(batch: Inputs) -> Tensor:
    mask = batch.get("attention_mask")
    return torch.ones_like(batch["input_ids"], dtype=torch.bool) if mask is None else mask.bool()


def _read(model: Model, batch: Inputs) -> tuple[Tensor, ...]:
    """The states of a batch, the embeddings' first, without a head."""
    body = copy.copy(model)
    body.architecture = replace(model.architecture, head=None, pooler=False)
    body._modules = {**model._modules, "head": None, "pooler": None}
    device = model.embeddings.word.weight.device
    with evaluating(body):
        out = body(**{name: one.to(device) for name, one in batch.items()}, output_hidden_states=True)
    assert out.hidden_states is not None
    states: tuple[Tensor, ...] = out.hidden_states
    return states
