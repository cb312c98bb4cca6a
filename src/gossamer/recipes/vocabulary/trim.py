"""Cut a model's vocabulary to what texts use: fewer tokens, the rows of those that stay as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from gossamer.checkpoints.load import load
from gossamer.errors import InputError, plural
from gossamer.models.model import Model
from gossamer.models.model_argument import check_model, check_one_text
from gossamer.recipes.receipts.receipt import Receipt, conditions, describe
from gossamer.recipes.vocabulary.corpora import Texts, TextsReader, count_tokens
from gossamer.recipes.vocabulary.measured import compare_models, compare_texts
from gossamer.recipes.vocabulary.named_ids import named_ids
from gossamer.recipes.vocabulary.selection import Certain, Characters, Choice
from gossamer.recipes.vocabulary.tables import with_rows
from gossamer.text import Document
from gossamer.text.trimming import TrimmableTokenizer, Trimmed

__all__ = ["trim"]


def trim(
    model: Model | str | Path,
    texts: Texts,
    *,
    evaluate: Texts | None = None,
    at_least: int = 1,
    size: int | None = None,
    keep: Sequence[str | int] = (),
    characters: Characters = "all",
    multiple_of: int = 1,
    field: str = "text",
    format: str | None = None,
    told: Callable[[int], None] = lambda count: None,
    remark: Callable[[str], None] | None = None,
) -> tuple[Model, Receipt]:
    """A copy of a model with the tokens that texts use alone, and its tokenizer with them.

    A text of kept tokens gets the same tokens by new ids, their very rows of every table (words, scores, biases), and
    the same outputs; the receipt shows that on passages of the texts themselves. What other texts are cut into is
    counted on `evaluate`. Special and added tokens stay, those that the model's settings name, a sentence encoder's
    prompts, and what every text that could be spelled is spelled with: single characters, or bytes where there are
    such. With a token of byte-pair encoding the merges that lead to it stay. Ids in config.json and
    generation_config.json become the new ones.

    Texts are read once, a piece at a time. No weight is trained, and the given model is left as it was.

    Args:
        model: one with a tokenizer, or what `gossamer.load` takes.
        texts: a file of any format that is read, several (`pathlib.Path`), "speeches", or a sequence of texts.
        evaluate: texts like those, held aside: what they become is told.
        at_least: how often the texts have a token that stays.
        size: the most frequent tokens stay, so many with all that stay anyway.
        keep: further tokens that stay, as the vocabulary writes them, or ids.
        characters: "all" single characters stay, or those "seen" in the tokens that stay: others become unknown.
        multiple_of: the number of rows, which the next most frequent tokens fill up.
        field, format, told, remark: of files, as `gossamer.text.read_documents` takes them.

    Raises:
        InputError: texts without tokens, no tokenizer or one that cannot be trimmed (bytes, other kinds than WordPiece,
            BPE and Unigram), tokens that are not there, a size that is too small.
    """
    choice = Choice(at_least=at_least, size=size, keep=keep, characters=characters, multiple_of=multiple_of)
    reader = TextsReader(field=field, format=format, told=told, remark=remark)
    documents = reader.documents("texts", texts)
    held_out = None if evaluate is None else reader.documents("evaluate", evaluate)
    old = load(model) if isinstance(model, str | Path) else check_model(model)
    check_one_text(old, "trim")
    return _trim(old, choice, documents, held_out)


def _trim(
    old: Model, choice: Choice, documents: Iterable[Document], held_out: Iterable[Document] | None
) -> tuple[Model, Receipt]:
    tokenizer, named = _open(old), named_ids(old) | _prompt_ids(old)
    known = set(tokenizer.ids.values())
    certain = choice.certain(tokenizer, named & known)
    (counted,) = count_tokens("texts", documents, old.tokenizer)
    nameless = sorted(named - known)
    ids = choice.choose(tokenizer, certain, counted.counts, len(nameless))
    trimmed = tokenizer.trimmed(ids)
    old_ids = [*trimmed.old_ids, *nameless]  # rows without a token that the settings name stay behind all others
    new = with_rows(old, trimmed.tokenizer, old_ids)
    measured = compare_models(old, new, old_ids, counted)
    if held_out is not None:
        measured |= compare_texts(held_out, old.tokenizer, new.tokenizer)
    new.receipt = Receipt(
        recipe="trim", source=old.source, settings=_settings(choice), before=_described(old), after=_described(new),
        changes=_changes(tokenizer, certain, trimmed), measured=measured,
        conditions=conditions(new) | {"texts": counted.describe()},
    )  # fmt: skip
    return new, new.receipt


def _open(model: Model) -> TrimmableTokenizer:
    """What of the model's tokenizer may go. Raises InputError where there is none, or none that fits the tables."""
    if model.tokenizer is None:
        raise InputError(
            "the model has no tokenizer, and without one nobody knows which rows texts use; load it with one"
        )
    tokenizer, rows = TrimmableTokenizer(model.tokenizer), model.architecture.embeddings.vocabulary_size
    last = max(tokenizer.ids.values())
    if last >= rows:
        raise InputError(
            f"the tokenizer has ids up to {last:,}, the model's word table {rows:,} rows; give the tokenizer that "
            "belongs to these weights"
        )
    return tokenizer


def _prompt_ids(model: Model) -> set[int]:
    """The tokens of what a sentence encoder puts before its texts, as it ends there and as a text follows."""
    prompts = [prompt for _, prompt in getattr(model.architecture.head, "prompts", ())]
    return {
        number for one in prompts for text in (one, one.strip()) for number in model.tokenizer.encode_plain(text)[0]
    }


def _settings(choice: Choice) -> dict[str, Any]:
    """What was asked for, as the receipt tells it: what nobody asks for is left out."""
    usual = Choice()
    given = {name: getattr(choice, name) for name in ("at_least", "size", "keep", "characters", "multiple_of")}
    settings = {name: value for name, value in given.items() if value != getattr(usual, name)}
    return settings | ({"keep": list(choice.keep)} if "keep" in settings else {})


def _described(model: Model) -> dict[str, Any]:
    return describe(model) | {"vocabulary": model.architecture.embeddings.vocabulary_size}


def _changes(tokenizer: TrimmableTokenizer, certain: Certain, trimmed: Trimmed) -> tuple[str, ...]:
    kept = set(trimmed.old_ids)
    characters = tokenizer.characters & kept
    sure = f"{plural(len(certain.pinned), 'token')} that every text may need"
    sure += f", {plural(len(characters), 'single character')}" if characters else ""
    sure += f", {len(certain.by_name)} by name" if certain.by_name else ""
    changes = [
        f"vocabulary ({tokenizer.kind}): {len(tokenizer.ids):,} tokens became {len(kept):,}, in their old order; among "
        f"them {sure}"
    ]
    if tokenizer.merges is not None:
        left = TrimmableTokenizer(trimmed.tokenizer).merges
        changes.append(f"merges: {tokenizer.merges:,} became {left:,}, in their old order")
    changes.append("ids of tokens in config.json and generation_config.json: the new ones")
    return tuple(changes)
