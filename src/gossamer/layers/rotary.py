"""Rotary positions: queries and keys turned by where they stand (Su et al. 2021, RoFormer, arXiv 2104.09864)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.kernels.ledger import Ledger

__all__ = ["Rotation", "rotation"]


@dataclass(frozen=True)
class Rotation:
    """Cosine and sine of the angle by which each pair of columns of each token turns (section 3.4.2)."""

    cosine: Float[Tensor, "#batch 1 length half"]
    sine: Float[Tensor, "#batch 1 length half"]

    def turn(self, x: Float[Tensor, "batch heads length size"]) -> Float[Tensor, "batch heads length size"]:
        """Queries or keys, turned: column i together with column `half + i`; columns behind those stay."""
        cosine, sine = self.cosine.to(x.dtype), self.sine.to(x.dtype)
        half = cosine.shape[-1]
        first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
        turned = [first * cosine - second * sine, second * cosine + first * sine]
        return torch.cat([*turned, rest] if rest.shape[-1] else turned, dim=-1)

    def account(self, x: Float[Tensor, "batch heads length size"], ledger: Ledger) -> Tensor:
        """What `turn` takes: cosines and sines are kept, queries and keys are not."""
        saves = (self.cosine.to(x.dtype), self.sine.to(x.dtype))
        return ledger.operation(x.shape, x.dtype, (x,), saves=saves, scratch=2 * x.nbytes, backward_bytes=2 * x.nbytes)


def rotation(position_ids: Int[Tensor, "#batch length"], columns: int, base: float, dtype: torch.dtype) -> Rotation:
    """The rotation of tokens at these positions, of `columns` of each head; angles are computed in float32.

    Float32 is what `transformers` computes them in, whatever the weights are: float64 would be another model's.
    """
    steps = torch.arange(0, columns, 2, dtype=torch.float32, device=position_ids.device) / columns
    angles = position_ids[:, None, :, None].float() * (1.0 / base**steps)
    return Rotation(angles.cos().to(dtype), angles.sin().to(dtype))
