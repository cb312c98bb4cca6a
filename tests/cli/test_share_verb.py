"""gossamer share: what it writes and tells, and what it refuses in a line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import gossamer as gs
from gossamer.families import get_family
from gossamer.models import Model
from gossamer.text import byte_tokenizer

Command = Callable[..., Any]
QUICK = ("--set", "steps=2", "--set", "journal.live=false", "--set", "data.split=lines", "--set", "batch.rows=4")


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text("\n".join(f"line {i} of a text about nothing at all" for i in range(40)))
    torch.manual_seed(0)
    sizes = {"vocab_size": 258, "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 16, "max_position_embeddings": 32, "pad_token_id": 256}
    model = Model(get_family("bert").read(sizes, head="masked-lm"), family="bert", tokenizer=byte_tokenizer(mask=True))
    gs.save(model, tmp_path / "encoder")
    return tmp_path / "encoder"


def test_it_makes_an_albert(gossamer: Command, encoder: Path, tmp_path: Path) -> None:
    call = ("share", encoder, "--out", tmp_path / "out", "--groups", 2, "--embedding-size", 8, "--start", 1)
    done = gossamer(*call)
    assert (done.code, done.err) == (0, "")
    assert "attention and feed-forward of 4 layers share 2 sets of weights, each begun as its layer 1" in done.out
    assert f"saved in {tmp_path / 'out'}" in done.out
    assert gs.load(tmp_path / "out").family == "albert"
    again = gossamer(*call, "--json")
    assert again.json["family"] == "albert"
    assert again.json["receipt"]["settings"] == {"parts": "both", "groups": 2, "embedding_size": 8, "start": 1}


def test_it_heals(gossamer: Command, encoder: Path, tmp_path: Path) -> None:
    done = gossamer("share", encoder, "--train", tmp_path / "text.txt", "--out", tmp_path / "out", "--json", *QUICK)
    assert done.code == 0
    assert done.json["receipt"]["settings"]["steps"] == 2
    assert len(gs.load(tmp_path / "out" / "last").attention) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--start", "first"], "'first' is not average, or a layer of each group such as 0"),
        (["--groups", "9"], "groups is 9; it must be from 1 to 4, the model's layers"),
        (["--evaluate", "0.1"], "evaluate is 0.1; it must be left out: nothing learns without train"),
    ],
)
def test_what_it_refuses(gossamer: Command, encoder: Path, tmp_path: Path, options: list[str], message: str) -> None:
    done = gossamer("share", encoder, "--out", tmp_path / "out", *options)
    assert done.code == 2
    assert message in done.error


def test_the_model_itself_is_not_written_over(gossamer: Command, encoder: Path) -> None:
    done = gossamer("share", encoder, "--out", encoder)
    assert done.code == 2
    assert "is the model to be shared; name another directory" in done.error
