"""One rule for how much is read at once: the checkpoint's own limit, for tokenizer and tasks; more by max_length."""

import json
import warnings
from pathlib import Path

import pytest
import torch
from tiny_embedders import embedder

import gossamer as gs
from gossamer.errors import Remark
from gossamer.models import Model
from gossamer.tasks import Embed
from gossamer.tasks.passes import plan_passes, room

TEXT = "abcdefghijklmnopqrst"


def limited(most: int = 16, own: int = 8) -> Model:
    model = embedder(length=most)
    model.tokenizer = model.tokenizer.with_max_length(own)
    return model


def test_the_least_limit_counts() -> None:
    assert limited(own=8).reading_length() == 8
    assert limited(own=100).reading_length() == 16
    assert embedder(length=16).reading_length() == 16
    bare = embedder(length=16)
    bare.tokenizer = None
    assert bare.reading_length() == 16
    assert limited().reading_length(12) == 12


@pytest.mark.parametrize("value", [0, 17, -1, True, 8.0, "8"])
def test_what_no_model_can_read_is_refused(value: object) -> None:
    with pytest.raises(gs.InputError, match="it must be a whole number of tokens from 1 to 16"):
        limited().reading_length(value)  # type: ignore[arg-type]


def test_sentence_files_bind_tokenizer_and_tasks_alike(minilm: Path) -> None:
    model = gs.load(minilm)
    assert (model.reading_length(), model.architecture.length) == (256, 512)
    text = " ".join(f"entry {i} of the register," for i in range(75))
    task = gs.task("embed", model)
    with pytest.warns(Remark, match="text 0 of 452 tokens was cut to 256"), torch.no_grad():
        expected = model(**model.tokenizer(text)).pooled
    torch.testing.assert_close(task(text, long="truncate").vectors, expected, rtol=0, atol=1e-6)
    said = "text 0 is 452 tokens long, the model reads 256"
    with pytest.raises(gs.InputError, match=f"{said}: max_length=452 reads it at once"):
        task(text, long="error")
    found = task(text)
    assert found.passes == [2]
    assert found.notes[0].startswith(f"{said}: read in overlapping passes; max_length=452 reads it at once")


def test_what_max_length_allows_is_read_at_once_and_noted() -> None:
    task = Embed(limited())
    (reading,) = task._readings([TEXT[:12]])
    assert room(task.model, task.frame) == 6
    assert room(task.model, task.frame, 14) == 12
    assert len(plan_passes(task.model, [reading])) == 2
    assert len(plan_passes(task.model, [reading], 14)) == 1
    assert task._fit([reading], "error", max_length=14) == [
        "read up to 14 tokens at once, as max_length says; the model's own files say 8"
    ]
    assert task._fit([reading], "chunk", max_length=7)[0].startswith("text 0 is 14 tokens long, the model reads 7")
    with pytest.raises(gs.InputError, match="max_length is 2; it must be at least 3, for the special tokens and one"):
        task._check("chunk", 100, 2)


def test_beyond_the_positions_the_remedy_is_lengthen() -> None:
    assert "lengthen the model to read it at once" in Embed(limited())(TEXT).notes[0]
    assert "max_length=14 reads it at once" in Embed(limited())(TEXT[:12]).notes[0]


def test_a_lengthened_model_reads_its_new_length(tmp_path: Path) -> None:
    long, _ = gs.lengthen(limited(), to=32, window=4)
    assert long.reading_length() == 32
    gs.save(long, tmp_path / "long", family="longformer")
    assert json.loads((tmp_path / "long" / "sentence_bert_config.json").read_text())["max_seq_length"] == 32
    assert json.loads((tmp_path / "long" / "tokenizer_config.json").read_text())["model_max_length"] == 32


def test_the_tokenizer_tells_once_what_it_cuts() -> None:
    tokenizer = limited().tokenizer
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        tokenizer(TEXT, max_length=5)  # asked for
        tokenizer(TEXT, stride=2)  # nothing is lost
        tokenizer(TEXT, truncation=False)
        tokenizer("abcdef")
        assert not told
        tokenizer(["a", TEXT])
        tokenizer(TEXT)
    assert [one.category for one in told] == [Remark]
    assert told[0].filename == __file__
    said = "text 1 of 22 tokens was cut to 8, the tokenizer's max_length; give max_length or truncation"
    assert str(told[0].message).startswith(said)
    with pytest.warns(Remark, match="text 0 and its pair were cut to 9"):
        tokenizer.with_max_length(9)(TEXT, text_pair=TEXT)
