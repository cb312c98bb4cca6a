"""Who is measured: Gossamer and its peers, each computing the same windowed attention in the way that suits it best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import torch
import transformers
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

import gossamer as gs
from gossamer.layers.attention import Masks, SelfAttention
from gossamer.patterns import Pattern

HEADS, HEAD_SIZE, ATTENTION_WINDOW = 12, 64, 512
SIDE = ATTENTION_WINDOW // 2
WINDOW = gs.Window(SIDE, SIDE)

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
"""q, k, v as the contestant's `problem` lays them out -> output."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """One batch element: q, k, v and the gradient of the output, all [1, heads, n, head_size]."""

    q: Tensor
    k: Tensor
    v: Tensor
    grad: Tensor

    @property
    def n(self) -> int:
        return self.q.shape[2]

    @property
    def qkv(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.q, self.k, self.v


def make_problem(n: int, dtype: torch.dtype, seed: int) -> Problem:
    generator = torch.Generator().manual_seed(seed)
    q, k, v, grad = (torch.randn(1, HEADS, n, HEAD_SIZE, generator=generator).to(dtype) for _ in range(4))
    return Problem(q=q, k=k, v=v, grad=grad)


def useful_flops(n: int, direction: str) -> int:
    """Two products a pair forward, five more backward, of head_size multiply-adds each."""
    return (4 if direction == "forward" else 14) * WINDOW.pairs(n) * HEADS * HEAD_SIZE


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """`prepare(n, dtype, setting)` does whatever may be done once (masks, compiling) and returns the attention to time.

    `settings` are the ways it can be run, of which the fastest is measured. `held` is the bytes that it keeps between
    calls, beside q, k and v. Beyond `longest` tokens it is left out, where it is slow and no goal asks for it.
    """

    name: str
    prepare: Callable[[int, torch.dtype, str], Attention]
    settings: tuple[str, ...] = ("default",)
    pattern: Pattern = WINDOW
    has_backward: bool = True
    compiles: bool = False
    longest: int = 2**20
    tokens_first: bool = False
    held: Callable[[int, torch.dtype, str], int] = lambda n, dtype, setting: 0


def gossamer(backend: str, n: int, dtype: torch.dtype, setting: str) -> Attention:
    return lambda q, k, v: gs.attend(q, k, v, WINDOW, backend=backend)


def sdpa_masked(n: int, dtype: torch.dtype, setting: str) -> Attention:
    """torch's scaled dot-product attention, given the band as a dense mask of truth values or of what to add."""
    mask = torch.ones(n, n, dtype=torch.bool).tril_(SIDE).triu_(-SIDE)
    if setting == "additive":
        mask = torch.zeros(n, n, dtype=dtype).masked_fill_(mask.logical_not_(), float("-inf"))
    return partial(scaled_dot_product_attention, attn_mask=mask)


def mask_bytes(n: int, dtype: torch.dtype, setting: str) -> int:
    return n * n * (dtype.itemsize if setting == "additive" else 1)


def sdpa_dense(n: int, dtype: torch.dtype, setting: str) -> Attention:
    return scaled_dot_product_attention


def flex(n: int, dtype: torch.dtype, setting: str) -> Attention:
    """Compiled FlexAttention; it compiles at the first call. `forget_compiled` beforehand keeps its dispatch short."""
    compiled = torch.compile(flex_attention, fullgraph=True, dynamic=False)
    return partial(compiled, block_mask=band_block_mask(n, int(setting)))


def forget_compiled() -> None:
    """Drop what was compiled for other lengths: every call would look through it, and after eight torch gives up."""
    torch._dynamo.reset()


def in_band(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
    return (query - key <= SIDE) & (key - query <= SIDE)


def band_block_mask(n: int, size: int) -> BlockMask:
    """What `create_block_mask(in_band, ...)` finds by looking at all n x n pairs, written down from the band."""
    starts = torch.arange(0, n, size)
    ends = (starts + size).clamp(max=n) - 1
    nearest = (starts - ends[:, None]).clamp(min=0) - (ends - starts[:, None]).clamp(max=0)
    farthest = torch.maximum(ends - starts[:, None], ends[:, None] - starts)
    whole = (ends - starts + 1 == size) & (ends - starts + 1 == size)[:, None]
    full = (farthest <= SIDE) & whole
    lists = [t for kind in ((nearest <= SIDE) & ~full, full) for t in _block_list(kind)]
    return BlockMask.from_kv_blocks(*lists, BLOCK_SIZE=size, mask_mod=in_band, seq_lengths=(n, n))


def _block_list(wanted: Tensor) -> tuple[Tensor, Tensor]:
    """How many key blocks each query block takes, and which, wanted ones first: [1, 1, rows], [1, 1, rows, columns]."""
    order = wanted.int().argsort(dim=1, descending=True, stable=True)
    return wanted.sum(1, dtype=torch.int32)[None, None], order.int()[None, None]


def longformer_core(n: int, dtype: torch.dtype, setting: str) -> Attention:
    """`LongformerSelfAttention.forward` of transformers between its linear projections, without global tokens.

    q, k, v come and go as [batch, n, heads, head_size]. Like its model, it pads n to a multiple of the window.
    """
    layer = longformer_layer()
    padding = -n % ATTENTION_WINDOW
    padded = torch.arange(n + padding)[None] >= n
    removed = padded[:, :, None, None]

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (pad(x, (0, 0, 0, 0, 0, padding)) if padding else x for x in (q, k, v))
        scores = layer._sliding_chunks_query_key_matmul(q / HEAD_SIZE**0.5, k, SIDE)
        float_mask = removed.type_as(q).masked_fill(removed, torch.finfo(q.dtype).min)
        scores += layer._sliding_chunks_query_key_matmul(torch.ones_like(float_mask), float_mask, SIDE)
        probabilities = scores.softmax(-1, dtype=torch.float32).masked_fill(removed, 0.0).type_as(scores)
        return layer._sliding_chunks_matmul_attn_probs_value(probabilities, v, SIDE)[:, :n]

    return attention


def longformer_layer() -> LongformerSelfAttention:
    width = HEADS * HEAD_SIZE
    config = transformers.LongformerConfig(
        hidden_size=width, num_attention_heads=HEADS, num_hidden_layers=1, attention_window=[ATTENTION_WINDOW]
    )
    return LongformerSelfAttention(config, layer_id=0).eval()


def layers(n: int, seed: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """Both libraries' self-attention, with the same projections to q, k and v: [1, n, width] -> [1, n, width]."""
    torch.manual_seed(seed)
    theirs = longformer_layer()
    ours = SelfAttention(HEADS * HEAD_SIZE, HEADS, HEAD_SIZE, norm_eps=1e-12)
    ours.output = torch.nn.Identity()
    for name in ("query", "key", "value"):
        getattr(ours, name).load_state_dict(getattr(theirs, name).state_dict())
    nowhere = torch.zeros(1, n, dtype=torch.bool)
    masks = {"attention_mask": torch.zeros(1, n), "is_index_masked": nowhere, "is_index_global_attn": nowhere}
    return {
        "gossamer layer": lambda hidden: ours(hidden, WINDOW, Masks()),
        "transformers Longformer self-attention": lambda hidden: theirs(hidden, **masks, is_global_attn=False)[0],
    }


AUTO, CPU, BLOCKED = "gossamer auto", "gossamer cpu", "gossamer blocked"
SDPA, DENSE = "SDPA, same mask", "SDPA, no mask"
FLEX, LONGFORMER = "FlexAttention, compiled", "transformers Longformer"

CONTESTANTS = {
    one.name: one
    for one in (
        Contestant(name=AUTO, prepare=partial(gossamer, "auto")),
        Contestant(name=CPU, prepare=partial(gossamer, "cpu")),
        Contestant(name=BLOCKED, prepare=partial(gossamer, "blocked")),
        Contestant(name=SDPA, prepare=sdpa_masked, settings=("boolean", "additive"), held=mask_bytes),
        Contestant(name=DENSE, prepare=sdpa_dense, pattern=gs.Full(), longest=8192),
        Contestant(name=FLEX, prepare=flex, settings=("64", "128"), has_backward=False, compiles=True),
        Contestant(name=LONGFORMER, prepare=longformer_core, tokens_first=True),
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

    @cached_property
    def tensors(self) -> list[Tensor]:
        """q, k, v and the output's gradient, laid out in memory as the contestant wants them."""
        return [self._turn(x).contiguous() for x in (*self.problem.qkv, self.problem.grad)]

    def _turn(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2) if self.contestant.tokens_first else x


def prepare(contestant: Contestant, problem: Problem, setting: str | None = None) -> Prepared:
    setting = contestant.settings[0] if setting is None else setting
    prepared = Prepared(contestant, setting, problem, contestant.prepare(problem.n, problem.q.dtype, setting))
    assert len(prepared.tensors) == 4  # laid out now, not while somebody measures
    return prepared
