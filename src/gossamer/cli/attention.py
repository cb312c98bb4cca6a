"""gossamer attention: what the tokens of a text attend to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text as Styled
from typer import Option

from gossamer.cli.options import AsJson, Placement, Source, check_count, grouped
from gossamer.cli.output import print_json, printable, show, working
from gossamer.cli.task_pages import named
from gossamer.cli.texts import TakesFiles, Text
from gossamer.errors import InputError, plural

__all__ = ["COMMAND", "attention"]

COMMAND = TakesFiles
SHOWN = 20


@grouped
def attention(
    source: Source,
    *,
    layer: Annotated[int, Option(metavar="N", help="The layer, from 0; -1 is the last.")] = -1,
    head: Annotated[int | None, Option(metavar="N", help="One head, from 0; the mean of all unless given.")] = None,
    token: Annotated[
        list[str] | None,
        Option(
            metavar="TOKEN",
            help="Tell this token (as the vocabulary writes it), or else place; may be given several times.",
        ),
    ] = None,
    top: Annotated[int, Option(metavar="N", help="Tokens that each one attends to most.")] = 5,
    placement: Placement,
    as_json: AsJson = False,
) -> None:
    """What the tokens of one text attend to: the exact weights of a layer, of one head or averaged over all."""
    check_count("--top", top)
    texts = source.read()
    if len(texts) > 1:
        raise InputError(f"there are {len(texts)} texts; give one at a time")
    loaded = placement.load(source.model)
    from gossamer.models.model_argument import check_one_text

    check_one_text(loaded, "attention")
    with working("reading the text"):
        try:
            attended, more = _read(loaded, texts[0], layer, head, token or [], top, None if as_json else SHOWN)
        except InputError as problem:
            raise InputError(named([str(problem)], texts)[0]) from problem
    if as_json:
        print_json(attended)
    else:
        show(_page(texts[0], attended, more))


def _read(
    model: Any, text: Text, layer: int, head: int | None, wanted: Sequence[str], top: int, most: int | None
) -> tuple[dict[str, Any], int]:
    """What is told of at most so many tokens, and how many more there are."""
    import torch

    from gossamer.inspection import capture
    from gossamer.kernels import TopKeys
    from gossamer.models.evaluation import evaluating

    if model.tokenizer is None:
        raise InputError("the model has no tokenizer: put tokenizer.json into its directory to read texts")
    device = next(model.parameters()).device
    batch = {name: tensor.to(device) for name, tensor in model.tokenizer(text.text, truncation=False).items()}
    tokens = model.tokenizer.tokens(batch["input_ids"][0].tolist())
    rows, top = _rows(tokens, wanted), min(top, len(tokens))
    rows, more = rows[:most], 0 if most is None else len(rows[most:])
    with torch.no_grad(), evaluating(model), capture(model, [layer]) as seen:
        _check_head(model, layer, head)
        model(**batch)
    if head is None:
        attended = seen.mean_top_keys(layer, top, rows)
    else:
        every = seen.top_keys(layer, top, rows)
        attended = TopKeys(weights=every.weights[:, [head]], keys=every.keys[:, [head]])
    (told,) = seen.in_words(attended, batch["input_ids"], rows)
    attends = [{"row": row["row"], "token": row["token"], "attends_to": row["heads"][0]} for row in told]
    backends = list(seen.backends[seen.layers[0]])
    where = {"source": text.source, "layer": seen.layers[0], "head": head, "backends": backends}
    return {**where, "tokens": tokens, "rows": attends}, more


def _check_head(model: Any, layer: int, head: int | None) -> None:
    heads = model.architecture.layers[layer].attention.heads
    if head is not None and heads and not 0 <= head < heads:
        raise InputError(f"--head is {head}; the layer has {heads}, numbered from 0 to {heads - 1}")


def _rows(tokens: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Places of the tokens that were asked for, in the text's order; all where none were."""
    places: set[int] = set()
    for asked in wanted:
        same = [i for i, token in enumerate(tokens) if token == asked]
        if not same and asked.isascii() and asked.isdecimal() and int(asked) < len(tokens):
            same = [int(asked)]
        if not same:
            shown = " ".join(tokens[:SHOWN]) + (" ..." if len(tokens) > SHOWN else "")
            raise InputError(
                f"--token is {asked!r}, no token of this text nor a place from 0 to {len(tokens) - 1}: {shown}"
            )
        places.update(same)
    return sorted(places) if wanted else list(range(len(tokens)))


def _page(text: Text, attended: dict[str, Any], more: int) -> Group:
    shown = text.text if text.source.startswith("argument") else text.source
    which = "the mean of all heads" if attended["head"] is None else f"head {attended['head']}"
    told = f"{plural(len(attended['tokens']), 'token')}, layer {attended['layer']}, {which}"
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    table.add_column("place", justify="right")
    table.add_column("token", no_wrap=True)
    table.add_column("attends to (place) with weight")
    for row in attended["rows"]:
        joined = ", ".join(f"{key['token']} ({key['key']}) {key['weight']:.2f}" for key in row["attends_to"])
        table.add_row(str(row["row"]), Styled(printable(row["token"])), Styled(printable(joined)))
    rest = (
        [Styled(f"and {plural(more, 'more token')}: name some with --token, or see them with --json", "dim")]
        if more > 0
        else []
    )
    return Group(
        Styled(printable(shown[:200]), "bold", no_wrap=True, overflow="ellipsis"),
        Styled(told, "dim"),
        table,
        *rest,
    )
