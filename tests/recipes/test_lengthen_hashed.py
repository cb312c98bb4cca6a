"""A model made long by hashing: as it was where it read before, and beyond that told by buckets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from drawn_models import bert

import gossamer as gs
from gossamer.cli.command import run
from gossamer.errors import InputError


def short(**changes: Any) -> gs.Model:
    config = {
        "vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12,
        "max_position_embeddings": 16,
    } | changes  # fmt: skip
    return bert(config, None)


def test_short_texts_are_read_as_before_and_long_ones_at_all(tmp_path: Path) -> None:
    model = short()
    new, receipt = gs.lengthen(model, to=400, pattern="hashed")
    pattern = new.architecture.layers[0].attention.pattern
    assert pattern == gs.Hashed(4, 6, None, False, whole=16, itself=True)
    assert set(receipt.measured.values()) == {0.0} or max(receipt.measured.values()) < 1e-6
    ids = torch.randint(30, (2, 400), generator=torch.Generator().manual_seed(1))
    mask = torch.ones(2, 16, dtype=torch.long)
    mask[1, 9:] = 0
    with torch.no_grad():
        ours, theirs = (one(ids[:, :16], attention_mask=mask).last_hidden_state for one in (new, model))
        torch.testing.assert_close(ours[mask.bool()], theirs[mask.bool()], rtol=1e-5, atol=1e-5)
        long = new(ids).last_hidden_state
        assert long.isfinite().all()
        # What is read is what the pattern lets it see: full attention gives something else.
        full = gs.lengthen(model, to=400, pattern=gs.Hashed(1, 2, None, False, whole=400, itself=True))[0](ids)
        assert not torch.allclose(long, full.last_hidden_state, atol=1e-3)
    again = gs.load(gs.save(new, tmp_path / "long"))
    assert again.family == "gossamer"
    assert again.architecture == new.architecture
    assert torch.equal(again(ids).last_hidden_state, new(ids).last_hidden_state)


def test_the_command_makes_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gs.save(short(), tmp_path / "short")
    out = tmp_path / "long"
    arguments = ["lengthen", str(tmp_path / "short"), "--out", str(out), "--to", "64", "--pattern", "hashed", "--json"]
    assert run(arguments) == 0
    assert json.loads(capsys.readouterr().out)["receipt"]["settings"]["pattern"]["pattern"] == "hashed"
    assert gs.load(out).architecture.length == 64


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pattern": "strided"}, "pattern is 'strided'; it must be 'window', 'hashed', or a Hashed"),
        ({"pattern": gs.Hashed()}, "a Hashed that looks both ways"),
        ({"pattern": gs.Full()}, "it must be 'window', 'hashed'"),
        ({"pattern": "hashed", "window": 512}, "window is 512; it must be left out where the pattern is hashed"),
        (
            {"pattern": "hashed", "global_tokens": "first"},
            "global_tokens is 'first'; it must be left out where the pattern is hashed",
        ),
        ({"pattern": "hashed", "to": 8}, "to is 8; it must be a whole number of tokens from 16"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as problem:
        gs.lengthen(short(), **({"to": 64} | changes))
    assert said in str(problem.value)
