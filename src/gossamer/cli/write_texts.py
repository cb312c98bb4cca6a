"""What the verbs that write a text about each text share: rewrite, summarize, translate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from gossamer.cli.options import Loading, Long, OptionGroup, Source, check_count
from gossamer.cli.output import working
from gossamer.cli.task_runs import Page, TaskRun, check_out
from gossamer.cli.writing import Writing

__all__ = ["WritingTexts"]

PAGE = Page(line=lambda written: written.texts[0])


@dataclass(frozen=True, kw_only=True)
class WritingTexts(OptionGroup):
    """How texts are read and written."""

    prefix: Annotated[
        str | None, Option(metavar="TEXT", help='Put before each text, such as "summarize: "; as the files say.')
    ] = None
    writing: Writing
    long: Annotated[
        Long, Option(metavar="HOW", help="Longer texts than the model reads: chunk, truncate or error.")
    ] = Long.chunk
    max_length: Annotated[
        int | None, Option(metavar="N", help="Tokens read at once; as many as the model's own files say.")
    ] = None
    batch_size: Annotated[int, Option(metavar="N", help="Texts, or parts of them, at once.")] = 16
    loading: Loading

    def run(self, name: str, source: Source, options: Mapping[str, Any], out: Path | None, as_json: bool) -> None:
        """The task of this name on all texts."""
        check_count("--batch-size", self.batch_size)
        check_out(out, source.inputs())
        with working("reading the model"):
            asked = self._arguments()
        texts = source.stream()
        loaded = self.loading.load(source.model)
        from gossamer.tasks import task

        writer: Any = task(name, loaded)
        TaskRun(task=writer, page=PAGE, out=out, as_json=as_json).run(texts, {**asked, **options})

    def _arguments(self) -> dict[str, Any]:
        prefix = {} if self.prefix is None else {"prefix": self.prefix}
        return self.writing.arguments() | prefix | {
            "long": self.long.value, "max_length": self.max_length, "batch_size": self.batch_size,
        }  # fmt: skip
