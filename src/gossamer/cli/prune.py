"""gossamer prune: a model of which what matters least is 0."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from rich.text import Text
from typer import BadParameter, Option

from gossamer.cli.options import AsJson, ModelName
from gossamer.cli.output import check_directory, print_json, show, working
from gossamer.errors import InputError, quote

__all__ = ["prune"]


class Scope(StrEnum):
    """Among what units are ranked."""

    layer = "layer"
    whole = "global"


def prune(
    model: ModelName,
    out: Annotated[Path, Option(metavar="DIR", help="Where to save the pruned model.")],
    *,
    score: Annotated[str, Option(metavar="NAME", help="What tells what matters: magnitude or random.")] = "magnitude",
    structure: Annotated[
        str, Option(metavar="NAME[,NAME]", help="What is removed whole: weight, block, heads, neurons, hybrid.")
    ] = "weight",
    keep: Annotated[float, Option(metavar="SHARE", help="What stays, of everything of the structure.")] = 0.1,
    scope: Annotated[Scope, Option(metavar="WHICH", help="layer: so much of each map; global: of all.")] = Scope.layer,
    block: Annotated[str, Option(metavar="ROWS,COLUMNS", help="The size of a block.")] = "32,32",
    seed: Annotated[int, Option(metavar="N", help="Of what is drawn.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Set to 0 what matters least of a model's layers, by a score of single weights or of whole structures.

    Embeddings and head stay whole. The pruned model has its format and its sizes: what is 0 takes as much time and as
    many bytes as before, until it is removed.
    """
    sizes = _sizes(block)
    _check_other(model, out)
    check_directory(out)
    with working("reading the model"):
        from gossamer.checkpoints import load, save
        from gossamer.recipes import prune as make_sparse

        old = load(model)
    with working("pruning it"):
        new, receipt = make_sparse(
            old, score=score, structure=structure.split(","), keep=keep, scope=scope.value, block=sizes, seed=seed
        )
    with working(f"saving it in {out}"):
        save(new, out)
    if as_json:
        print_json({"out": str(out), "family": new.family, "receipt": receipt.to_dict()})
    else:
        show(Text.assemble(f"{receipt}\nsaved in ", (str(out), "bold"), no_wrap=True, overflow="ignore"))


def _sizes(block: str) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in block.split(","))
    except ValueError:
        raise BadParameter(f"{quote(block)} is not rows and columns such as 32,32", param_hint="'--block'") from None


def _check_other(model: str, out: Path) -> None:
    if out.is_dir() and Path(model).is_dir() and out.samefile(model):
        raise InputError(f"{out}: is the model to be pruned; name another directory, so that both are there")
