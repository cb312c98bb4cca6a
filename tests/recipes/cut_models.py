"""Drawn models of every family, and the same with some heads and neurons at zero."""

import copy
from typing import Any

import torch
from torch import Tensor

from gossamer.families import get_family
from gossamer.models import Model

SIZES = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 12}
TOKENS = {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 2, "cls_token_id": 2, "sep_token_id": 2}
OF: dict[str, dict[str, Any]] = {
    "bert": SIZES,
    "roberta": SIZES | TOKENS,
    "distilbert": {"vocab_size": 30, "dim": 16, "n_layers": 3, "n_heads": 4, "hidden_dim": 12},
    "albert": SIZES | TOKENS | {"embedding_size": 6},
    "electra": SIZES | TOKENS | {"embedding_size": 6},
    "longformer": SIZES | TOKENS | {"attention_window": 4},
    "modernbert": SIZES | TOKENS | {"global_attn_every_n_layers": 2, "local_attention": 4},
    "gpt2": {"vocab_size": 30, "n_embd": 16, "n_layer": 3, "n_head": 4, "n_inner": 12},
    "llama": SIZES | TOKENS | {"num_key_value_heads": 2},
}
HEADS = {0: [1], 1: [0, 1, 2, 3], 2: [0, 2, 3]}
NEURONS = {0: [0, 5, 11], 2: list(range(12))}


def drawn(family: str, head: str | None = None, dtype: torch.dtype = torch.float64, **sizes: Any) -> Model:
    torch.manual_seed(0)
    model = Model(get_family(family).read({**OF[family], **sizes}, head=head), family=family).to(dtype).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    return model


def ids(rows: int = 2, length: int = 9) -> Tensor:
    return torch.randint(4, 30, (rows, length), generator=torch.Generator().manual_seed(0))


def zeroed(model: Model, heads: dict[int, list[int]], neurons: dict[int, list[int]]) -> Model:
    """The model with the output columns of these heads and neurons at zero."""
    masked = copy.deepcopy(model)
    with torch.no_grad():
        for i, numbers in heads.items():
            settings = masked.architecture.layers[i].attention
            weight = masked.get_submodule(f"attention.{settings.weights}.output").weight
            weight.unflatten(1, (settings.heads, settings.head_size))[:, numbers] = 0
        for i, numbers in neurons.items():
            number = masked.architecture.layers[i].feed_forward.weights
            masked.get_submodule(f"feed_forward.{number}.down").weight[:, numbers] = 0
    return masked


def states(model: Model, **more: Any) -> Tensor:
    with torch.no_grad():
        return model(ids(), **more).last_hidden_state


def head_mask(model: Model, heads: dict[int, list[int]]) -> Tensor:
    mask = torch.ones(len(model.architecture.layers), model.architecture.layers[0].attention.heads).double()
    for i, numbers in heads.items():
        mask[i, numbers] = 0
    return mask


def same_for_all(family: str, by_layer: dict[int, list[int]]) -> dict[int, list[int]]:
    """Layers of ALBERT share their weights."""
    return dict.fromkeys(range(3), by_layer[0]) if family == "albert" else by_layer


def close(found: Tensor, expected: Tensor, most: float = 1e-12) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).norm() / expected.norm()) < most
