"""Proof that the checks of decoders bite: with one thing broken they must go red; with nothing broken they must not.

A mutant replaces one piece of a module's source, which must be there exactly once; while it is tried, the module's
functions run the code of the broken ones, wherever they were imported.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest
import tokenizers
import torch
from tokenizers import decoders as decoders_of_tokens
from tokenizers import models as token_models

from gossamer.errors import InputError
from gossamer.generation.sampling import Sampling, choose
from gossamer.generation.stream import TextStream
from gossamer.models import Cache, Model
from gossamer.models.decoders import decoder
from gossamer.patterns import Fixed, Full, Pattern, Strided, Window
from gossamer.text import Tokenizer, byte_tokenizer
from gossamer.text.byte_tokenizer import byte_letters


def with_a_token_of_several_bytes() -> Tokenizer:
    """The bytes, and 256: the rest of a euro sign, and then what is no text."""
    letters = byte_letters()
    several = "".join(letters[byte] for byte in b"\x82\xac\x80")
    backend = tokenizers.Tokenizer(token_models.WordLevel({one: i for i, one in enumerate([*letters, several])}))
    backend.decoder = decoders_of_tokens.ByteLevel()
    return Tokenizer(backend)


def model_of(pattern: Pattern) -> Model:
    torch.manual_seed(0)
    model = Model(decoder(vocabulary_size=23, length=48, layers=2, hidden_size=16, heads=2, patterns=pattern)).double()
    with torch.no_grad():
        for one in model.parameters():
            one.add_(torch.randn_like(one) * 0.3)
    return model.eval()


def token_ids() -> torch.Tensor:
    return torch.randint(0, 23, (1, 40), generator=torch.Generator().manual_seed(1))


def a_cache_changes_nothing() -> bool:
    for pattern in (Window(5, 0), Window(3, 0, dilation=3), Fixed(6, 2), Fixed(6, 2, offset=3), Strided(5)):
        model, ids = model_of(pattern), token_ids()
        cache = Cache(model.architecture)
        with torch.no_grad():
            parts = [model(one, cache=cache).logits for one in ids.split([13, 7, *[1] * 20], dim=1)]
            if not torch.allclose(torch.cat(parts, dim=1), model(ids).logits, atol=1e-9):
                return False
    return True


def what_is_left_out_is_never_drawn() -> bool:
    draws = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    scores = torch.tensor([[0.0, 5.0, 4.0, 0.0]]).expand(2, -1)
    return choose(scores, Sampling(top_k=2), draws).tolist() == [1, 2]


def documents_learn_apart() -> bool:
    model, ids = model_of(Full(causal=True)), token_ids()
    segments = (torch.arange(40) >= 19).long()[None]
    with torch.no_grad():
        loss = model(ids, segments=segments, labels=ids).loss
        first, second = (model(one, labels=one).loss for one in (ids[:, :19], ids[:, 19:]))
    return torch.allclose(loss, (first * 18 + second * 20) / 38)


def streams_are_the_text() -> bool:
    stream = TextStream(with_a_token_of_several_bytes(), [97])
    pieces = [stream.push(one) for one in (0xE2, 256, 0x80, 0x80, 0x80, 98)]
    return "".join(pieces) == b"\xe2\x82\xac\x80\x80\x80\x80b".decode(errors="replace")


def streams_do_not_wait() -> bool:
    stream = TextStream(byte_tokenizer(), [97])
    return "".join(stream.push(0x80) for _ in range(20)) == "\ufffd" * 17


@dataclass(frozen=True)
class Mutant:
    """In `module`, `old` becomes `new`; `check` must notice."""

    module: str
    old: str
    new: str
    check: Callable[[], bool]


MUTANTS = {
    "a ring one too small": Mutant(
        "models.cache.layout", "Ring(kept.recent)", "Ring(kept.recent - 1)", a_cache_changes_nothing
    ),
    "a ring one step off": Mutant(
        "models.cache.layout", "positions % self.size", "-positions", a_cache_changes_nothing
    ),
    "a cell one slot too early": Mutant(
        "models.cache.layout", "place - self.first\n", "place - self.first - 1\n", a_cache_changes_nothing
    ),
    "cells of a block too few": Mutant(
        "models.cache.layout",
        "self.cells + place - self.first",
        "(self.cells - 1) + place - self.first",
        a_cache_changes_nothing,
    ),
    "what is not a cell over the cells": Mutant(
        "models.cache.layout", "self.rest - 1 - torch", "self.rest - torch", a_cache_changes_nothing
    ),
    "steps: the last token unseen": Mutant(
        "patterns.strided", "near, position + 1)", "near, position)", a_cache_changes_nothing
    ),
    "draws: the token before": Mutant(
        "generation.sampling", "right=True", "right=False", what_is_left_out_is_never_drawn
    ),
    "draws: top-k one too many": Mutant(
        "generation.sampling", ".topk(sampling.top_k)", ".topk(sampling.top_k + 1)", what_is_left_out_is_never_drawn
    ),
    "loss: documents forgotten": Mutant(
        "models.next_token", "if segments is not None:", "if False:", documents_learn_apart
    ),
    "streams: cuts within characters": Mutant(
        "generation.stream", "if head + tail != whole:", "if False:", streams_are_the_text
    ),
    "streams: too much held back": Mutant(
        "generation.stream", "self._told > HELD", "self._told > 99", streams_do_not_wait
    ),
}


def functions(owner: ModuleType | type, module: str) -> Iterator[tuple[str, FunctionType]]:
    """All functions that a module defines, those of its classes and properties too, each with a name of its own."""
    for name, one in vars(owner).items():
        found = one.fget if isinstance(one, property) else inspect.unwrap(one) if callable(one) else one
        if isinstance(found, FunctionType) and found.__module__ == module:
            yield f"{getattr(owner, '__qualname__', '')}.{name}", found
        elif isinstance(one, type) and one.__module__ == module:
            yield from functions(one, module)


def broken(module: ModuleType, mutant: Mutant) -> dict[str, FunctionType]:
    source = Path(str(module.__file__)).read_text()
    count = source.count(mutant.old)
    assert count == 1, f"{mutant.module} holds {mutant.old!r} {count} times; bring the mutant up to date"
    copy: Any = ModuleType(module.__name__)
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(importlib.sys.modules, module.__name__, copy)  # type: ignore[attr-defined]
        patched.setattr(Pattern, "kinds", dict(Pattern.kinds))  # where the copy's classes are entered
        code = compile(source.replace(mutant.old, mutant.new), str(module.__file__), "exec", dont_inherit=True)
        exec(code, vars(copy))
    return dict(functions(copy, module.__name__))


@pytest.mark.parametrize("name", MUTANTS)
def test_the_mutant_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = MUTANTS[name]
    module = importlib.import_module(f"gossamer.{mutant.module}")
    others, changed = broken(module, mutant), 0
    for own, function in functions(module, module.__name__):
        changed += function.__code__ != others[own].__code__
        monkeypatch.setattr(function, "__code__", others[own].__code__)
    assert changed == 1
    try:
        assert not mutant.check()
    except (RuntimeError, IndexError, InputError):
        return


@pytest.mark.parametrize(
    "check",
    [
        a_cache_changes_nothing,
        what_is_left_out_is_never_drawn,
        documents_learn_apart,
        streams_are_the_text,
        streams_do_not_wait,
    ],
)
def test_what_is_not_broken_passes(check: Callable[[], bool]) -> None:
    assert check()
