"""gossamer download: a model from the hub, in a folder of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from gossamer.cli.options import AsJson
from gossamer.cli.output import check_directory, note, print_json, progress

__all__ = ["download"]


def download(
    name: Annotated[str, Argument(metavar="ID", help="An id on the hub, such as owner/name.")],
    revision: Annotated[str | None, Option(metavar="NAME", help="A branch, a tag or a commit; main.")] = None,
    out: Annotated[Path | None, Option(metavar="DIR", help="The new folder; ./name of an id owner/name.")] = None,
    allow: Annotated[
        list[str] | None, Option(metavar="NAME", help="A further file, by its whole name; several times for several.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Bring a model from the hub into a folder, whole and checked.

    Safetensors, configuration, vocabulary and texts come; other files only where --allow names them. Each is compared
    with the digest that the hub lists. Broken off, the same command goes on from where it stopped. The token is that of
    the hub's client: HF_TOKEN, or what hf auth login has kept.
    """
    folder = Path(name.rstrip("/").rsplit("/", 1)[-1]) if out is None else out
    check_directory(folder)
    from gossamer.checkpoints.download import download as fetch

    with progress("downloading", "bytes") as report:
        done = fetch(name, folder, revision=revision, allow=allow or (), report=report)
    for one in done.left_out:
        if not one.startswith("."):
            note(f"{one}: left out; --allow {one} brings it")
    if as_json:
        facts = {"commit": done.commit, "files": list(done.files), "left_out": list(done.left_out), "bytes": done.size}
        print_json({"directory": str(done.directory), **facts})
    else:
        note(f"{done.directory}: {len(done.files)} files, {done.size / 1e6:,.1f} MB, of commit {done.commit[:12]}")
