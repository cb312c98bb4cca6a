"""Small checkpoints on disk, and hands that spoil them."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

import gossamer as gs
from gossamer.families import get_family
from gossamer.models import Head, Model

BERT = {
    "model_type": "bert",
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
}
LONGFORMER = {**BERT, "model_type": "longformer", "pad_token_id": 1, "attention_window": [4, 6]}
MODERNBERT = {**BERT, "model_type": "modernbert", "pad_token_id": 0, "local_attention": 6}


def build(config: dict[str, Any], head: str | Head | None = None, pooler: bool = True) -> Model:
    torch.manual_seed(0)
    family = get_family(config["model_type"])
    model = Model(family.read(config, head=head, pooler=pooler), family=family.model_type).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    return model


def write(directory: Path, config: dict[str, Any], head: str | Head | None = None, pooler: bool = True) -> Path:
    """A checkpoint without a seal, as other tools write them."""
    gs.save(build(config, head, pooler), directory)
    (directory / "gossamer.json").unlink()
    return directory


def edit_config(directory: Path, **changes: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(directory: Path, edit: Any) -> None:
    """Rewrite model.safetensors with what `edit` makes of its tensors."""
    tensors = load_file(directory / "model.safetensors")
    changed = edit(tensors)
    save_file(tensors if changed is None else changed, directory / "model.safetensors")


def as_bin(directory: Path, name: str = "pytorch_model.bin", **options: Any) -> Path:
    """Turn model.safetensors into a .bin file."""
    tensors = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    torch.save(tensors, directory / name, **options)
    return directory / name


def same(one: Model, other: Model) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
