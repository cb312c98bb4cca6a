"""Which tokens begin, pad and end the second texts of a checkpoint whose files do not say it, or say null."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

import gossamer as gs
from gossamer.errors import InputError
from gossamer.families import get_family
from gossamer.generation.inputs import end_ids
from gossamer.models import Model
from gossamer.text import byte_tokenizer

BART = {
    "d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 8, "decoder_ffn_dim": 8, "vocab_size": 30,
}  # fmt: skip
SIZES: dict[str, dict[str, Any]] = {
    "t5": {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "vocab_size": 30},
    "bart": {**BART, "max_position_embeddings": 8},
    "led": {**BART, "max_encoder_position_embeddings": 8, "max_decoder_position_embeddings": 8, "attention_window": 4},
    "marian": {**BART, "max_position_embeddings": 8, "pad_token_id": 29},
}
NAMES = ("eos_token_id", "pad_token_id", "decoder_start_token_id")


def saved(folder: Path, family: str, says: Any, **changes: Any) -> Path:
    """A checkpoint whose config.json leaves the tokens out, or holds `says` for them."""
    sizes = {**SIZES[family], **changes}
    model = Model(get_family(family).read(sizes, head="seq2seq-lm"), family=family)
    gs.save(model, folder)
    config = json.loads((folder / "config.json").read_text())
    for name in NAMES:
        if name not in sizes:
            config.pop(name, None)
        if says is None and name not in sizes:
            config[name] = None
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("family", SIZES)
@pytest.mark.parametrize("says", ["nothing", None])
def test_they_are_those_of_transformers_configs(family: str, says: Any, tmp_path: Path) -> None:
    found = gs.load(saved(tmp_path / "a", family, says))
    theirs = AutoConfig.for_model(family, **SIZES[family])
    assert end_ids(found) == [theirs.eos_token_id]
    decoder = found.architecture.decoder
    start = theirs.pad_token_id if family in ("t5", "marian") else theirs.decoder_start_token_id
    assert decoder.start_id == start
    if family != "t5":  # which has no row of its own for padding
        assert found.architecture.embeddings.padding_id == theirs.pad_token_id
    again = gs.load(gs.save(found, tmp_path / "b"))
    assert end_ids(again) == end_ids(found)
    assert again.architecture == found.architecture


def test_what_a_file_or_the_tokenizer_names_is_taken_first(tmp_path: Path) -> None:
    folder = saved(tmp_path / "a", "t5", "nothing", vocab_size=257)
    assert end_ids(gs.load(folder)) == [1]
    byte_tokenizer().save(folder)
    assert end_ids(gs.load(folder)) == [256]
    (folder / "generation_config.json").write_text('{"eos_token_id": 7}')
    assert end_ids(gs.load(folder)) == [7]


@pytest.mark.parametrize("head", [None, "none", "embed", "seq2seq-lm"])
def test_an_encoder_without_its_decoder_is_told_to_be_one(head: Any, tmp_path: Path) -> None:
    folder = saved(tmp_path / "a", "t5", "nothing")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["T5EncoderModel"]}))
    with pytest.raises(InputError, match="architectures is 'T5EncoderModel', whose files have no decoder, and with"):
        gs.load(folder, head=head)


def test_no_vector_is_taken_of_two_texts(tmp_path: Path) -> None:
    folder = saved(tmp_path / "a", "t5", "nothing", vocab_size=257)
    byte_tokenizer().save(folder)
    with pytest.raises(InputError, match="head is 'embed', and of a model that reads one text and writes another no"):
        gs.load(folder, head="embed")
    for head in (None, "none"):
        with pytest.raises(InputError, match="the model reads one text and writes another, of which no vector is"):
            gs.task("embed", gs.load(folder, head=head))
