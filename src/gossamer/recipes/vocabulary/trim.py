"""Cut a model's vocabulary to what texts use: fewer tokens, the rows of those that stay as they were."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gossamer.checkpoints.load import load
from gossamer.errors import InputError, plural
from gossamer.models.model import Model
from gossamer.models.model_argument import check_model
from gossamer.recipes.receipts.receipt import Receipt, conditions, describe
from gossamer.recipes.vocabulary.corpora import CountedTexts, Texts, TextsReader, count_tokens
from gossamer.recipes.vocabulary.measured import compare_models, compare_texts
from gossamer.recipes.vocabulary.named_ids import named_ids
from gossamer.recipes.vocabulary.selection import Characters, Choice, Chosen
from gossamer.recipes.vocabulary.tables import with_rows
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

    The texts are read once, a piece at a time. No weight is trained, and the given model is left as it was.

    Args:
        model: one with a tokenizer, or what `gossamer.load` takes.
        texts: a file of any format that is read, several (`pathlib.Path`), "speeches", or a sequence of strings, each
            a text.
        evaluate: texts like those, held aside: what they become is told.
        at_least: how often the texts have a token that stays.
        size: the most frequent tokens stay, so many with all that stay anyway.
        keep: further tokens that stay, as the vocabulary writes them, or ids.
        characters: "all" single characters stay, or those that are "seen" in the tokens that stay: then texts of other
            ones have more unknown tokens.
        multiple_of: the number of rows, which the next most frequent tokens fill up.
        field, format: of files, as `gossamer.text.read_documents` takes them.
        told: is called with the number of bytes of files whenever some were read.
        remark: is told what should be known of a file, such as that it is a pipe.

    Raises:
        InputError: texts without tokens, a model without a tokenizer or with one that cannot be trimmed (bytes, other
            kinds than WordPiece, BPE and Unigram), tokens that are not there, a size that is too small.
    """
    choice = Choice(at_least=at_least, size=size, keep=keep, characters=characters, multiple_of=multiple_of)
    reader = TextsReader(field=field, format=format, told=told, remark=remark)
    documents = reader.documents("texts", texts)
    held_out = None if evaluate is None else reader.documents("evaluate", evaluate)
    old = load(model) if isinstance(model, str | Path) else check_model(model)
    tokenizer = _open(old)
    (counted,) = count_tokens("texts", documents, old.tokenizer)
    chosen, trimmed = _trimmed(old, tokenizer, choice, counted)
    new = with_rows(old, trimmed.tokenizer, trimmed.old_ids)
    measured = compare_models(old, new, trimmed.old_ids, counted)
    if held_out is not None:
        both = count_tokens("evaluate", held_out, old.tokenizer, new.tokenizer)
        measured |= compare_texts(both[0], both[1], old.tokenizer, new.tokenizer)
    new.receipt = Receipt(
        recipe="trim",
        source=old.source,
        settings=_settings(choice),
        before=_described(old),
        after=_described(new),
        changes=_changes(tokenizer, chosen, trimmed),
        measured=measured,
        conditions=conditions(new) | {"texts": counted.describe()},
    )
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


def _trimmed(
    model: Model, tokenizer: TrimmableTokenizer, choice: Choice, counted: CountedTexts
) -> tuple[Chosen, Trimmed]:
    """What stays; behind the tokens such rows as have none, but are named by the model's settings."""
    named, known = named_ids(model) | _prompt_ids(model), set(tokenizer.ids.values())
    nameless = sorted(named - known)
    chosen = choice.choose(tokenizer, counted.counts, named & known, len(nameless))
    trimmed = tokenizer.trimmed(chosen.ids)
    return chosen, Trimmed(tokenizer=trimmed.tokenizer, old_ids=[*trimmed.old_ids, *nameless])


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


def _changes(tokenizer: TrimmableTokenizer, chosen: Chosen, trimmed: Trimmed) -> tuple[str, ...]:
    before, after = len(tokenizer.ids), len(chosen.ids)
    sure = f"{plural(len(chosen.pinned), 'token')} that every text may need"
    sure += f", {plural(len(chosen.characters), 'single character')}" if chosen.characters else ""
    sure += f", {len(chosen.by_name)} by name" if chosen.by_name else ""
    changes = [
        f"vocabulary ({tokenizer.kind}): {before:,} tokens became {after:,}, in their old order; among them {sure}"
    ]
    if tokenizer.merges is not None:
        left = TrimmableTokenizer(trimmed.tokenizer).merges
        changes.append(f"merges: {tokenizer.merges:,} became {left:,}, in their old order")
    changes.append("ids of tokens in config.json and generation_config.json: the new ones")
    return tuple(changes)
