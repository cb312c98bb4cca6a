"""What files beside the weights ask for is done, refused or told: generation_config.json, adapters, unused settings."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_checkpoints import LONGFORMER, edit_config, write

import gossamer as gs
from gossamer.errors import Remark
from gossamer.generation import Generated
from gossamer.models import Model

GPT2 = {"model_type": "gpt2", "vocab_size": 20, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 32}
FILE = "generation_config.json"


@pytest.fixture
def decoder(tmp_path: Path) -> Path:
    return write(tmp_path / "decoder", GPT2, head="causal-lm", pooler=False)


def generated(model: Model, **options: Any) -> Generated:
    return gs.generate(model, [1, 2, 3], max_new_tokens=20, **{"temperature": 0, **options})


def test_what_generation_config_ends_texts_with_ends_them(decoder: Path) -> None:
    free = generated(gs.load(decoder), ignore_end=True).ids[0]
    first, later = free[0], next(one for one in free if one != free[0])
    edit_config(decoder, eos_token_id=first)
    assert generated(gs.load(decoder)).ids[0] == [first]
    (decoder / FILE).write_text(json.dumps({"eos_token_id": [19 if later != 19 else 18, later], "pad_token_id": 0}))
    model = gs.load(decoder)
    found = generated(model)
    assert (found.ids[0][-1], found.stopped, found.notes) == (later, ["stop"], [])
    assert generated(model, ignore_end=True).ids[0] == free


def test_generation_config_is_kept(decoder: Path, tmp_path: Path) -> None:
    settings = {"eos_token_id": [1, 2], "do_sample": True, "temperature": 0.6, "odd": {"a": [1]}}
    (decoder / FILE).write_text(json.dumps(settings))
    model = gs.load(decoder)
    for family in ("gpt2", "gossamer"):
        saved = gs.save(model, tmp_path / family, family=family)
        assert json.loads((saved / FILE).read_text()) == settings
        assert gs.load(saved).generation_config == settings
    (decoder / FILE).unlink()
    assert not (gs.save(gs.load(decoder), tmp_path / "gpt2") / FILE).exists()


@pytest.mark.parametrize(
    ("settings", "options", "told"),
    [
        ({"do_sample": False, "temperature": 0.6}, {}, ""),
        ({"do_sample": True, "temperature": 0.6, "top_p": 0.95}, {}, "temperature 0.6"),
        ({"do_sample": True, "temperature": 0.6, "top_k": 5}, {"temperature": 0.6, "top_k": 5}, ""),
        ({"repetition_penalty": 1.1, "num_beams": 4}, {}, "num_beams 4"),
        ({"repetition_penalty": 1.0, "num_beams": 1, "bad_words_ids": None, "min_length": 0}, {}, ""),
        ({"max_new_tokens": 20, "use_cache": True, "transformers_version": "5.0"}, {}, ""),
        ({"max_length": 50, "suppress_tokens": [3]}, {}, "max_length 50"),
    ],
)
def test_what_is_not_followed_is_told(
    decoder: Path, settings: dict[str, Any], options: dict[str, Any], told: str
) -> None:
    (decoder / FILE).write_text(json.dumps(settings))
    notes = generated(gs.load(decoder), **{"temperature": 1.0, "seed": 0, **options}).notes
    notes = [one for one in notes if "stopped after" not in one]
    said = f"generation_config.json says {told}: not followed, the options of the call decide"
    assert notes == ([said] if told else [])


@pytest.mark.parametrize("text", ["[]", "{", '{"temperature": NaN}'])
def test_a_damaged_generation_config_is_refused(decoder: Path, text: str) -> None:
    (decoder / FILE).write_text(text)
    with pytest.raises(gs.InputError, match=r"generation_config\.json"):
        gs.load(decoder)


def test_an_adapter_beside_the_weights_is_refused(decoder: Path) -> None:
    (decoder / "adapter_config.json").write_text("{}")
    with pytest.raises(gs.InputError, match=r"adapter_config\.json: the directory holds an adapter; .* merge it first"):
        gs.load(decoder)
    (decoder / "config.json").unlink()
    with pytest.raises(gs.InputError, match="holds an adapter"):
        gs.load(decoder)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"attention_mode": "longformer", "attention_dilation": [1, 1], "autoregressive": False}, ""),
        ({"attention_mode": "sliding_chunks", "ignore_attention_mask": False, "attention_dilation": None}, ""),
        ({"attention_mode": "n2"}, "attention_mode 'n2'"),
        ({"attention_dilation": [1, 2], "autoregressive": True}, r"attention_dilation \[1, 2\], autoregressive True"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_settings_of_a_longformer_that_nobody_follows_are_told(
    tmp_path: Path, fields: dict[str, Any], told: str
) -> None:
    directory = write(tmp_path / "model", LONGFORMER)
    edit_config(directory, **fields)
    if told:
        with pytest.warns(Remark, match=rf"config\.json: {told}: not followed, by transformers neither"):
            model = gs.load(directory)
    else:
        model = gs.load(directory)
    assert {name: model.extra_config[name] for name in fields} == fields
    with torch.no_grad():
        model(torch.tensor([[1, 2, 3]]))
