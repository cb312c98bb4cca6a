"""gossamer upload: a model to the hub, in one commit."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from gossamer.cli.options import AsJson
from gossamer.cli.output import note, print_json, working

__all__ = ["upload"]


def upload(
    directory: Annotated[Path, Argument(metavar="DIR", help="A model directory.")],
    name: Annotated[str, Argument(metavar="ID", help="Where to, such as owner/name; created where it is not there.")],
    private: Annotated[bool, Option("--private", help="Only for you: a new one is, an open one is refused.")] = False,
    revision: Annotated[
        str | None, Option(metavar="BRANCH", help="The branch, created where it is not there; main.")
    ] = None,
    message: Annotated[str | None, Option(metavar="TEXT", help="What the commit says.")] = None,
    create_pr: Annotated[bool, Option("--create-pr", help="Open a pull request in place of a commit.")] = False,
    allow: Annotated[
        list[str] | None, Option(metavar="NAME", help="A further file, by its whole name; several times for several.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send a model to the hub, in one commit.

    Safetensors, configuration, vocabulary and texts go up; other files only where --allow names them. Where anything
    fails no commit is made. A model card is written where there is none; one that a person wrote is kept. The token is
    that of the hub's client: HF_TOKEN, or what hf auth login has kept.
    """
    with working(f"sending {directory}"):
        from gossamer.checkpoints.upload import upload as send

        done = send(
            directory, name, revision=revision, private=private, message=message, create_pr=create_pr, allow=allow or ()
        )
    for one in done.left_out:
        note(f"{one}: left out; --allow {one} sends it")
    for one in done.removed:
        note(f"{one}: was part of the model before, and is not part of this one: removed by the commit")
    if done.keeps_card:
        note(f"README.md: the one in {name} is kept, since Gossamer did not write it")
    if as_json:
        print_json(asdict(done))
    else:
        note(f"{done.url}: {len(done.files)} files, commit {done.commit[:12]}")
