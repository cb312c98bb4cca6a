"""Compacting among other recipes: every model on the way is saved, loaded, and gives the same outputs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from cut_models import close, drawn, ids, states, zeroed
from torch.utils.flop_counter import FlopCounterMode
from transformers import LongformerModel

import gossamer as gs
from gossamer.inspection import cost
from gossamer.models import Model
from gossamer.recipes.removal import remove
from gossamer.text import byte_tokenizer

TEXTS = [{"text": f"{i} over the hills and far away"} for i in range(12)]
QUICK: dict[str, Any] = {"journal.live": False, "threads": 1, "steps": 2, "batch.rows": 6}
LAST = {3: range(12)}


def reloaded(model: Model, folder: Path) -> Model:
    again = gs.load(gs.save(model, folder))
    assert again.architecture == model.architecture
    assert again.family == model.family
    close(states(again), states(model), 1e-6)
    return again


def reader(**sizes: Any) -> Model:
    model = drawn("bert", "masked-lm", torch.float32, vocab_size=258, num_hidden_layers=4, **sizes)
    model.tokenizer = byte_tokenizer(mask=True).with_max_length(64)
    return model


def learnt(teacher: Model, folder: Path, **settings: Any) -> Model:
    """A student, after two steps."""
    path = folder / "texts.txt"
    path.write_text("\n".join(row["text"] for row in TEXTS))
    student, _ = gs.distill(teacher, str(path), settings=QUICK | {"data.split": "lines", "batch.rows": 2}, **settings)
    return student


def test_lengthened_compacted_distilled(tmp_path: Path) -> None:
    model = reader(max_position_embeddings=64)
    long = reloaded(gs.lengthen(model, to=128, window=32)[0], tmp_path / "long")
    masked = zeroed(long, {0: [0, 3], 1: [0, 1, 2, 3], 2: [2]}, {0: [1], 2: [0, 2, 4], **LAST})
    small = reloaded(gs.compact(masked)[0], tmp_path / "small")
    close(states(small), states(masked), 1e-5)
    student = reloaded(learnt(small, tmp_path, layers=[0, 1, 3]), tmp_path / "student")
    widths = [(layer.attention.heads, layer.feed_forward.width) for layer in student.architecture.layers]
    assert widths == [(2, 11), (0, 12), (4, 0)]
    narrower = reloaded(learnt(small, tmp_path, layers=[0, 1, 3], hidden_size=8, heads=None), tmp_path / "narrower")
    assert narrower.architecture.layers[1].attention.heads == 0
    shorter = reloaded(remove(student, heads={0: [1]}, layers=[2]), tmp_path / "shorter")
    padded = gs.compact(shorter, padded=True)[0]
    assert padded.family == "longformer"
    reloaded(padded, tmp_path / "padded")
    theirs = LongformerModel.from_pretrained(tmp_path / "padded", add_pooling_layer=False).eval()
    flags = torch.arange(9).expand(2, -1) < 1
    with torch.no_grad():
        found = theirs(ids(), global_attention_mask=flags.long()).last_hidden_state
    close(found, states(shorter, global_mask=flags), 1e-5)


def test_compacted_lengthened_tuned(tmp_path: Path) -> None:
    model = drawn("bert", None, torch.float32, vocab_size=258, max_position_embeddings=64)
    model.tokenizer = byte_tokenizer(mask=True).with_max_length(64)
    small = reloaded(gs.compact(zeroed(model, {0: [1], 1: [0, 1, 2, 3]}, {2: range(12)}))[0], tmp_path / "small")
    long, receipt = gs.lengthen(small, to=128, window=64)
    assert receipt.measured["relative_difference_at_33_tokens"] < 1e-5
    long = reloaded(long, tmp_path / "long")
    rows = [{"text": f"text {i}", "label": "even" if i % 2 else "odd"} for i in range(12)]
    tuned, _ = gs.finetune(long, rows, epochs=1, settings=QUICK | {"steps": None})
    tuned = reloaded(tuned, tmp_path / "tuned")
    assert len(gs.task("classify", tuned)(["what is this?"] * 2).labels) == 2
    same, told = gs.compact(tuned)
    assert same.architecture == tuned.architecture
    assert "nothing was zero as a whole: the model is as it was" in told.changes


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_its_cost_is_that_of_its_own_widths(family: str) -> None:
    model = drawn(family, None, torch.float32)
    small = remove(model, heads={0: [0, 1], 1: [0, 1, 2, 3]}, neurons={0: [3], 2: range(12)})
    told = cost(small.architecture, 9)
    assert told.parameters == sum(one.numel() for one in small.parameters())
    with FlopCounterMode(display=False) as counted:
        states(small)
    # Attention is no operation that torch counts.
    assert told.flops - told.pair_flops == counted.get_total_flops() / len(ids())
