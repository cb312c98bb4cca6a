"""gossamer answer: a question, answered from texts."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

from gossamer.cli.options import AsJson, BatchedReading, ModelName, TextFiles, Texts, check_count, grouped
from gossamer.cli.task_pages import report, score, telling
from gossamer.cli.texts import TakesFiles, refuse_file_name
from gossamer.errors import InputError

__all__ = ["COMMAND", "answer"]

COMMAND = TakesFiles


@grouped
def answer(
    model: ModelName,
    question: Annotated[str, Argument(metavar="QUESTION", help="What is asked of every text.")],
    texts: Texts = None,
    *,
    files: TextFiles,
    top_k: Annotated[int, Option(metavar="N", help="Answers from each text.")] = 1,
    max_answer_tokens: Annotated[int, Option(metavar="N", help="The longest answer, in tokens.")] = 15,
    impossible: Annotated[bool, Option("--impossible", help='"No answer" is an answer too.')] = False,
    reading: BatchedReading,
    as_json: AsJson = False,
) -> None:
    """Answer a question from each of the texts, of any length: where the answer stands, and how probable it is."""
    check_count("--top-k", top_k)
    check_count("--max-answer-tokens", max_answer_tokens, of="tokens")
    if not question.strip():
        raise InputError(f"QUESTION is {question!r}; ask something")
    refuse_file_name("QUESTION", question, files.as_text)
    contexts = files.read(texts or [])
    answerer = reading.task("answer", model)
    with telling(contexts) as told:
        answered = answerer(
            question,
            [context.text for context in contexts],
            top_k=top_k,
            max_answer_tokens=max_answer_tokens,
            impossible=impossible,
            progress=told,
            **reading.arguments(answerer.model),
        )
    rows = [
        [[answer.text or "(no answer)", score(answer.score), f"{answer.start}–{answer.end}"] for answer in answers]
        for answers in answered.answers
    ]
    report(contexts, answered, ("answer", "score", "characters"), rows, as_json)
