"""Truncation is state of the backend, which threads and copies share: no call may set it within another one."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gossamer.text import Document, Tokenizer
from gossamer.text.encoding import encode_documents

TEXT = "a thread so light that it floats " * 20
PATIENCE = 0.5  # seconds that the first call leaves the second to come between


class Watched:
    """A backend that, the first time its work is asked for, waits for a call of another thread to come between."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.reached, self.other_is_done = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._backend, name)
        return self._slowly(found) if name in ("encode_batch", "encode_batch_fast", "to_str") else found

    def _slowly(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def waits(*given: Any, **options: Any) -> Any:
            if not self.reached.is_set():
                self.reached.set()
                self.other_is_done.wait(PATIENCE)
            return work(*given, **options)

        return waits


def saved_truncation(tokenizer: Tokenizer, directory: Path) -> object:
    tokenizer.save(directory)
    return json.loads((directory / "tokenizer.json").read_text())["truncation"]


def document_length(tokenizer: Tokenizer, _: Path) -> int:
    return sum(len(ids) for ids, _, _ in encode_documents([Document(source="x", parts=[TEXT])], tokenizer))


CALLS: dict[str, Callable[[Tokenizer, Path], object]] = {
    "call": lambda tokenizer, _: tokenizer(TEXT, max_length=40)["input_ids"].shape[1],
    "whole text": lambda tokenizer, _: tokenizer(TEXT, truncation=False)["input_ids"].shape[1],
    "encode_plain": lambda tokenizer, _: len(tokenizer.encode_plain(TEXT)[0]),
    "documents": document_length,
    "save": saved_truncation,
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_in_another_thread_comes_before_or_after(name: str, minilm: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(minilm)
    expected = CALLS[name](tokenizer, tmp_path)
    watched = Watched(tokenizer._backend)
    tokenizer._backend = watched
    copy = tokenizer.with_max_length(64)
    lengths: list[int] = []

    def come_between() -> None:
        watched.reached.wait()
        lengths.append(copy(TEXT, max_length=7)["input_ids"].shape[1])
        watched.other_is_done.set()

    other = threading.Thread(target=come_between)
    other.start()
    found = CALLS[name](tokenizer, tmp_path)
    other.join()
    assert found == expected
    assert lengths == [7]
