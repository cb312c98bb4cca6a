"""The maps of multi-head attention: states to queries, keys and values of every head, and back."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from gossamer.kernels.ledger import Ledger
from gossamer.layers.constant import Constant
from gossamer.layers.linear import Linear
from gossamer.layers.norms import LayerNorm, RMSNorm, UnitNorm

__all__ = ["MultiHeadMaps", "RelativeTerm", "account_heads", "merge_heads", "split_heads"]

RelativeTerm = Literal["content-to-position", "position-to-content"]


def split_heads(
    projected: Float[Tensor, "batch length inner"], head_size: int
) -> Float[Tensor, "batch heads length head_size"]:
    """The columns of all heads as heads."""
    return projected.unflatten(-1, (-1, head_size)).transpose(1, 2)


def merge_heads(out: Float[Tensor, "batch heads length head_size"]) -> Float[Tensor, "batch length inner"]:
    """What all heads gave, side by side."""
    return out.transpose(1, 2).flatten(2)


def account_heads(project: Linear, x: Float[Tensor, "batch length hidden"], head_size: int, ledger: Ledger) -> Tensor:
    """What a projection and `split_heads` take."""
    projected = project.account(x, ledger)
    rows, length, columns = projected.shape
    return ledger.view(projected, rows, columns // head_size, length, head_size)


class MultiHeadMaps(nn.Module):
    """Projections of queries, keys, values and outputs, and norms (Vaswani et al. 2017, section 3.2.2).

    With fewer `key_heads`, each of those serves as many query heads (Ainslie et al. 2023, section 2.2). `query_norm`
    and `key_norm` normalise each head's. With `global_projections` there is a second set of queries, keys and values,
    for global tokens (Longformer, section 3.1). Of `relative_terms` with `relative_maps` there is a map of the states
    of distances each, `relative_key` (DeBERTa's W_{k,r}) and `relative_query` (W_{q,r}). `norm` and `output_norm` are
    kept for the residual around the layer. With `shared_query_key` keys are queries, of which the direction alone
    counts (Reformer, section 2), and there is no `key`. Without heads there are no projections either, and `output` is
    a `Constant`.
    """

    query: Linear
    key: Linear
    value: Linear

    def __init__(
        self,
        hidden_size: int,
        heads: int,
        head_size: int,
        *,
        norm: LayerNorm | RMSNorm | None,
        output_norm: LayerNorm | RMSNorm | None = None,
        global_projections: bool = False,
        key_heads: int | None = None,
        bias: bool = True,
        output_bias: bool = True,
        query_norm: LayerNorm | RMSNorm | None = None,
        key_norm: LayerNorm | RMSNorm | None = None,
        shared_query_key: bool = False,
        relative_terms: tuple[RelativeTerm, ...] = (),
        relative_maps: bool = False,
    ) -> None:
        super().__init__()
        inner, key_inner = heads * head_size, (key_heads or heads) * head_size
        self.heads = heads
        self.head_size = head_size
        if heads:
            self.query = Linear(hidden_size, inner, bias=bias)
            if not shared_query_key:
                self.key = Linear(hidden_size, key_inner, bias=bias)
            self.value = Linear(hidden_size, key_inner, bias=bias)
        self.global_projections = global_projections and heads > 0
        if self.global_projections:
            self.query_global = Linear(hidden_size, inner, bias=bias)
            self.key_global = Linear(hidden_size, key_inner, bias=bias)
            self.value_global = Linear(hidden_size, key_inner, bias=bias)
        self.relative_terms, self.relative_maps = relative_terms, relative_maps and heads > 0
        if self.relative_maps and "content-to-position" in relative_terms:
            self.relative_key = Linear(hidden_size, inner)
        if self.relative_maps and "position-to-content" in relative_terms:
            self.relative_query = Linear(hidden_size, inner)
        self.query_norm = query_norm
        self.shared_query_key = shared_query_key
        self.key_norm: LayerNorm | RMSNorm | UnitNorm | None = UnitNorm() if shared_query_key else key_norm
        whole = Linear(inner, hidden_size, bias=output_bias) if heads else Constant(hidden_size, bias=output_bias)
        self.output: Linear | Constant = whole
        self.norm = norm
        self.output_norm = output_norm

    @property
    def does_nothing(self) -> bool:
        """Whether what surrounds the layer would be as good without it."""
        return self.heads == 0 and self.output.bias is None and self.norm is None

    def queries(self, hidden: Float[Tensor, "batch length hidden"]) -> Float[Tensor, "batch heads length head_size"]:
        q = split_heads(self.query(hidden), self.head_size)
        return q if self.query_norm is None else self.query_norm(q)

    def keys_values(
        self, states: Float[Tensor, "batch keys hidden"], q: Float[Tensor, "batch heads keys head_size"] | None = None
    ) -> tuple[Float[Tensor, "batch heads keys head_size"], Float[Tensor, "batch heads keys head_size"]]:
        """q: their `queries`, which keys are made of where the map is shared."""
        v = split_heads(self.value(states), self.head_size)
        if self.shared_query_key:
            k = self.queries(states) if q is None else q
        else:
            k = split_heads(self.key(states), self.head_size)
        return k if self.key_norm is None else self.key_norm(k), v

    def relative_map(self, term: RelativeTerm) -> Linear | None:
        """What makes keys ("content-to-position") or queries of states of distances; None without such a term."""
        if term not in self.relative_terms:
            return None
        is_key = term == "content-to-position"
        if self.relative_maps:
            return self.relative_key if is_key else self.relative_query
        return self.key if is_key else self.query

    def account_maps(self, hidden: Tensor, states: Tensor, ledger: Ledger) -> tuple[Tensor, Tensor, Tensor]:
        """What `queries` of a layer's own states and `keys_values` of those that they see take."""
        q = account_heads(self.query, hidden, self.head_size, ledger)
        k = q if self.shared_query_key else account_heads(self.key, states, self.head_size, ledger)
        v = account_heads(self.value, states, self.head_size, ledger)
        q = q if self.query_norm is None else self.query_norm.account(q, ledger)
        return q, k if self.key_norm is None else self.key_norm.account(k, ledger), v

    def account_output(self, out: Tensor, ledger: Ledger) -> Tensor:
        """What merging the heads and the map of outputs take."""
        rows, _, length, _ = out.shape
        return self.output.account(ledger.view(out, rows, length, self.heads * self.head_size), ledger)
