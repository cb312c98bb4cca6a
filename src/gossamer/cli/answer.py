"""gossamer answer: a question, answered from texts."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

from gossamer.cli.output import working
from gossamer.cli.task_pages import (
    AsJson,
    BatchSize,
    Device,
    Dtype,
    Field,
    Files,
    HowLong,
    Long,
    MaxLength,
    ModelName,
    Texts,
    batch_tokens,
    check_top_k,
    reading,
    report,
    score,
)
from gossamer.cli.texts import AsText, Format, TakesFiles, read_texts, refuse_file_name
from gossamer.errors import InputError

__all__ = ["COMMAND", "answer"]

COMMAND = TakesFiles


def answer(
    model: ModelName,
    question: Annotated[str, Argument(metavar="QUESTION", help="What is asked of every text.")],
    texts: Texts = None,
    file: Files = None,
    field: Field = "text",
    format: Format = None,
    as_text: AsText = False,
    top_k: Annotated[int, Option(metavar="N", help="Answers from each text.")] = 1,
    max_answer_tokens: Annotated[int, Option(metavar="N", help="The longest answer, in tokens.")] = 15,
    impossible: Annotated[bool, Option("--impossible", help='"No answer" is an answer too.')] = False,
    long: HowLong = Long.chunk,
    max_length: MaxLength = None,
    dtype: Dtype = None,
    device: Device = None,
    batch_size: BatchSize = None,
    as_json: AsJson = False,
) -> None:
    """Answer a question from each of the texts, of any length: where the answer stands, and how probable it is."""
    check_top_k(top_k)
    if max_answer_tokens < 1:
        raise InputError(f"--max-answer-tokens is {max_answer_tokens}; it must be a whole number of tokens, 1 or more")
    if not question.strip():
        raise InputError(f"QUESTION is {question!r}; ask something")
    refuse_file_name("QUESTION", question, as_text)
    read = list(read_texts(texts or [], file or [], field, format=format, as_text=as_text))
    with working("reading the model"):
        from gossamer.checkpoints import load
        from gossamer.tasks import task

        reply = task("answer", load(model, dtype=dtype, device=device))
    at_once = batch_tokens(batch_size, reply.model, max_length)
    with reading(read) as told:
        found = reply(
            question,
            [one.text for one in read],
            top_k=top_k,
            max_answer_tokens=max_answer_tokens,
            impossible=impossible,
            long=long.value,
            batch_tokens=at_once,
            max_length=max_length,
            progress=told,
        )
    rows = [
        [[one.text or "(no answer)", score(one.score), f"{one.start}–{one.end}"] for one in answers]
        for answers in found.answers
    ]
    report(read, found, ("answer", "score", "characters"), rows, as_json)
