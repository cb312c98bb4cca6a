"""Reformers and reversible, hashed decoders learn, are stopped, and go on to the same bits; a decoder generates."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import assert_same_run, decoder_config, journal

import gossamer as gs
from gossamer.families import get_family
from gossamer.models import Model
from gossamer.training import run as run_module
from gossamer.training.stops import RunStopped

SIZES: dict[str, Any] = {
    "model_type": "reformer", "attn_layers": ["local", "lsh", "lsh"], "hidden_size": 16, "num_attention_heads": 2,
    "attention_head_size": 8, "feed_forward_size": 24, "local_attn_chunk_length": 6, "lsh_attn_chunk_length": 8,
    "num_buckets": [2, 2], "num_hashes": 2, "axial_pos_shape": [5, 9], "axial_pos_embds_dim": [6, 10],
    "max_position_embeddings": 45, "hidden_dropout_prob": 0.1, "local_attention_probs_dropout_prob": 0.1,
    "lsh_attention_probs_dropout_prob": 0.1, "local_num_chunks_after": 0, "chunk_size_feed_forward": 7,
}  # fmt: skip
DECODER = {
    "layers": 3, "hidden_size": 16, "heads": 2, "length": 45, "pattern": "hashed(2, 4, 8)", "dropout": 0.1,
    "reversible": "mean", "feed_forward_chunk": 7, "shared_query_key": True,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "causal": {
        "model": {"config": SIZES | {"architectures": ["ReformerModelWithLMHead"], "is_decoder": True}},
        "objective": "causal-lm",
    },
    "masked": {
        "model": {"config": SIZES | {"architectures": ["ReformerForMaskedLM"], "local_num_chunks_after": 1}},
        "objective": "masked-lm",
    },
    "decoder": {"model": {"decoder": DECODER}},
}


def settings(folder: Path, name: str, kind: str) -> dict[str, Any]:
    return decoder_config(folder, name, **MODELS[kind], steps=8, checkpoints={"every": 4}, batch={"rows": 5})


@pytest.mark.parametrize("kind", MODELS)
def test_it_learns_and_is_resumed_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    model, _ = gs.train(settings(tmp_path, "unbroken", kind))
    losses = [line["loss"] for line in journal(tmp_path / "unbroken") if line["split"] == "train"]
    assert sum(losses[-3:]) < sum(losses[:3])
    assert model.family == ("gossamer" if kind == "decoder" else "reformer")
    update = run_module.Run.update

    def stop(run: run_module.Run) -> None:
        if run.step == 2:
            signal.raise_signal(signal.SIGINT)
        update(run)

    with monkeypatch.context() as patch:
        patch.setattr(run_module.Run, "update", stop)
        with pytest.raises(RunStopped):
            gs.train(settings(tmp_path, "stopped", kind))
    gs.train(settings(tmp_path, "stopped", kind), resume="must")
    for name in ("unbroken", "stopped"):
        for one in (tmp_path / name / "checkpoints").iterdir():
            if one.name != "step-8":
                shutil.rmtree(one)
    assert_same_run(tmp_path / "unbroken", tmp_path / "stopped", 8)


def reformer(**changes: Any) -> Model:
    torch.manual_seed(3)
    config = {name: value for name, value in SIZES.items() if name != "model_type"}
    config |= {"vocab_size": 40, "is_decoder": True} | changes
    model = Model(get_family("reformer").read(config, head="causal-lm"), family="reformer").eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return model


def test_a_decoder_generates_with_a_cache() -> None:
    """Where texts are too short for hashing, a cache changes nothing; of longer ones each token sees other chunks."""
    model, ids = reformer(lsh_attn_chunk_length=48, local_attn_chunk_length=6), torch.arange(1, 8)[None]
    told = [
        gs.generate(model, ids, max_new_tokens=20, temperature=0, ignore_end=True, use_cache=use).ids
        for use in (True, False)
    ]
    assert told[0] == told[1]
    long = gs.generate(reformer(), ids, max_new_tokens=30, temperature=0, ignore_end=True)
    assert len(long.ids[0]) == 30


def test_recipes_take_an_encoder() -> None:
    """Whose local layers are a ring, which knows no global tokens."""
    config = {name: value for name, value in SIZES.items() if name != "model_type"} | {"vocab_size": 60}
    torch.manual_seed(0)
    model = Model(get_family("reformer").read(config), family="reformer").eval()
    small, _ = gs.prune(model, heads={0: [0], 1: [1]}, neurons={2: [0, 3]})
    assert [layer.attention.heads for layer in small.architecture.layers] == [1, 1, 2]
    assert small.architecture.layers[2].feed_forward.width == 22
    ids = torch.arange(2, 40)[None]
    with torch.no_grad():
        for number, kept in ((0, slice(8, 16)), (1, slice(0, 8))):
            for name in ("query", "value") if number else ("query", "key", "value"):
                old = getattr(model.attention[number], name).weight
                assert torch.equal(getattr(small.attention[number], name).weight, old[kept])
        assert small(ids).last_hidden_state.isfinite().all()
    same, _ = gs.compact(model)
    torch.testing.assert_close(same(ids).last_hidden_state, model(ids).last_hidden_state, rtol=1e-5, atol=1e-5)
    shared, _ = gs.share(model, parts="feed-forward", groups=1)
    assert len(shared.feed_forward) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_buckets": 3}, "each number must be even"),
        ({"axial_pos_embds_dim": [6, 9]}, "axis_sizes is (6, 9); it must be sizes whose sum is 16"),
        ({"axial_pos_shape": [5, 9, 2]}, "axial_pos_shape is [5, 9, 2]; it must be a list of two whole numbers"),
        ({"attn_layers": ["lsh", "full"]}, "attn_layers is ['lsh', 'full']; it must be a list of 'local' and 'lsh'"),
        ({"num_hidden_layers": 4}, "num_hidden_layers is 4; it must be the number of attn_layers, 3"),
        ({"is_decoder": False}, "is_decoder is False"),
    ],
)
def test_what_no_reformer_is(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(gs.InputError) as problem:
        reformer(**changes)
    assert said in str(problem.value)
