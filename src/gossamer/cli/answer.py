"""gossamer answer: a question, answered from texts."""

from __future__ import annotations

from typing import Annotated, Any

from typer import Argument, Option

from gossamer.cli.options import AsJson, BatchedReading, ModelName, Out, TextFiles, Texts, check_count, grouped
from gossamer.cli.task_pages import score
from gossamer.cli.task_runs import Page, TaskRun, check_out
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
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Answer a question from each of the texts, of any length: where the answer stands, and how probable it is."""
    check_count("--top-k", top_k)
    check_count("--max-answer-tokens", max_answer_tokens, of="tokens")
    if not question.strip():
        raise InputError(f"QUESTION is {question!r}; ask something")
    refuse_file_name("QUESTION", question, files.as_text)
    check_out(out, files.inputs(texts or []))
    contexts = files.stream(texts or [])
    answerer = reading.task("answer", model)
    options = {
        "questions": question, "top_k": top_k, "max_answer_tokens": max_answer_tokens, "impossible": impossible,
    }  # fmt: skip
    TaskRun(task=answerer, page=PAGE, out=out, as_json=as_json).run(
        contexts, options | reading.arguments(answerer.model)
    )


def _cells(answered: Any) -> list[list[str]]:
    return [
        [answer.text or "(no answer)", score(answer.score), f"{answer.start}–{answer.end}"]
        for answer in answered.answers[0]
    ]


PAGE = Page(columns=("answer", "score", "characters"), cells=_cells)
