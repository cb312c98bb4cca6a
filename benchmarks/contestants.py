"""Who is measured: Gossamer and its peers, each computing the same attention in the way that suits it best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

import torch
import transformers
from flex import LONGEST_SEARCH, flex, is_plain_window
from shapes import DENSE, HEAD_SIZE, HEADS, Problem, Shape
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

import gossamer as gs

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
"""q, k, v as the contestant's `Prepared.tensors` lays them out -> output."""


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """`prepare(problem, setting)` does whatever may be done once (masks, compiling) and returns the attention to time.

    `settings` are the ways it can be run on a shape, of which the fastest is measured. `cannot(shape, n, direction)`
    says in words why it takes no part there, None where it does. `held` is the bytes that it keeps between calls,
    beside q, k and v.
    """

    name: str
    prepare: Callable[[Problem, str], Attention]
    settings: Callable[[Shape], tuple[str, ...]] = lambda shape: ("default",)
    cannot: Callable[[Shape, int, str], str | None] = lambda shape, n, direction: None
    compiles: bool = False
    tokens_first: bool = False
    held: Callable[[Problem, str], int] = lambda problem, setting: 0


def gossamer(backend: str, problem: Problem, setting: str) -> Attention:
    return partial(gs.attend, pattern=problem.pattern, global_mask=problem.flags, backend=backend)


def sdpa(problem: Problem, setting: str) -> Attention:
    """torch's scaled dot-product attention; where not all is seen, with a dense mask of truth values or of addends."""
    if setting == "no mask":
        return scaled_dot_product_attention
    mask = problem.pattern.mask(problem.n, flags=None if problem.flags is None else problem.flags[0])
    if setting == "additive":
        mask = torch.zeros(problem.n, problem.n, dtype=problem.dtype).masked_fill_(~mask, float("-inf"))
    return partial(scaled_dot_product_attention, attn_mask=mask)


def sdpa_settings(shape: Shape) -> tuple[str, ...]:
    return ("no mask",) if shape.name == DENSE else ("boolean", "additive")


def mask_bytes(problem: Problem, setting: str) -> int:
    return {"no mask": 0, "boolean": 1, "additive": problem.dtype.itemsize}[setting] * problem.n**2


def sdpa_cannot(shape: Shape, n: int, direction: str) -> str | None:
    longest = 16384 if shape.name == DENSE else 8192
    return f"beyond {longest:,} tokens its n x n work is left out: known, and minutes long" if n > longest else None


def flex_cannot(shape: Shape, n: int, direction: str) -> str | None:
    if direction != "forward":
        return "FlexAttention has no backward on a CPU"
    if shape.name == DENSE:
        return "beyond 4,096 tokens its n x n work is left out: known, and minutes long" if n > 4096 else None
    if not is_plain_window(shape) and n > LONGEST_SEARCH:
        return "create_block_mask looks at all n x n pairs"
    return "left out beyond 16,384 tokens" if n > 16384 else None


def longformer_core(problem: Problem, setting: str) -> Attention:
    """`LongformerSelfAttention.forward` of transformers between its linear projections, without global tokens.

    q, k, v come and go as [batch, n, heads, head_size]. Like its model, it pads n to a multiple of the window.
    """
    window, n = problem.shape.attention_window or 0, problem.n
    layer, side = longformer_layer(window), window // 2
    padding = -n % window
    padded = torch.arange(n + padding)[None] >= n
    removed = padded[:, :, None, None]

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (pad(x, (0, 0, 0, 0, 0, padding)) if padding else x for x in (q, k, v))
        scores = layer._sliding_chunks_query_key_matmul(q / HEAD_SIZE**0.5, k, side)
        float_mask = removed.type_as(q).masked_fill(removed, torch.finfo(q.dtype).min)
        scores += layer._sliding_chunks_query_key_matmul(torch.ones_like(float_mask), float_mask, side)
        probabilities = scores.softmax(-1, dtype=torch.float32).masked_fill(removed, 0.0).type_as(scores)
        return layer._sliding_chunks_matmul_attn_probs_value(probabilities, v, side)[:, :n]

    return attention


@lru_cache
def longformer_layer(window: int) -> LongformerSelfAttention:
    width = HEADS * HEAD_SIZE
    config = transformers.LongformerConfig(
        hidden_size=width, num_attention_heads=HEADS, num_hidden_layers=1, attention_window=[window]
    )
    return LongformerSelfAttention(config, layer_id=0).eval()


def longformer_cannot(shape: Shape, n: int, direction: str) -> str | None:
    if shape.flagged:
        return "its global tokens have projections of their own: another function"
    if shape.attention_window is None:
        return "transformers has plain windows only"
    return "left out beyond 16,384 tokens: seconds a call" if n > 16384 else None


AUTO, CPU, BLOCKED = "gossamer auto", "gossamer cpu", "gossamer blocked"
SDPA, FLEX, LONGFORMER = "SDPA", "FlexAttention, compiled", "transformers Longformer"

CONTESTANTS = {
    one.name: one
    for one in (
        Contestant(name=AUTO, prepare=partial(gossamer, "auto")),
        Contestant(name=CPU, prepare=partial(gossamer, "cpu")),
        Contestant(name=BLOCKED, prepare=partial(gossamer, "blocked")),
        Contestant(name=SDPA, prepare=sdpa, settings=sdpa_settings, cannot=sdpa_cannot, held=mask_bytes),
        Contestant(
            name=FLEX,
            prepare=flex,
            settings=lambda shape: ("no mask",) if shape.name == DENSE else ("64", "128"),
            cannot=flex_cannot,
            compiles=True,
        ),
        Contestant(name=LONGFORMER, prepare=longformer_core, cannot=longformer_cannot, tokens_first=True),
    )
}


@dataclass(frozen=True)
class Prepared:
    """A contestant ready to run on one problem, forward or forward + backward."""

    contestant: Contestant
    setting: str
    problem: Problem
    attention: Attention

    def forward(self) -> Tensor:
        """The output, [1, heads, n, head_size]."""
        with torch.no_grad():
            return self._turn(self.attention(*self.tensors[:3]))

    def both(self) -> tuple[Tensor, ...]:
        """Output and the gradients of q, k and v, all [1, heads, n, head_size]."""
        inputs = [x.detach().requires_grad_() for x in self.tensors[:3]]
        out = self.attention(*inputs)
        grads = torch.autograd.grad(out, inputs, self.tensors[3])
        return tuple(self._turn(x) for x in (out.detach(), *grads))

    def run(self, direction: str) -> object:
        return self.forward() if direction == "forward" else self.both()

    def can(self, direction: str) -> bool:
        return self.contestant.cannot(self.problem.shape, self.problem.n, direction) is None

    @cached_property
    def tensors(self) -> list[Tensor]:
        """q, k, v and the output's gradient, laid out in memory as the contestant wants them."""
        return [self._turn(x).contiguous() for x in (*self.problem.qkv, self.problem.grad)]

    def _turn(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2) if self.contestant.tokens_first else x


def prepare(contestant: Contestant, problem: Problem, setting: str | None = None) -> Prepared:
    setting = contestant.settings(problem.shape)[0] if setting is None else setting
    prepared = Prepared(contestant, setting, problem, contestant.prepare(problem, setting))
    assert len(prepared.tensors) == 4  # laid out now, not while somebody measures
    return prepared
