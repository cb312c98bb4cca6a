"""gossamer tokenizer: train a new one from texts, or show how one cuts a text."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text as Styled
from typer import Argument, Option

from gossamer.cli.help_page import Verbs
from gossamer.cli.options import AsJson, FieldName, Files, Format, TextFiles, grouped
from gossamer.cli.output import check_directory, note, print_json, printable, show, working
from gossamer.cli.texts import TakesFiles, read_texts
from gossamer.errors import InputError, plural

if TYPE_CHECKING:
    from gossamer.text import Tokenizer

__all__ = ["several", "show_tokens", "train"]

WRITTEN = ("tokenizer.json", "tokenizer_config.json")
MEASURED = 1_000_000
SHOWN = 200


class Kind(StrEnum):
    """How a vocabulary is learnt."""

    wordpiece = "wordpiece"
    bpe = "bpe"
    unigram = "unigram"


def several() -> Any:
    """The verb: a command of two commands."""
    app = typer.Typer(
        name="tokenizer",
        cls=Verbs,
        add_completion=False,
        help="Train a tokenizer, or see how one cuts a text.",
        epilog="Both take --json: one JSON document on stdout, all else on stderr.",
    )

    app.callback(no_args_is_help=True)(lambda: None)

    app.command("train", cls=TakesFiles, no_args_is_help=True, short_help="Train a new one from texts.")(train)
    app.command("show", cls=TakesFiles, no_args_is_help=True, short_help="Show the tokens of a text.")(show_tokens)
    return typer.main.get_command(app)


def train(
    file: Files,
    out: Annotated[Path, Option(metavar="DIR", help="Where to save the tokenizer.")],
    kind: Annotated[Kind | None, Option(metavar="KIND", help="wordpiece, bpe or unigram; the family's own.")] = None,
    family: Annotated[
        str | None, Option(metavar="NAME", help="The family that shall read it, such as bert; the kind's usual one.")
    ] = None,
    size: Annotated[int, Option(metavar="N", help="Tokens in the vocabulary, at most.")] = 30_000,
    lower_case: Annotated[
        bool | None, Option("--lower-case/--keep-case", help="Whether A is a; the family's habit unless given.")
    ] = None,
    max_length: Annotated[int | None, Option(metavar="N", help="Tokens that the model to come will read.")] = None,
    field: FieldName = "text",
    format: Format = None,
    as_json: AsJson = False,
) -> None:
    """Train a new tokenizer from texts; the same texts give the same one.

    Its special tokens are those of the family: bert, distilbert, electra (wordpiece), roberta, longformer, gpt2 (bpe),
    albert, deberta-v2, xlm-roberta, camembert (unigram). transformers reads what is saved, with the same ids.
    """
    if kind is None and family is None:
        raise InputError("give --kind (wordpiece, bpe or unigram) or --family, such as bert")
    _check_out(out)
    texts = [text.text for text in read_texts([], file, field, format=format)]
    with working(f"training on {sum(map(len, texts)):,} characters"):
        from gossamer.text import train_tokenizer

        new = train_tokenizer(
            texts,
            kind=None if kind is None else kind.value,
            family=family,
            vocabulary_size=size,
            lower_case=lower_case,
            max_length=max_length,
        )
    _save(new, out)
    if new.vocabulary_size < size:
        note(f"the texts gave {new.vocabulary_size:,} tokens, not {size:,}; more text gives more")
    receipt = {
        "out": str(out),
        "class": json.loads((out / "tokenizer_config.json").read_text(encoding="utf-8"))["tokenizer_class"],
        "vocabulary_size": new.vocabulary_size,
        "texts": len(texts),
        "characters": sum(map(len, texts)),
        "characters_per_token": _characters_per_token(new, texts),
    }
    if as_json:
        print_json(receipt)
    else:
        show(_receipt(receipt))


@grouped
def show_tokens(
    model: Annotated[str, Argument(metavar="MODEL", help="A model's or tokenizer's directory, or an id on the hub.")],
    texts: Annotated[list[str] | None, Argument(metavar="[TEXT ...]", help="Texts to cut, or names of files.")] = None,
    *,
    files: TextFiles,
    control_tokens: Annotated[
        bool,
        Option(
            "--control-tokens/--no-control-tokens",
            help="The name of a special token in a text ([SEP]) is that token, or letters.",
        ),
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Show the tokens of a text, special ones included: their ids and the characters that they stand for."""
    read = [text.text for text in files.read(texts or [], may_be_empty=True)]
    with working("reading the tokenizer"):
        from gossamer.checkpoints.hub import find_checkpoint
        from gossamer.text import Tokenizer

        tokenizer = Tokenizer.load(find_checkpoint(model))
    cut = [_cut(tokenizer, text, control_tokens) for text in read]
    if as_json:
        print_json({"texts": [{"text": text, "tokens": rows} for text, rows in zip(read, cut, strict=True)]})
    else:
        show(Group(*(_table(text, rows) for text, rows in zip(read, cut, strict=True))))


def _check_out(out: Path) -> None:
    """A new directory, an empty one, or one that holds a tokenizer alone: nothing else is ever replaced."""
    check_directory(out)
    others = [path.name for path in out.iterdir() if path.name not in WRITTEN] if out.is_dir() else []
    if others:
        raise InputError(f"--out is {str(out)!r}, which holds {others[0]!r} as well; name a new or empty directory")


def _save(tokenizer: Tokenizer, out: Path) -> None:
    from gossamer.checkpoints.replace import replacing

    with replacing(out) as new:
        tokenizer.save(new)


def _characters_per_token(tokenizer: Tokenizer, texts: list[str]) -> float | None:
    """How far the vocabulary shortens the texts it was trained on, the first million characters of them."""
    characters = tokens = 0
    for text in texts:
        if characters >= MEASURED:
            break
        characters += len(text)
        tokens += len(tokenizer.encode_plain(text)[0])
    return characters / tokens if tokens else None


def _receipt(receipt: dict[str, Any]) -> Group:
    what = (
        f"{plural(receipt['vocabulary_size'], 'token')} from {plural(receipt['texts'], 'text')}, "
        f"{plural(receipt['characters'], 'character')}"
    )
    rate = receipt["characters_per_token"]
    density = [] if rate is None else [Styled(f"a token is {rate:.2f} characters of them on average")]
    saved = Styled.assemble("saved in ", (receipt["out"], "bold"), no_wrap=True, overflow="ignore")
    return Group(Styled(what, "bold"), *density, saved)


def _cut(tokenizer: Tokenizer, text: str, control_tokens: bool) -> list[dict[str, Any]]:
    batch = tokenizer(text, truncation=False, return_offsets=True, control_tokens=control_tokens)
    columns = (batch[name][0].tolist() for name in ("input_ids", "offsets", "special_tokens_mask"))
    return [
        {"token": tokenizer.token(number), "id": number, "span": None if special else span}
        for number, span, special in zip(*columns, strict=True)
    ]


def _table(text: str, rows: list[dict[str, Any]]) -> Group:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    for name in ("token", "id", "span", "text"):
        table.add_column(name, justify="right" if name == "id" else "left", no_wrap=True)
    for row in rows[:SHOWN]:
        span = row["span"]
        where = ("", "") if span is None else (f"{span[0]}:{span[1]}", repr(text[span[0] : span[1]]))
        table.add_row(Styled(printable(row["token"])), str(row["id"]), where[0], Styled(where[1]))
    more = [Styled(f"and {len(rows) - SHOWN:,} more; --json has them all", "dim")] if len(rows) > SHOWN else []
    count = f"{plural(len(rows), 'token')}, {plural(len(text), 'character')}"
    return Group(Styled(count, "bold"), table, *more, "")
