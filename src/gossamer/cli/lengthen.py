"""gossamer lengthen: a pretrained encoder that reads longer texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import BadParameter, Option

from gossamer.cli.options import AsJson, ModelName
from gossamer.cli.output import working
from gossamer.cli.results import check_out, save_result
from gossamer.errors import InputError, quote

__all__ = ["lengthen"]


def lengthen(
    model: ModelName,
    out: Annotated[Path, Option(metavar="DIR", help="Where to save the longer model.")],
    to: Annotated[int, Option(metavar="N", help="Tokens that it shall read at once.")] = 4096,
    window: Annotated[
        str | None,
        Option(
            metavar="N[,N,...]",
            help="Tokens that each one sees, half to either side, 512 unless given; or one for each layer.",
        ),
    ] = None,
    global_tokens: Annotated[
        str | None,
        Option(
            metavar="WHICH",
            help="first, unless given: each text's first token sees all and is seen; none: only a head's own.",
        ),
    ] = None,
    pattern: Annotated[
        str, Option(metavar="WHICH", help="window; hashed: tokens that point the same way see each other, near or far.")
    ] = "window",
    force: Annotated[bool, Option("--force", help="Take a window that holds copied positions twice.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a pretrained encoder read longer texts.

    Full attention becomes a window with global tokens, positions are repeated, no weight is trained. Texts of at most
    half the window and one token more give the outputs they gave before; the receipt says how closely. Any head is
    kept, with its labels. What a longformer can hold (BERT, RoBERTa, most DistilBERTs) is saved as one, which
    transformers reads too.
    """
    windows = None if window is None else _windows(window)
    if to < 1:
        raise InputError(f"--to is {to}; it must be a whole number of tokens, such as 4096")
    check_out(model, out, "lengthened")
    with working("reading the model"):
        from gossamer.checkpoints import load
        from gossamer.recipes import lengthen as make_longer
        from gossamer.recipes.lengthen import check_windows

        if windows is not None:
            check_windows(windows)
        old = load(model)
    with working("making it longer"):
        new, receipt = make_longer(
            old, to=to, window=windows, force=force,
            global_tokens=global_tokens, pattern=pattern,  # type: ignore[arg-type]
        )  # fmt: skip
    save_result(new, receipt, out, as_json=as_json)


def _windows(window: str) -> int | list[int]:
    try:
        numbers = [int(number) for number in window.split(",")]
    except ValueError:
        raise BadParameter(
            f"{quote(window)} is not a number such as 512, or one for each layer", param_hint="'--window'"
        ) from None
    return numbers[0] if len(numbers) == 1 else numbers
