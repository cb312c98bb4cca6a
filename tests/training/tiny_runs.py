"""Runs of a second or two: a small text, a config of a tiny decoder or encoder, and what a run leaves behind."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

TIMES = ("seconds", "tokens_per_second")


def write_text(path: Path, lines: int = 120) -> Path:
    """Some documents, a line each, of 20 to 60 bytes, no two alike."""
    words = ["over", "the", "hills", "and", "far", "away", "a", "small", "spider", "spins", "its", "web"]
    texts = [" ".join(words[(i * 7 + j * (1 + i % 3)) % len(words)] for j in range(4 + i % 8)) for i in range(lines)]
    path.write_text("\n".join(f"{i} {text}." for i, text in enumerate(texts)), encoding="utf-8")
    return path


def decoder_config(folder: Path, name: str = "out", **changes: Any) -> dict[str, Any]:
    """A byte-level decoder with dropout that reads `folder/text.txt`; one epoch is about 20 steps."""
    text = folder / "text.txt"
    if not text.exists():
        write_text(text)
    config: dict[str, Any] = {
        "model": {
            "decoder": {
                "layers": 2,
                "hidden_size": 16,
                "heads": 2,
                "length": 32,
                "pattern": "window(8)",
                "dropout": 0.1,
            }
        },
        "data": {"train": str(text), "split": "lines"},
        "batch": {"rows": 6},
        "optimizer": {"learning_rate": 0.01},
        "schedule": {"warmup": 2},
        "steps": 6,
        "checkpoints": {"every": 3},
        "journal": {"live": False},
        "threads": 1,
        "output": str(folder / name),
    }
    return {**config, **changes}


def encoder_config(folder: Path, name: str = "out", **changes: Any) -> dict[str, Any]:
    """A byte-level masked LM of shared layers, without dropout; its rows differ in how many labels they have."""
    attention = {"pattern": {"pattern": "full", "causal": False}, "heads": 2, "head_size": 8, "dropout": 0.0}
    attention["global_projections"] = True  # which get no gradients, since nothing is flagged
    layer = {
        "attention": {**attention, "weights": 0, "residual_dropout": 0.0},
        "feed_forward": {"width": 32, "weights": 0, "residual_dropout": 0.0},
    }
    architecture = {
        "hidden_size": 16,
        "embeddings": {
            "vocabulary_size": 258,
            "size": 16,
            "positions": {"length": 32},
            "dropout": 0.0,
            "padding_id": 256,
        },
        "layers": [layer, layer],
        "head": {"kind": "masked-lm"},
    }
    return decoder_config(
        folder, name, **{"model": {"architecture": architecture}, "objective": "masked-lm", **changes}
    )


def llama_config(folder: Path, name: str = "out", **changes: Any) -> dict[str, Any]:
    """A byte-level decoder with the bricks of Llama, written out as a family's file would be read."""
    norm = {"kind": "rms", "eps": 1e-6, "bias": False}
    attention = {"pattern": {"pattern": "full", "causal": True}, "heads": 4, "head_size": 4, "key_heads": 2}
    attention |= {"dropout": 0.1, "residual_dropout": 0.0, "bias": False, "output_bias": False, "rotary": {"base": 1e4}}
    feed_forward = {"width": 24, "activation": "silu", "gated": True, "bias": False, "residual_dropout": 0.0}
    layers = [
        {
            "attention": {**attention, "weights": i},
            "feed_forward": {**feed_forward, "weights": i},
            "norm": norm,
            "norm_place": "pre",
        }
        for i in range(2)
    ]
    embeddings = {"vocabulary_size": 257, "size": 16, "positions": {"length": 32, "scheme": "none"}, "token_types": 0}
    embeddings |= {"padding_id": None, "norm": None, "dropout": 0.0}
    architecture = {"hidden_size": 16, "embeddings": embeddings, "layers": layers, "final_norm": norm}
    architecture["head"] = {"kind": "causal-lm", "tied": False}
    return decoder_config(folder, name, model={"architecture": architecture}, **changes)


def journal(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's journal, times aside."""
    lines = (folder / "journal.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name not in TIMES} for line in lines]


def checkpoints(folder: Path) -> list[str]:
    """The names of a run's checkpoints."""
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def tensors(folder: Path, step: int) -> dict[str, Tensor]:
    """Weights and the optimizer's state after a step."""
    place = folder / "checkpoints" / f"step-{step}"
    return {**load_file(place / "model.safetensors"), **load_file(place / "optimizer.safetensors")}


def standing(folder: Path, step: int) -> dict[str, Any]:
    """What else a checkpoint says of the run: losses, the best so far, the scaler, its data and model."""
    state = json.loads((folder / "checkpoints" / f"step-{step}" / "state.json").read_text())
    return {name: value for name, value in state.items() if name not in ("config", "conditions", "seconds")}


def assert_same_run(one: Path, other: Path, step: int) -> None:
    """Two runs ended with the same bits, and wrote the same journal."""
    ours, theirs = tensors(one, step), tensors(other, step)
    assert list(ours) == list(theirs)
    assert len(ours) > 20
    unlike = [name for name in ours if ours[name].numpy().tobytes() != theirs[name].numpy().tobytes()]
    assert unlike == []
    assert journal(one) == journal(other)
    assert standing(one, step) == standing(other, step)
    for name in ("last", "best"):
        if (one / name).exists() or (other / name).exists():
            file = f"{name}/model.safetensors"
            assert (one / file).read_bytes() == (other / file).read_bytes()
