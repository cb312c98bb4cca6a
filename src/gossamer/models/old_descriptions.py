"""What descriptions looked like before: read as those of today."""

from __future__ import annotations

from typing import Any

__all__ = ["with_length", "with_norms"]


def with_norms(architecture: dict[str, Any]) -> dict[str, Any]:
    """An architecture's fields with norms as values, where an eps and a place of their own, or a flag, said it before.

    Layers had `norm` ("post", "pre") and `norm_eps`, embeddings `norm` (true, false) and `norm_eps`, and the whole
    `final_norm_eps`. What is of no such form stays as it is, for those who read it to refuse.
    """
    fields = dict(architecture)
    if "final_norm_eps" in fields:
        fields["final_norm"] = _of_eps(fields.pop("final_norm_eps"))
    if isinstance(fields.get("embeddings"), dict):
        fields["embeddings"] = _embeddings(fields["embeddings"])
    if isinstance(fields.get("layers"), list | tuple):
        fields["layers"] = [_layer(one) if isinstance(one, dict) else one for one in fields["layers"]]
    return fields


def with_length(architecture: dict[str, Any]) -> dict[str, Any]:
    """An architecture's fields with its `length`, which was that of the embeddings' positions, table or not."""
    embeddings = architecture.get("embeddings")
    if (
        "length" in architecture
        or not isinstance(embeddings, dict)
        or not isinstance(embeddings.get("positions"), dict)
    ):
        return architecture
    positions = dict(embeddings["positions"])
    length = positions.get("length", 0)
    if positions.get("scheme", "learned") != "learned":
        positions.pop("length", None)
    return {**architecture, "length": length, "embeddings": {**embeddings, "positions": positions}}


def _embeddings(given: dict[str, Any]) -> dict[str, Any]:
    fields = dict(given)
    if isinstance(fields.get("norm", True), bool):
        eps = fields.pop("norm_eps", 1e-12)
        fields["norm"] = _of_eps(eps if fields.get("norm", True) else None)
    return fields


def _layer(given: dict[str, Any]) -> dict[str, Any]:
    fields = dict(given)
    if isinstance(fields.get("norm", ""), str):
        fields |= {"norm_place": fields.pop("norm")} if "norm" in fields else {}
        fields |= {"norm": _of_eps(fields.pop("norm_eps"))} if "norm_eps" in fields else {}
    return fields


def _of_eps(eps: object) -> dict[str, object] | None:
    """A layer norm of this eps; None for none."""
    return None if eps is None else {"eps": eps}
