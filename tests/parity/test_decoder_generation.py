"""Greedy continuations of decoders are those of `transformers`, in batches with padding and with a longer prompt."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import gossamer as gs

VOCABULARY, END = 53, 7
SIZES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_layer": 3, "n_head": 4, "n_embd": 24, "n_positions": 64},
    "llama": {
        "num_hidden_layers": 3, "num_attention_heads": 4, "hidden_size": 24, "max_position_embeddings": 64,
        "intermediate_size": 20, "num_key_value_heads": 2,
    },
}  # fmt: skip
CONFIGS: list[tuple[str, dict[str, Any]]] = [
    ("gpt2", {}),
    ("gpt2", {"n_layer": 1, "n_head": 1, "activation_function": "relu", "tie_word_embeddings": False}),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True, "n_inner": 20}),
    ("gpt2", {"scale_attn_weights": False, "activation_function": "gelu"}),
    ("llama", {}),
    ("llama", {"num_key_value_heads": 1, "head_dim": 10, "tie_word_embeddings": True}),
    ("llama", {"num_key_value_heads": 4, "attention_bias": True, "mlp_bias": True}),
    ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0}}),
]


@pytest.fixture(params=CONFIGS, ids=lambda one: f"{one[0]}: {', '.join(one[1]) or 'plain'}")
def both(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Any]:
    """A model of `transformers` with weights at which nothing is trivial, and Gossamer's of the same files."""
    family, changes = request.param
    settings = {"vocab_size": VOCABULARY, **SIZES[family], **changes}
    config = AutoConfig.for_model(family, **settings, bos_token_id=END, eos_token_id=END, pad_token_id=0)
    torch.manual_seed(5)
    theirs = AutoModelForCausalLM.from_config(config).double().eval()
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.add_(torch.randn_like(weight) * 0.4)
    theirs.save_pretrained(tmp_path / "theirs")
    return theirs, gs.load(tmp_path / "theirs", dtype="float64")


def continuations(theirs: Any, ids: torch.Tensor, mask: torch.Tensor, new: int) -> list[list[int]]:
    """What `transformers` adds to prompts that are padded on the left, up to the end token and with it."""
    with torch.no_grad():
        found = theirs.generate(
            ids, attention_mask=mask, max_new_tokens=new, do_sample=False, use_cache=True, pad_token_id=0
        )
    rows = found[:, ids.shape[1] :].tolist()
    return [row[: row.index(END) + 1] if END in row else row for row in rows]


def test_greedy_tokens_are_those_of_transformers(both: tuple[Any, Any]) -> None:
    theirs, ours = both
    lengths = (5, 1, 17, 30, 2, 9)
    generator = torch.Generator().manual_seed(1)
    ids, mask = torch.zeros(len(lengths), 30, dtype=torch.int64), torch.zeros(len(lengths), 30, dtype=torch.int64)
    for i, length in enumerate(lengths):
        ids[i, 30 - length :] = torch.randint(8, VOCABULARY, (length,), generator=generator)
        mask[i, 30 - length :] = 1
    expected = continuations(theirs, ids, mask, 30)
    found = gs.generate(ours, ids, attention_mask=mask, max_new_tokens=30, temperature=0)
    assert found.ids == expected
    assert (
        gs.generate(ours, ids, attention_mask=mask, max_new_tokens=30, temperature=0, use_cache=False).ids == expected
    )


def test_some_texts_end_before_others(both: tuple[Any, Any]) -> None:
    """A token that the model does say stands for the end."""
    theirs, ours = both
    ids = torch.randint(8, VOCABULARY, (6, 4), generator=torch.Generator().manual_seed(2))
    said = gs.generate(ours, ids, max_new_tokens=25, temperature=0, ignore_end=True).ids
    in_rows = {token: sum(token in row for row in said) for row in said for token in row}
    end = min(in_rows, key=lambda token: abs(in_rows[token] - 3))
    ours.generation_config["eos_token_id"] = end
    with torch.no_grad():
        rows = theirs.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=25,
            do_sample=False,
            eos_token_id=end,
            pad_token_id=0,
        )[:, 4:].tolist()
    expected = [row[: row.index(end) + 1] if end in row else row for row in rows]
    found = gs.generate(ours, ids, max_new_tokens=25, temperature=0)
    assert found.ids == expected
    assert "stop" in found.stopped
