"""Attention of a stack's tokens over other states, such as those of the text that a decoder translates."""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

from gossamer.errors import InputError
from gossamer.kernels.accounts import account_attention
from gossamer.kernels.ledger import Ledger, own_frame
from gossamer.layers.attention import AttentionHook, TokenInfo, watched
from gossamer.layers.multi_head import MultiHeadMaps, merge_heads
from gossamer.patterns import Full

__all__ = ["CrossAttention", "CrossKeyValueCache", "OtherStates"]


@dataclass(frozen=True, kw_only=True)
class OtherStates:
    """States that a stack attends to beside its own, and what is known of their tokens."""

    states: Float[Tensor, "batch keys hidden"]
    tokens: TokenInfo = field(default_factory=TokenInfo)


@runtime_checkable
class CrossKeyValueCache(Protocol):
    """The keys and values of the other states: filled at the first call, read at every one."""

    @property
    def filled(self) -> bool: ...

    def fill(self, k: Tensor, v: Tensor, key_mask: Bool[Tensor, "batch keys"] | None) -> None:
        """Keep keys and values, [batch, key_heads, keys, head_size], and which keys are real."""

    def attend(
        self, q: Float[Tensor, "batch heads queries head_size"], scale: float | None
    ) -> Float[Tensor, "batch heads queries head_size"]:
        """Attention of q over what is kept."""


class CrossAttention(MultiHeadMaps):
    """Multi-head attention whose keys and values are made of other states (Vaswani et al. 2017, section 3.2.3).

    Every query sees every real token of the other states: of its own document, where both sides have segments. Heads,
    norms and biases are as in `SelfAttention`. With a `memory` other states are needed at the first call alone.
    Returns the sublayer's output; the caller adds the residual and applies `norm` and `output_norm`.
    """

    hook: AttentionHook | None = None

    def forward(
        self,
        hidden: Float[Tensor, "batch length hidden"],
        tokens: TokenInfo,
        other: OtherStates | None,
        dropout: float = 0.0,
        *,
        scale: float | None = None,
        memory: CrossKeyValueCache | None = None,
    ) -> Float[Tensor, "batch length hidden"]:
        q = self.queries(hidden)
        if memory is not None:
            if other is not None and not memory.filled:
                memory.fill(*self.keys_values(other.states), other.tokens.key_mask)
            return self.output(merge_heads(memory.attend(q, scale)))
        assert other is not None
        k, v = self.keys_values(other.states)
        out = watched(self.hook, tokens)(
            q, k, v, Full(), key_mask=other.tokens.key_mask, segments=_segments(tokens, other),
            scale=scale, dropout=dropout if self.training else 0.0,
        )  # fmt: skip
        return self.output(merge_heads(out))

    @own_frame
    def account(
        self, hidden: Float[Tensor, "batch length hidden"], other: Tensor, ledger: Ledger, dropout: float = 0.0
    ) -> Tensor:
        """What `forward` takes without a memory; other: the other states, [batch, keys, hidden]."""
        q, k, v = self.account_maps(hidden, other, ledger)
        out = account_attention(q, k, v, Full(), ledger, dropout)
        return self.account_output(out, ledger)


def _segments(tokens: TokenInfo, other: OtherStates) -> tuple[Tensor, Tensor] | None:
    """Document ids of both sides, or None where neither has any."""
    ours, theirs = tokens.segments, other.tokens.segments
    if ours is None and theirs is None:
        return None
    if ours is None or theirs is None:
        side = "the other states" if ours is None else "the stack's own tokens"
        raise InputError(f"segments were given for {side} alone; give those of both sides, or of neither")
    return ours, theirs
