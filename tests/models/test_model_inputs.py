"""What a model cannot read is refused in one line that quotes the value."""

from typing import Any

import pytest
import torch
from model_inputs import architecture, model, texts

from gossamer.errors import InputError
from gossamer.families import get_family
from gossamer.models import MaskedLM, Model
from gossamer.models.decoders import decoder

IDS = texts()
BAD = [
    ({"input_ids": IDS + 20}, "input_ids holds"),
    ({"input_ids": -IDS}, "the vocabulary's ids go from 0 to 29"),
    ({"input_ids": IDS[0]}, "shaped [batch, length]"),
    ({"input_ids": IDS.float()}, "whole numbers"),
    ({"input_ids": [[1, 2]]}, "list"),
    ({"input_ids": None}, "one of the two"),
    ({"inputs_embeds": torch.zeros(2, 21, 8)}, "one of the two"),
    ({"input_ids": None, "inputs_embeds": torch.zeros(2, 21, 9)}, "[batch, length, 8]"),
    ({"input_ids": IDS[:, :0]}, "the batch is empty"),
    ({"input_ids": IDS[:0]}, "the batch is empty"),
    ({"input_ids": IDS.repeat(1, 3)}, "63 tokens long, the model reads 40"),
    *[({"input_ids": IDS.to(kind)}, "int64 or int32") for kind in (torch.int16, torch.int8, torch.uint8)],
    ({"token_type_ids": IDS.new_zeros(2, 21, dtype=torch.int8)}, "int64 or int32"),
    ({"input_ids": None, "inputs_embeds": torch.zeros(2, 21, 8)}, "inputs_embeds is float32, the model float64"),
    ({"attention_mask": torch.ones(2, 20)}, "shaped [2, 21]"),
    ({"attention_mask": torch.ones(2, 21)}, "float32"),
    ({"attention_mask": torch.full((2, 21), 2)}, "attention_mask holds 2"),
    ({"attention_mask": torch.ones(21, dtype=torch.bool)}, "shaped [2, 21]"),
    ({"attention_mask": [[1] * 21] * 2}, "list"),
    ({"global_mask": torch.full((2, 21), -1)}, "global_mask holds -1"),
    ({"global_mask": torch.ones(2, 1, dtype=torch.bool)}, "shaped [2, 21]"),
    ({"token_type_ids": torch.full((2, 21), 2)}, "the token types go from 0 to 1"),
    ({"token_type_ids": torch.zeros(2, 21)}, "whole numbers"),
    ({"position_ids": torch.full((2, 21), 40)}, "position_ids holds 40 at [0, 0]"),
    ({"position_ids": torch.full((2, 21), -1)}, "the position table's rows go from 0 to 39"),
    ({"position_ids": torch.zeros(3, 21, dtype=torch.long)}, "shaped [2, 21]"),
    ({"segments": torch.zeros(2, 21)}, "whole numbers"),
    ({"labels": torch.full((2, 21), 30)}, "labels (other than -100, ignored) go from 0 to 29"),
    ({"labels": torch.zeros(2, dtype=torch.long)}, "labels is int64 shaped [2]"),
    ({"decoder_input_ids": IDS}, "give input_ids"),
    ({"cache": object()}, "a cache is for decoders"),
]


@pytest.mark.parametrize(("change", "said"), BAD)
def test_bad_input_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        model(architecture(head=MaskedLM()))(**{"input_ids": IDS, **change})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_labels_need_a_head_that_has_a_loss() -> None:
    with pytest.raises(InputError, match="no head"):
        model(architecture())(IDS, labels=IDS)


def test_length_counts_real_tokens_where_positions_do() -> None:
    net = model(architecture(long=True))
    padded = torch.nn.functional.pad(texts(1, 40), (0, 9))
    net(padded, attention_mask=padded != 0)
    with pytest.raises(InputError, match=r"41 tokens long, the model reads 40.*lengthen\(model, to=64\)"):
        net(torch.ones(1, 41, dtype=torch.long))


def test_every_row_may_be_int32() -> None:
    net, zeros = model(architecture(head=MaskedLM())), torch.zeros(2, 21, dtype=torch.int32)
    rows = {"token_type_ids": zeros, "position_ids": zeros, "segments": zeros, "labels": zeros}
    expected = net(IDS, **{name: row.long() for name, row in rows.items()})
    assert torch.equal(net(IDS.int(), **rows).loss, expected.loss)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.uint8, torch.int32])
def test_masks_may_be_booleans_or_whole_numbers(dtype: torch.dtype) -> None:
    net, mask = model(architecture()), torch.arange(21).expand(2, -1) < 9
    expected = net(IDS, attention_mask=mask).last_hidden_state
    assert torch.equal(net(IDS, attention_mask=mask.to(dtype)).last_hidden_state, expected)


@pytest.mark.parametrize(
    ("family", "head", "changes", "advice"),
    [
        ("bert", "masked-lm", {}, " or lengthen the model: gossamer.lengthen(model, to=128)"),
        ("longformer", "masked-lm", {"attention_window": 8, "pad_token_id": 1, "max_position_embeddings": 66},
         " or lengthen the original model: gossamer.lengthen(model, to=128)"),
        ("modernbert", "masked-lm", {"pad_token_id": 1},
         " or raise its length (max_position_embeddings in config.json) to 80"),
        ("llama", "sequence-classification", {},
         " or raise its length (max_position_embeddings in config.json) to 80"),
        ("gpt2", "causal-lm", {"n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 64}, ""),
        ("gpt2", "sequence-classification", {"n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 64}, ""),
    ],
)  # fmt: skip
def test_a_long_text_gets_the_advice_that_its_model_can_follow(
    family: str, head: str, changes: dict[str, Any], advice: str
) -> None:
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
    sizes |= {"vocab_size": 20, "max_position_embeddings": 64}
    read = get_family(family).read({**({} if family == "gpt2" else sizes), "vocab_size": 20, **changes}, head=head)
    with pytest.raises(InputError) as caught:
        Model(read)(torch.zeros(1, 80, dtype=torch.int64))
    said = "this text is 80 tokens long, the model reads 64: shorten it (truncation=True)"
    assert str(caught.value) == said + advice


def test_a_decoder_of_axes_gets_no_advice_that_it_cannot_follow() -> None:
    """Its tables have positions for so many tokens, and nothing makes them longer."""
    described = decoder(vocabulary_size=20, length=64, layers=1, hidden_size=8, heads=2, axes=(8, 8))
    with pytest.raises(InputError, match=r"the model reads 64: shorten it \(truncation=True\)$"):
        Model(described)(torch.zeros(1, 80, dtype=torch.int64))
