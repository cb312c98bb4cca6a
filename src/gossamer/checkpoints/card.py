"""The README.md that is saved beside a model: what it is, what it came from, what was changed."""

import re

from gossamer.errors import plural
from gossamer.families import Family
from gossamer.models.encoder import Model
from gossamer.models.head_settings import SentenceEmbedding

__all__ = ["model_card"]

_ON_THE_HUB = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")


def model_card(model: Model, family: Family) -> str:
    """The card as Markdown, with the front matter the hub reads."""
    architecture = model.architecture
    parameters = sum(one.numel() for one in model.parameters())
    head = "no head" if architecture.head is None else f"head {architecture.head.kind}"
    patterns = list(dict.fromkeys(str(layer.attention.pattern) for layer in architecture.layers))
    base = _base(model)
    library, others = _readers(model, family)
    lines = [
        "---",
        f"library_name: {library}",
        "tags: [gossamer]",
        "---",
        "",
        f"# {model.source or 'A Gossamer model'}",
        "",
        f"{plural(len(architecture.layers), 'layer')} x {architecture.hidden_size}, {parameters:,} parameters, {head}, "
        f"reads {architecture.length:,} tokens. Attention: {'; '.join(patterns)}. Format: `{family.model_type}`.",
        "",
        *([f"Made from: {model.source}.", ""] if model.source else []),
        *([f"Base that its config.json names: {base}.", ""] if base else []),
        *(["## What was changed", "", _receipt(model.receipt), ""] if model.receipt is not None else []),
        f"Load it with `gossamer.load(...)`{others}.",
    ]
    return "\n".join(lines) + "\n"


def _readers(model: Model, family: Family) -> tuple[str, str]:
    """The library that the hub should name, and what reads the directory beside Gossamer, in words."""
    if not family.public:
        return "gossamer", ""
    others = f" or `transformers.{family.architecture_name(model.architecture)}`"
    if not isinstance(model.architecture.head, SentenceEmbedding):
        return "transformers", others
    return "sentence-transformers", f", `sentence_transformers.SentenceTransformer`{others}"


def _base(model: Model) -> str | None:
    """What the checkpoint says it was itself trained from; a path of somebody's machine is nobody's business."""
    named = model.extra_config.get("_name_or_path")
    is_name = isinstance(named, str) and _ON_THE_HUB.fullmatch(named) is not None
    return named if is_name and named != model.source else None


def _receipt(receipt: object) -> str:
    markdown = getattr(receipt, "to_markdown", None)
    return str(markdown()) if callable(markdown) else str(receipt)
