"""The whole model of benchmarks/encoder.py, in both libraries, from one checkpoint of random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from torch import Tensor

import gossamer as gs

OURS, THEIRS = "gossamer", "transformers"
Encoder = Callable[[Tensor], Tensor]
"""input_ids [1, n] -> last hidden states [1, n, width]."""

BASE = {
    "vocab_size": 50265,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 4098,
    "attention_window": [512] * 12,
    "type_vocab_size": 1,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
"""allenai/longformer-base-4096."""
TINY = {
    **BASE, "vocab_size": 100, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 128, "attention_window": [64] * 2,
}  # fmt: skip
SIZES = {"base": BASE, "tiny": TINY}


def write_checkpoint(size: str, folder: Path, seed: int) -> None:
    """Weights as transformers draws them, so that attention is neither flat nor a spike."""
    quiet()
    torch.manual_seed(seed)
    transformers.LongformerModel(transformers.LongformerConfig(**SIZES[size])).save_pretrained(folder)


def quiet() -> None:
    """transformers tells of padding, progress and unused weights, none of which is the matter here."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def load_encoder(name: str, folder: Path, dtype: torch.dtype) -> Encoder:
    quiet()
    model = (
        gs.load(folder, head="none", dtype=dtype)
        if name == OURS
        else transformers.LongformerModel.from_pretrained(folder, dtype=dtype).eval()
    )

    def encode(ids: Tensor) -> Tensor:
        with torch.inference_mode():
            return model(ids).last_hidden_state

    return encode


def make_ids(size: str, n: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(5, SIZES[size]["vocab_size"], (1, n), generator=generator)
