"""The README.md that is saved beside a model: what it is, what it came from, what was changed."""

import json
import re
from pathlib import Path
from typing import Any

from gossamer.errors import plural
from gossamer.families import Family
from gossamer.models.heads import SentenceEmbedding
from gossamer.models.model import Model
from gossamer.regular_files import open_regular

__all__ = ["CARD", "PLACE", "model_card", "read_card"]

CARD = "README.md"
PLACE = "path/to/this/directory"
"""Stands in a card for the repository's id, until it has one."""
_ON_THE_HUB = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
_FRONT = re.compile(r"---\n(.*?\n)---\s*(?:\n|$)", re.DOTALL)
_MOST = 2**16
"""Characters of a card that are looked at: its front matter stands at the beginning."""
_CARRIED = ("license", "license_name", "license_link", "language", "base_model", "pipeline_tag")
# One value behind a name, or a list below it, a line each.
_FIELD = re.compile(
    r"^(?P<name>\w+):[ \t]*(?:(?P<one>[\w.\"'][^\n]{0,200})|(?P<list>(?:\n[ \t]*-[ \t]+[^\n]{1,200}){1,50}))$", re.M
)
_ITEM = re.compile(r"^[ \t]*-[ \t]+(.+)$", re.M)
# The first is what the hub is told unless the source's card named one of the others.
_TAGS = {
    "masked-lm": ("fill-mask",),
    "causal-lm": ("text-generation",),
    "sequence-classification": ("text-classification", "text-ranking", "zero-shot-classification"),
    "token-classification": ("token-classification",),
    "question-answering": ("question-answering",),
    "multiple-choice": ("multiple-choice",),
    "embed": ("sentence-similarity", "feature-extraction"),
}


def read_card(directory: Path) -> dict[str, str | list[str]]:
    """What a card's front matter says that outlives a change of the model: license, language, base model, task.

    Only plain values and lists of them are read. A card that is not there, or that nobody can read, says nothing.
    """
    try:
        with open_regular(directory / CARD) as file:
            text = file.read(_MOST).decode("utf-8-sig", errors="ignore").replace("\r\n", "\n")
    except (OSError, ValueError):
        return {}
    front = _FRONT.match(text)
    lines = _FIELD.finditer(front[1]) if front else ()
    return {
        line["name"]: _plain(line["one"]) if line["one"] else [_plain(item) for item in _ITEM.findall(line["list"])]
        for line in lines
        if line["name"] in _CARRIED
    }


def _plain(value: str) -> str:
    """A scalar of YAML without its quotes or what follows as a comment; printable."""
    quoted = re.fullmatch(r"""(["'])(.*?)\1(\s+#.*)?""", value)
    text = quoted[2] if quoted else re.sub(r"\s+#.*", "", value)
    return "".join(letter for letter in text if letter.isprintable()).strip()


def model_card(model: Model, family: Family) -> str:
    """The card as Markdown, with the front matter the hub reads."""
    architecture = model.architecture
    parameters = sum(parameter.numel() for parameter in model.parameters())
    head = "no head" if architecture.head is None else f"head {architecture.head.kind}"
    base = _base(model)
    library, others = _readers(model, family)
    lines = [
        "---",
        f"library_name: {library}",
        "tags: [gossamer]",
        *(line for field in _front_matter(model).items() for line in _yaml(*field)),
        "---",
        "",
        f"# {model.source or 'A Gossamer model'}",
        "",
        f"{plural(len(architecture.layers), 'layer')} x {architecture.hidden_size}, {parameters:,} parameters, {head}, "
        f"reads {architecture.length:,} tokens. "
        f"Attention: {'; '.join(_patterns(model))}. Format: `{family.model_type}`.",
        "",
        *_pattern_table(model),
        *([f"Made from: {model.source}.", ""] if model.source else []),
        *([f"Base that its config.json names: {base}.", ""] if base else []),
        *(["## What was changed", "", _receipt(model.receipt), ""] if model.receipt is not None else []),
        f"Load it with `gossamer.load(...)`{others}.",
        *(["", global_tokens] if (global_tokens := _global_tokens(model, family)) else []),
        *("", "## How to load it", "", *_loading(model, family)),
    ]
    return "\n".join(lines) + "\n"


def _patterns(model: Model) -> list[str]:
    return list(dict.fromkeys(str(layer.attention.pattern) for layer in model.architecture.layers))


def _pattern_table(model: Model) -> list[str]:
    """Which layers have which pattern, where they differ."""
    shown = [str(layer.attention.pattern) for layer in model.architecture.layers]
    if len(set(shown)) < 2:
        return []
    places = {pattern: [str(i) for i, one in enumerate(shown) if one == pattern] for pattern in _patterns(model)}
    rows = [
        f"| {', '.join(numbers)} | `{pattern.replace('|', chr(92) + '|')}` |" for pattern, numbers in places.items()
    ]
    return ["| layers, from 0 | attention |", "| --- | --- |", *rows, ""]


def _loading(model: Model, family: Family) -> list[str]:
    """Snippets: here, and in the libraries that can read it."""
    lines = [*_snippet("import gossamer as gs", "", f'model = gs.load("{PLACE}")')]
    if not family.public:
        return [*lines, "", "Its format is Gossamer's own: other libraries cannot read it."]
    name = family.architecture_name(model.architecture)
    lines += ["", *_snippet(f"from transformers import {name}", "", f'model = {name}.from_pretrained("{PLACE}")')]
    if isinstance(model.architecture.head, SentenceEmbedding):
        maker = "SentenceTransformer"
        lines += ["", *_snippet(f"from sentence_transformers import {maker}", "", f'model = {maker}("{PLACE}")')]
    return lines


def _snippet(*lines: str) -> list[str]:
    return ["```python", *lines, "```"]


def _yaml(name: str, value: str | list[str]) -> list[str]:
    quoted = [json.dumps(item, ensure_ascii=False) for item in ([value] if isinstance(value, str) else value)]
    return [f"{name}: {quoted[0]}"] if isinstance(value, str) else [f"{name}:", *(f"- {item}" for item in quoted)]


def _front_matter(model: Model) -> dict[str, Any]:
    """License, language, base and task: those of the source's card, but a base and a task that fit this model."""
    fields: dict[str, Any] = dict(model.card)
    source = model.source if model.source and "/" in model.source and _ON_THE_HUB.fullmatch(model.source) else None
    base = source or fields.get("base_model") or _base(model)
    head = model.architecture.head
    tags = _TAGS.get(head.kind, ()) if head is not None else (str(fields.get("pipeline_tag", "feature-extraction")),)
    tag = fields["pipeline_tag"] if fields.get("pipeline_tag") in tags else next(iter(tags), None)
    fields |= {"base_model": base, "pipeline_tag": tag}
    return {name: fields[name] for name in _CARRIED if fields.get(name)}


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
    is_first = head is not None and head.first_is_global
    if not family.public or model.architecture.global_tokens != "first" or is_first:
        return None
    said = 'The first token of every text is global (`global_tokens` in config.json: "first" or "none").'
    if head is not None and head.global_words is not None:
        return f"{said} So is {head.global_words}{head.global_hint}"
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
