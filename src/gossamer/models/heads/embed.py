"""One vector a text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from gossamer.errors import InputError, quote
from gossamer.models.checks import require, require_choice, require_count, require_flag
from gossamer.models.heads.base import Head, Labels, Sizes, Tokens
from gossamer.models.output import Output

if TYPE_CHECKING:
    from gossamer.models.architecture import Architecture

__all__ = ["Pooling", "SentenceEmbedding", "Similarity", "pool"]

Pooling = Literal["mean", "cls", "max"]
Similarity = Literal["cosine", "dot", "euclidean", "manhattan"]


@dataclass(frozen=True, kw_only=True)
class SentenceEmbedding(Head, kind="embed"):
    """One vector a text: the mean, maximum or first of its token states, of length 1 where `normalized`.

    The others say, in the words of sentence-transformers, what belongs to a vector beyond the model's own computing:
    `prompts`, texts by name (a mapping is taken, too), one of which may be put before each text, that of
    `default_prompt_name` unless asked for another; `include_prompt`, whether the prompt's tokens are pooled;
    `truncate_dim`, how many of a vector's numbers are kept, the first ones; and how two vectors are compared.
    """

    pooling: Pooling = "mean"
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
        object.__setattr__(self, "prompts", _read_prompts(self.prompts))
        if self.truncate_dim is not None:
            require_count(self, "truncate_dim")
        if self.default_prompt_name is not None:
            self._check_name("default_prompt_name", self.default_prompt_name)

    @property
    def outputs(self) -> int:
        return 0

    def build(self, architecture: Architecture) -> None:
        return None

    def check_labels(self, labels: Labels, sizes: Sizes) -> None:
        raise self.refuse_labels()

    def loss(self, out: Output, labels: Labels) -> Float[Tensor, ""]:
        raise self.refuse_labels()

    def describe(self) -> str:
        return f"embed: {self.pooling}{', length 1' if self.normalized else ''}"

    def read(self, hidden: Float[Tensor, "batch length hidden"], tokens: Tokens, out: Output) -> Output:
        """One vector a text; of several packed texts there is none."""
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
    """One vector a text from its real tokens, as sentence-transformers pools; zeros for a text without any.

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
