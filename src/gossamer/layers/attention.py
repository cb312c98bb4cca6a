"""Multi-head self-attention: one layer that is handed a pattern and asks the kernels to compute it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.errors import InputError
from gossamer.kernels import attend
from gossamer.kernels.accounts import account_attention
from gossamer.kernels.distance_bias import DistanceBias, RelativeTerms
from gossamer.kernels.flagged import flagged_anywhere
from gossamer.kernels.ledger import ID, Ledger, own_frame
from gossamer.layers.again import is_rebuilding
from gossamer.layers.distance import DistanceStates
from gossamer.layers.multi_head import MultiHeadMaps, RelativeTerm, account_heads, merge_heads, split_heads
from gossamer.layers.rotary import Rotation
from gossamer.patterns import Full, Global, Pattern

__all__ = [
    "AttentionHook",
    "KeyValueCache",
    "SelfAttention",
    "TokenInfo",
    "reading_seed",
    "watched",
]

READING_SEED = 0
"""Of rotations that are drawn anew in training."""

Attend = Callable[..., Tensor]
"""`attend`, or what stands in for it."""


def reading_seed(pattern: Pattern) -> int | None:
    """The seed that `attend` is given without training: of a hashed pattern, for the same rotations every time."""
    return None if pattern.hashes is None else READING_SEED


@dataclass(frozen=True, kw_only=True)
class TokenInfo:
    """What is known about the tokens of one batch: which are real, their documents, which are global, positions.

    `positions` are those of attention that turns by them or reads distances; the embeddings have added their own.
    """

    key_mask: Bool[Tensor, "batch length"] | None = None
    segments: Int[Tensor, "batch length"] | None = None
    global_mask: Bool[Tensor, "batch length"] | None = None
    positions: Int[Tensor, "#batch length"] | None = None


@runtime_checkable
class AttentionHook(Protocol):
    """Somebody who looks at attention calls (`gossamer.inspection`) and must not change what they give."""

    def attending(self, tokens: TokenInfo, flagged: bool) -> Attend:
        """What is called in place of `attend`: for all rows of a layer, or (`flagged`) for those of global projections.

        All layers of one forward pass hand over the same `tokens`, in their order.
        """


def watched(hook: AttentionHook | None, tokens: TokenInfo, flagged: bool = False) -> Attend:
    """`attend`, or what stands in for it while somebody looks."""
    if torch.compiler.is_compiling() or hook is None or is_rebuilding():
        return attend
    return hook.attending(tokens, flagged)


@runtime_checkable
class KeyValueCache(Protocol):
    """The keys and values that a decoder keeps of one layer."""

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        pattern: Pattern,
        tokens: TokenInfo,
        scale: float | None,
        distance_bias: DistanceBias | None,
    ) -> Float[Tensor, "batch heads new head_size"]:
        """Attention of new tokens, [batch, heads, new, head_size], over what is kept and themselves; keeps them.

        Of a `distance_bias` the table is read, at positions as the cache counts them.
        """


class SelfAttention(MultiHeadMaps):
    """Multi-head attention (Vaswani et al. 2017, section 3.2) under any pattern.

    With `global_projections`, tokens flagged in `tokens.global_mask` are read with query, key and value projections of
    their own and see every real token (Longformer, section 3.1); the keys the others see in them stay the local ones.
    Padding then reads nothing, as in `transformers`: its states count in the loss of question answering. `scale`
    multiplies the scores, 1 / sqrt(head_size) unless given; with a `memory` the new tokens see what that keeps;
    `head_mask` multiplies what each head gives (Michel et al. 2019, arXiv 1905.10650, section 2.1). With fewer
    `key_heads`, each of those serves as many query heads (Ainslie et al. 2023, section 2.2). `query_norm` and
    `key_norm` normalise each head's; a `rotation` turns both by their positions then, before a memory keeps them. A
    `distance_bias` is added to the scores, or what its states of distances add to them. A layer without heads gives the
    bias of its output alone. Of the rows that are handed over only the `own` ones are read for; the others are seen:
    `pattern_positions` tell the pattern where all of them stand, if their order does not.
    Returns the sublayer's output; the caller adds the residual and applies `norm` and `output_norm`.
    """

    hook: AttentionHook | None = None

    def forward(
        self,
        hidden: Float[Tensor, "batch length hidden"],
        pattern: Pattern,
        tokens: TokenInfo,
        dropout: float = 0.0,
        *,
        scale: float | None = None,
        memory: KeyValueCache | None = None,
        head_mask: Float[Tensor, "heads"] | None = None,
        rotation: Rotation | None = None,
        distance_bias: DistanceBias | DistanceStates | None = None,
        own: slice | None = None,
        pattern_positions: Int[Tensor, "#batch length"] | None = None,
    ) -> Float[Tensor, "batch length hidden"]:
        if own is not None:
            return self._read_slice(
                hidden, pattern, tokens, dropout, own, pattern_positions, scale, head_mask, rotation
            )
        if not self.heads:
            return self.output(hidden)
        rate = dropout if self.training else 0.0
        q = self.queries(hidden)
        k, v = self.keys_values(hidden, q)
        if rotation is not None:
            q, k = rotation.turn(q), rotation.turn(k)
        given = distance_bias
        by_distance = self._relative_terms(given) if isinstance(given, DistanceStates) else given
        if memory is not None:
            if isinstance(by_distance, RelativeTerms):
                raise InputError("a cache was given to attention with states of distances, which reads whole texts")
            return self._put_out(memory.attend(q, k, v, pattern, tokens, scale, by_distance), head_mask)
        out = watched(self.hook, tokens)(
            q, k, v, pattern, scale=scale, distance_bias=by_distance,
            key_mask=tokens.key_mask, segments=tokens.segments, global_mask=tokens.global_mask, dropout=rate,
            seed=None if self.training else reading_seed(pattern),
        )  # fmt: skip
        if self.global_projections and tokens.global_mask is not None:
            out = self._global_reader()(out, hidden, tokens, tokens.global_mask, rate, scale)
        if self.global_projections and tokens.key_mask is not None:
            out = out.masked_fill(~tokens.key_mask[:, None, :, None], 0)
        return self._put_out(out, head_mask)

    def _global_reader(self) -> Callable[..., Tensor]:
        if torch.compiler.is_exporting():
            return self._read_globals_exported
        return self._read_globals_compiled if torch.compiler.is_compiling() else self._read_globals

    def _relative_terms(self, given: DistanceStates) -> RelativeTerms:
        def projected(term: RelativeTerm) -> Tensor | None:
            project = self.relative_map(term)
            return None if project is None else split_heads(project(given.states[None]), self.head_size)[0]

        return RelativeTerms(
            keys=projected("content-to-position"), queries=projected("position-to-content"),
            rows=given.rows, before=given.before,
        )  # fmt: skip

    def _read_slice(
        self, rows: Tensor, pattern: Pattern, tokens: TokenInfo, dropout: float, own: slice, positions: Tensor | None,
        scale: float | None, head_mask: Tensor | None, rotation: Rotation | None,
    ) -> Float[Tensor, "batch own hidden"]:  # fmt: skip
        if not self.heads:
            return self.output(rows[:, own])
        q = self.queries(rows if self.shared_query_key or rotation is not None else rows[:, own])
        k, v = self.keys_values(rows, q if self.shared_query_key else None)
        if rotation is not None:
            q, k = rotation.turn(q), rotation.turn(k)
        q = q if q.shape[2] == own.stop - own.start else q[:, :, own]
        batch = len(rows)
        out = attend(
            q, k, v, pattern, scale=scale, key_mask=tokens.key_mask, segments=tokens.segments,
            positions=None if positions is None else positions.expand(batch, -1), query_start=own.start,
            dropout=dropout if self.training else 0.0,
        )  # fmt: skip
        return self._put_out(out, head_mask)

    @own_frame
    def account(
        self,
        hidden: Float[Tensor, "batch length hidden"],
        pattern: Pattern,
        ledger: Ledger,
        dropout: float = 0.0,
        *,
        rotation: Rotation | None = None,
        by_distance: Float[Tensor, "heads distances"] | DistanceStates | None = None,
        switched: bool = False,
        own: slice | None = None,
    ) -> Tensor:
        """What `forward` takes; `switched`: with a `head_mask`."""
        batch, length, size = hidden.shape
        count = length if own is None else own.stop - own.start
        if not self.heads:
            return self.output.account(ledger.view(hidden, batch, count, size), ledger)
        mine = hidden
        if count < length and rotation is None and not self.shared_query_key:
            # A product of several texts' rows reads a copy of them; autocast's copy is one.
            copied = batch > 1 and ledger.autocast is None
            shape = (batch, count, size)
            mine = ledger.operation(shape, hidden.dtype, (hidden,)) if copied else ledger.view(hidden, *shape)
        table = self._account_terms(by_distance, ledger) if isinstance(by_distance, DistanceStates) else by_distance
        q, k, v = self.account_maps(mine, hidden, ledger)
        if rotation is not None:
            q, k = rotation.account(q, ledger), rotation.account(k, ledger)
        q = q if q.shape[2] == count else ledger.view(q, batch, self.heads, count, self.head_size)
        out = account_attention(q, k, v, pattern, ledger, dropout, table, query_start=0 if own is None else own.start)
        if self.global_projections and ledger.global_tokens:
            out = self._account_globals(out, hidden, ledger, dropout)
        if self.global_projections and ledger.padded:
            out = ledger.operation(out.shape, out.dtype, (out,), saves=(ledger.memory(hidden[..., 0].numel()),))
        if switched:
            out = ledger.multiply(out, out.new_empty(self.heads, 1, 1))
        return self.account_output(out, ledger)

    def _account_terms(self, given: DistanceStates, ledger: Ledger) -> RelativeTerms:
        """What `_relative_terms` takes."""
        count, size = given.states.shape
        states = ledger.view(given.states, 1, count, size)

        def projected(term: RelativeTerm) -> Tensor | None:
            project = self.relative_map(term)
            if project is None:
                return None
            made = ledger.in_autocast_dtype(account_heads(project, states, self.head_size, ledger))
            return ledger.view(made, self.heads, count, self.head_size)

        return RelativeTerms(
            keys=projected("content-to-position"), queries=projected("position-to-content"),
            rows=given.rows, before=given.before,
        )  # fmt: skip

    def _account_globals(self, local: Tensor, hidden: Tensor, ledger: Ledger, dropout: float) -> Tensor:
        """What `_read_globals` takes of the first tokens."""
        # torch's gather keeps what it reads; the places are a slice of those of all tokens.
        kept = (hidden, ledger.memory(ID * hidden.shape[0] * hidden.shape[1]))
        shape = (len(hidden), ledger.global_tokens, hidden.shape[2])
        gathered = ledger.operation(shape, hidden.dtype, (hidden,), saves=kept)
        maps = ((self.query_global, gathered), (self.key_global, hidden), (self.value_global, hidden))
        q, k, v = (account_heads(one, x, self.head_size, ledger) for one, x in maps)
        new = account_attention(q, k, v, Full(), ledger, dropout)
        return ledger.operation(local.shape, local.dtype, (local, new))

    def _put_out(
        self, out: Float[Tensor, "batch heads length head_size"], head_mask: Float[Tensor, "heads"] | None
    ) -> Float[Tensor, "batch length hidden"]:
        out = out if head_mask is None else out * head_mask.to(out)[:, None, None]
        return self.output(merge_heads(out))

    def _read_globals(
        self,
        local: Float[Tensor, "batch heads length head_size"],
        hidden: Float[Tensor, "batch length hidden"],
        tokens: TokenInfo,
        flagged: Bool[Tensor, "batch length"],
        rate: float,
        scale: float | None,
    ) -> Float[Tensor, "batch heads length head_size"]:
        """Replace the flagged rows of `local`: gather them (padded to the fullest text), attend, scatter back."""
        count = flagged.sum(dim=1)
        most = int(count.max())
        if most == 0:
            return local
        rows = flagged.int().argsort(dim=1, descending=True, stable=True)[:, :most]
        segments = None if tokens.segments is None else (tokens.segments.gather(1, rows), tokens.segments)
        gathered = hidden.gather(1, rows[..., None].expand(-1, -1, hidden.shape[-1]))
        maps = ((self.query_global, gathered), (self.key_global, hidden), (self.value_global, hidden))
        q, k, v = (split_heads(project(x), self.head_size) for project, x in maps)
        read = watched(self.hook, tokens, flagged=True)
        new = read(q, k, v, Full(), scale=scale, key_mask=tokens.key_mask, segments=segments, dropout=rate)
        where = rows[:, None, :, None].expand(-1, *local.shape[1:2], -1, local.shape[-1])
        is_flagged = (torch.arange(most, device=rows.device) < count[:, None])[:, None, :, None]
        return local.scatter(2, where, torch.where(is_flagged, new, local.gather(2, where)))

    def _read_globals_exported(
        self,
        local: Float[Tensor, "batch heads length head_size"],
        hidden: Float[Tensor, "batch length hidden"],
        tokens: TokenInfo,
        flagged: Bool[Tensor, "batch length"],
        rate: float,
        scale: float | None,
    ) -> Float[Tensor, "batch heads length head_size"]:
        """The same for graphs, where the number of tokens flagged in any text may be an open size: those are read."""
        at = flagged_anywhere(flagged)
        segments = None if tokens.segments is None else (tokens.segments[:, at], tokens.segments)
        maps = ((self.query_global, hidden[:, at]), (self.key_global, hidden), (self.value_global, hidden))
        q, k, v = (split_heads(project(x), self.head_size) for project, x in maps)
        # torch's own attention asks whether there is one query, which nobody can tell.
        new = attend(
            q, k, v, Full(), scale=scale, key_mask=tokens.key_mask, segments=segments, dropout=rate, backend="blocked"
        )
        return local.index_copy(2, at, torch.where(flagged[:, None, at, None], new, local[:, :, at]))

    def _read_globals_compiled(
        self,
        local: Float[Tensor, "batch heads length head_size"],
        hidden: Float[Tensor, "batch length hidden"],
        tokens: TokenInfo,
        flagged: Bool[Tensor, "batch length"],
        rate: float,
        scale: float | None,
    ) -> Float[Tensor, "batch heads length head_size"]:
        """The same without shapes that depend on data, for tracing: every row is read, the flagged ones are kept."""
        maps = (self.query_global, self.key_global, self.value_global)
        q, k, v = (split_heads(project(hidden), self.head_size) for project in maps)
        new = attend(
            q, k, v, Global(), scale=scale,
            key_mask=tokens.key_mask, segments=tokens.segments, global_mask=flagged, dropout=rate,
        )  # fmt: skip
        return torch.where(flagged[:, None, :, None], new, local)
