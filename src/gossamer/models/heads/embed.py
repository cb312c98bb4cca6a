"""One vector a text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer.errors import InputError, quote
from gossamer.kernels.ledger import Ledger, own_frame
from gossamer.layers import Linear
from gossamer.models.checks import require, require_choice, require_count, require_flag
from gossamer.models.heads.base import Head, HeadModule, Labels, Sizes, Tokens
from gossamer.models.output import Output

if TYPE_CHECKING:
    from gossamer.models.architecture import Architecture

__all__ = ["DenseActivation", "DenseLayer", "EmbeddingHead", "Pooling", "SentenceEmbedding", "Similarity", "pool"]

Pooling = Literal["mean", "cls", "max"]
Similarity = Literal["cosine", "dot", "euclidean", "manhattan"]
DenseActivation = Literal["identity", "tanh", "relu", "gelu", "silu"]


@dataclass(frozen=True, kw_only=True)
class DenseLayer:
    """A map of a vector to `size` numbers, with a bias or none, and its activation: sentence-transformers' Dense."""

    size: int
    bias: bool = True
    activation: DenseActivation = "tanh"

    def __post_init__(self) -> None:
        require_count(self, "size")
        require_flag(self, "bias")
        require_choice(self, DenseActivation, "activation")


@dataclass(frozen=True, kw_only=True)
class SentenceEmbedding(Head, kind="embed"):
    """One vector a text: the mean, maximum or first of its token states, of length 1 where `normalized`.

    `dense` are maps that it goes through before it is normalised, one after the other; their weights are the model's.
    The others say, in the words of sentence-transformers, what belongs to a vector beyond the model's own computing:
    `prompts`, texts by name (a mapping is taken, too), one of which may be put before each text, that of
    `default_prompt_name` unless asked for another; `include_prompt`, whether the prompt's tokens are pooled;
    `truncate_dim`, how many of a vector's numbers are kept, the first ones; and how two vectors are compared.
    """

    pooling: Pooling = "mean"
    dense: tuple[DenseLayer, ...] = ()
    normalized: bool = False
    prompts: tuple[tuple[str, str], ...] = ()
    default_prompt_name: str | None = None
    include_prompt: bool = True
    truncate_dim: int | None = None
    similarity_fn_name: Similarity = "cosine"
    kind: Literal["embed"] = "embed"

    reads_whole_texts = False

    def __post_init__(self) -> None:
        require_choice(self, Pooling, "pooling")
        require_choice(self, Similarity, "similarity_fn_name")
        require_flag(self, "normalized", "include_prompt")
        is_dense = isinstance(self.dense, tuple) and all(isinstance(one, DenseLayer) for one in self.dense)
        require(is_dense, "dense", self.dense, "a tuple of DenseLayer")
        object.__setattr__(self, "prompts", _read_prompts(self.prompts))
        if self.truncate_dim is not None:
            require_count(self, "truncate_dim")
        if self.default_prompt_name is not None:
            self._check_name("default_prompt_name", self.default_prompt_name)

    @property
    def outputs(self) -> int:
        return 0

    def vector_size(self, hidden_size: int) -> int:
        """How many numbers a vector has, of states of this size, before any is left out."""
        return self.dense[-1].size if self.dense else hidden_size

    def build(self, architecture: Architecture) -> HeadModule | None:
        return EmbeddingHead(self, architecture.output_size) if self.dense else None

    def check_labels(self, labels: Labels, sizes: Sizes) -> None:
        raise self.refuse_labels()

    def loss(self, out: Output, labels: Labels) -> Float[Tensor, ""]:
        raise self.refuse_labels()

    def describe(self) -> str:
        dense = "".join(f", {one.size:,} {one.activation}" for one in self.dense)
        return f"embed: {self.pooling}{dense}{', length 1' if self.normalized else ''}"

    def read(self, hidden: Float[Tensor, "batch length hidden"], tokens: Tokens, out: Output) -> Output:
        """One vector a text; of several packed texts there is none."""
        if not self.dense:
            out.pooled = None if tokens.segments is not None else pool(self, hidden, tokens.key_mask)
        return out

    def resolve_prompt(self, prompt: str | None = None, prompt_name: str | None = None) -> str:
        """The text to be put before each text: `prompt` itself, the one called `prompt_name`, or the default; "": none.

        Raises InputError for a name that the model does not have, for both at once, and for what is no string.
        """
        if prompt is not None:
            require(isinstance(prompt, str), "prompt", prompt, "a string")
            if prompt_name is not None:
                raise InputError(f"prompt_name is {quote(prompt_name)}, but there is a prompt, too; give one of them")
            return prompt
        name = self.default_prompt_name if prompt_name is None else prompt_name
        return "" if name is None else dict(self.prompts)[self._check_name("prompt_name", name)]

    def _check_name(self, field: str, name: object) -> str:
        names = [one for one, _ in self.prompts]
        if not isinstance(name, str) or name not in names:
            listed = ", ".join(map(quote, names))
            known = f"one of the prompts' names, {listed}" if names else "None: there are no prompts"
            raise InputError(f"{field} is {quote(name)}; it must be {known}")
        return name


class EmbeddingHead(HeadModule):
    """One vector a text through the maps of a `SentenceEmbedding`: `activation(dense(x))` of each, then its length."""

    def __init__(self, settings: SentenceEmbedding, hidden_size: int) -> None:
        super().__init__()
        self.settings = settings
        sizes = (hidden_size, *(one.size for one in settings.dense))
        self.dense = nn.ModuleList(
            Linear(before, one.size, bias=one.bias) for before, one in zip(sizes[:-1], settings.dense, strict=True)
        )

    def forward(self, hidden: Float[Tensor, "batch length hidden"], tokens: Tokens) -> Output:
        if tokens.segments is not None:
            return Output()
        vectors = self.project(pool(replace(self.settings, normalized=False), hidden, tokens.key_mask))
        return Output(pooled=F.normalize(vectors, dim=-1) if self.settings.normalized else vectors)

    def project(self, pooled: Float[Tensor, "batch hidden"]) -> Float[Tensor, "batch size"]:
        """Pooled states through all maps, not normalised."""
        for dense, activation in zip(self.dense, self._activations(), strict=True):
            pooled = dense(pooled, activation)
        return pooled

    @own_frame
    def account(self, hidden: Float[Tensor, "batch length hidden"], tokens: Tokens, ledger: Ledger) -> Tensor:
        vectors = ledger.operation((len(hidden), hidden.shape[-1]), hidden.dtype, (hidden,))
        for dense, activation in zip(self.dense, self._activations(), strict=True):
            vectors = cast(Linear, dense).account(vectors, ledger, activation)
        return ledger.operation(vectors.shape, vectors.dtype, (vectors,)) if self.settings.normalized else vectors

    def _activations(self) -> list[str | None]:
        return [None if one.activation == "identity" else one.activation for one in self.settings.dense]


def _read_prompts(prompts: Any) -> tuple[tuple[str, str], ...]:
    """Names and texts as pairs. InputError for what is neither a mapping nor pairs of strings, and for a name twice."""
    pairs = tuple(prompts.items()) if isinstance(prompts, Mapping) else prompts
    allowed = "an object, or pairs, of names and texts, each name once"
    require(isinstance(pairs, tuple | list), "prompts", prompts, allowed)
    for pair in pairs:
        is_pair = isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(one, str) for one in pair)
        require(is_pair, "prompts", prompts, allowed)
    require(len({name for name, _ in pairs}) == len(pairs), "prompts", prompts, allowed)
    return tuple((name, text) for name, text in pairs)


def pool(
    settings: SentenceEmbedding,
    hidden: Float[Tensor, "batch length hidden"],
    key_mask: Bool[Tensor, "batch length"] | None,
) -> Float[Tensor, "batch hidden"]:
    """One vector a text from its real tokens, as sentence-transformers pools; zeros for a text without any. No `dense`.

    The first token is the first real one: the state before a text that was padded on the left is nobody's.
    """
    if settings.pooling == "cls" and key_mask is None:
        pooled = hidden[:, 0]
    elif settings.pooling == "cls":
        assert key_mask is not None
        first = key_mask.int().argmax(dim=1)
        pooled = hidden[torch.arange(len(hidden), device=hidden.device), first]
        pooled = torch.where(key_mask.any(dim=1, keepdim=True), pooled, 0)
    elif key_mask is None:
        pooled = hidden.mean(dim=1) if settings.pooling == "mean" else hidden.amax(dim=1)
    elif settings.pooling == "mean":
        total = hidden.masked_fill(~key_mask[..., None], 0).sum(dim=1)
        pooled = total / key_mask.sum(dim=1, keepdim=True).clamp(min=1)
    else:
        highest = hidden.masked_fill(~key_mask[..., None], -torch.inf).amax(dim=1)
        pooled = torch.where(key_mask.any(dim=1, keepdim=True), highest, 0)
    return F.normalize(pooled, dim=-1) if settings.normalized else pooled
