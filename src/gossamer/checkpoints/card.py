"""The README.md that is saved beside a model: what it is, what it came from, what was changed."""

import re

from gossamer.families import Family
from gossamer.models.encoder import Model
from gossamer.models.head_settings import MultipleChoice, QuestionAnswering, SentenceEmbedding, SequenceClassification

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
        f"{len(architecture.layers)} layers x {architecture.hidden_size}, {parameters:,} parameters, {head}, reads "
        f"{architecture.length:,} tokens. Attention: {'; '.join(patterns)}. Format: `{family.model_type}`.",
        "",
        *([f"Made from: {model.source}.", ""] if model.source else []),
        *([f"Base that its config.json names: {base}.", ""] if base else []),
        *(["## What was changed", "", _receipt(model.receipt), ""] if model.receipt is not None else []),
        f"Load it with `gossamer.load(...)`{others}.",
        *(["", global_tokens] if (global_tokens := _global_tokens(model, family)) else []),
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


def _global_tokens(model: Model, family: Family) -> str | None:
    """What `transformers` has to be given for the same numbers, where the first token is global; None where nothing."""
    head = model.architecture.head
    if not family.public or model.architecture.global_tokens != "first" or isinstance(head, SequenceClassification):
        return None
    said = 'The first token of every text is global (`global_tokens` in config.json: "first" or "none").'
    if isinstance(head, QuestionAnswering):
        return (
            f"{said} So is the question, which `transformers` finds by itself only between texts with two separators; "
            "for others give it a `global_attention_mask` of 1 for all before the first separator."
        )
    if isinstance(head, MultipleChoice):
        return (
            f"{said} So is all but the context; `transformers` takes that alone: for the same numbers give it a "
            "`global_attention_mask` of 1 for the first token and all behind the context's separator."
        )
    sentences = isinstance(head, SentenceEmbedding)
    return (
        f"{said} `transformers` by itself has no global token here: for the same numbers give it a "
        "`global_attention_mask` of zeros with `global_attention_mask[:, 0] = 1` (with padding on the right)."
        + (' sentence-transformers has no place for it: for its vectors write "none".' if sentences else "")
    )


def _base(model: Model) -> str | None:
    """What the checkpoint says it was itself trained from; a path of somebody's machine is nobody's business."""
    named = model.extra_config.get("_name_or_path")
    is_name = isinstance(named, str) and _ON_THE_HUB.fullmatch(named) is not None
    return named if is_name and named != model.source else None


def _receipt(receipt: object) -> str:
    markdown = getattr(receipt, "to_markdown", None)
    return str(markdown()) if callable(markdown) else str(receipt)
