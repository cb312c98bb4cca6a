"""A dozen rows of each kind to fine-tune on."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TEXTS = [{"text": f"{kind} {'here ' * (i % 4)}".strip(), "label": kind} for i in range(6) for kind in ("film", "song")]
SENTENCES = [
    {"tokens": ["Ann", "sings", *["here"] * (i % 3)], "tags": ["B-PER", "O", *["O"] * (i % 3)]} for i in range(12)
]


def _question(i: int) -> dict[str, Any]:
    context = f"{'here ' * (i * 3)}Ann sings a song {'here ' * i}".strip()
    answers = {"text": ["Ann"], "answer_start": [context.index("Ann")]} if i % 4 else {"text": [], "answer_start": []}
    return {"question": "sings", "context": context, "answers": answers}


QUESTIONS = [_question(i) for i in range(12)]
"""Some of contexts of two windows of 32 tokens, some without an answer."""


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path
