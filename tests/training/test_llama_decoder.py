"""A small Llama from a few numbers: trained, continued, and read by `transformers`."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_runs import decoder_config
from transformers import LlamaForCausalLM

import gossamer as gs
from gossamer.errors import InputError
from gossamer.models.decoders import decoder
from gossamer.training.config import TrainingConfig

transformers.utils.logging.disable_progress_bar()
LLAMA: dict[str, Any] = {
    "form": "llama", "layers": 2, "hidden_size": 16, "heads": 4, "key_heads": 2, "length": 32, "rotary_base": 500.0,
}  # fmt: skip


@pytest.mark.parametrize("changes", [{}, {"tied": False, "key_heads": None, "width": 20, "head_size": 6}])
def test_what_is_trained_is_a_llama(tmp_path: Path, changes: dict[str, Any]) -> None:
    model, receipt = gs.train(decoder_config(tmp_path, model={"decoder": {**LLAMA, **changes}}))
    assert receipt.loss is not None
    assert model.architecture.layers[0].feed_forward.width == changes.get("width", 48)
    ids = torch.tensor([[72, 101, 108, 108, 111]])
    gs.save(gs.load(tmp_path / "out" / "last"), tmp_path / "public", family="llama")
    theirs, info = LlamaForCausalLM.from_pretrained(tmp_path / "public", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]  # noqa: PT018
    assert theirs.config.tie_word_embeddings == changes.get("tied", True)
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, model(ids).logits, rtol=1e-4, atol=1e-5)
    more = theirs.generate(ids, max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0)
    assert gs.generate(model, ids, max_new_tokens=12, temperature=0, ignore_end=True).ids == more[:, 5:].tolist()


def test_the_example_is_read() -> None:
    config = TrainingConfig.read(Path(__file__).parents[2] / "examples" / "llama.yaml")
    assert config.model is not None
    layer = config.model.describe(258).layers[0]
    assert (layer.attention.rotary, layer.attention.key_heads) == (gs.models.Rotary(base=10000.0), 2)
    assert (layer.norm.kind, layer.feed_forward.gated, layer.feed_forward.width) == ("rms", True, 512)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"form": "gpt3"}, r"^model\.decoder\.form is 'gpt3'; it must be one of 'gpt2', 'llama'$"),
        ({"form": "gpt2"}, r"^model\.decoder\.rotary_base is 500\.0; it must be left out unless the form is 'llama'$"),
        ({"rotary_base": -1}, r"^model\.decoder\.rotary_base is -1; it must be a finite number above 0$"),
        ({"positions": [4, 8]}, r"^model\.decoder\.axes is \(4, 8\); it must be left out where the form is 'llama'$"),
        ({"key_heads": 3}, r"^model\.decoder\.key_heads is 3; it must be a divisor of heads, 4, or None"),
        ({"initializer": "mimetic"}, r"positions\.scheme is 'none'; it must be .* with the initializer 'mimetic'"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainingConfig.read(decoder_config(tmp_path, model={"decoder": {**LLAMA, **changes}}))


def test_fewer_key_heads_without_the_rest() -> None:
    small = decoder(vocabulary_size=9, length=8, layers=1, hidden_size=8, heads=4, key_heads=1)
    assert small.layers[0].attention.key_heads == 1
    assert small.layers[0].attention.rotary is None
