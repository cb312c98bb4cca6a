"""A model small enough to load at once, and the command as a function."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import gossamer as gs
from gossamer.cli.command import run
from gossamer.models import (
    Architecture,
    Attention,
    Embeddings,
    FeedForward,
    Layer,
    Model,
    Positions,
    SentenceEmbedding,
)
from gossamer.patterns import Full


@dataclass
class Done:
    """What one command line gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Stdout, which holds one JSON document and nothing else."""
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line on stderr."""
        (line,) = self.err.splitlines()
        return line


@pytest.fixture
def gossamer(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("GOSSAMER_DEBUG", raising=False)
    # However slow the machine, nothing is said about waiting.
    monkeypatch.setattr("gossamer.cli.output.PATIENCE", 1e6)

    def call(*args: object) -> Done:
        capsys.readouterr()
        code = run([str(one) for one in args])
        return Done(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def small(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved sentence encoder of 2 layers x 16 that reads 32 tokens, with the real tokenizer."""
    tokenizer = gs.load(minilm).tokenizer
    layers = tuple(
        Layer(
            attention=Attention(pattern=Full(), heads=2, head_size=8, weights=i),
            feed_forward=FeedForward(width=32, weights=i),
        )
        for i in range(2)
    )
    architecture = Architecture(
        hidden_size=16,
        embeddings=Embeddings(vocabulary_size=tokenizer.vocabulary_size, size=16, positions=Positions(length=32)),
        layers=layers,
        head=SentenceEmbedding(normalized=True),
    )
    torch.manual_seed(0)
    model = Model(architecture, family="bert", tokenizer=tokenizer.with_max_length(32))
    return gs.save(model, tmp_path_factory.mktemp("models") / "small")
