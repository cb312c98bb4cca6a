"""The README.md that is saved beside a model: what it is, what it came from, what was changed."""

from gossamer.families import Family
from gossamer.models.encoder import Model

__all__ = ["model_card"]


def model_card(model: Model, family: Family) -> str:
    """The card as Markdown, with the front matter the hub reads."""
    architecture = model.architecture
    parameters = sum(one.numel() for one in model.parameters())
    head = "no head" if architecture.head is None else f"head {architecture.head.kind}"
    patterns = list(dict.fromkeys(str(layer.attention.pattern) for layer in architecture.layers))
    lines = [
        "---",
        f"library_name: {'transformers' if family.public else 'gossamer'}",
        "tags: [gossamer]",
        "---",
        "",
        f"# {model.source or 'A Gossamer model'}",
        "",
        f"{len(architecture.layers)} layers x {architecture.hidden_size}, {parameters:,} parameters, {head}, reads "
        f"{architecture.length:,} tokens. Attention: {'; '.join(patterns)}. Format: `{family.model_type}`.",
        "",
        *([f"Base: {model.source}.", ""] if model.source else []),
        *(["## What was changed", "", _receipt(model.receipt), ""] if model.receipt is not None else []),
        "Load it with `gossamer.load(...)`" + (" or `transformers.AutoModel`." if family.public else "."),
    ]
    return "\n".join(lines) + "\n"


def _receipt(receipt: object) -> str:
    markdown = getattr(receipt, "to_markdown", None)
    return str(markdown()) if callable(markdown) else str(receipt)
