"""The other half of benchmarks/tasks.py: tokens a second of decoders, greedy and with beams, beside transformers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gate import ParityError
from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration

import gossamer as gs

WORDS, READ = 8192, 64
SIZES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_layer": 6, "n_embd": 512, "n_head": 8, "n_positions": 512},
    "t5": {"num_layers": 6, "d_model": 512, "d_ff": 1024, "num_heads": 8, "d_kv": 64},
}
SMOKE: dict[str, dict[str, Any]] = {
    "gpt2": {"n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 512},
    "t5": {"num_layers": 1, "d_model": 16, "d_ff": 16, "num_heads": 2, "d_kv": 8},
}
BEAMS = (1, 4)
ROWS = (1, 8)


@dataclass(frozen=True, kw_only=True)
class Writers:
    """One checkpoint on both sides, and prompts of 64 tokens; every text has as many new tokens."""

    kind: str
    ours: Any
    theirs: Any
    new: int

    def calls(self, rows: int, beams: int, seed: int) -> dict[str, Callable[[], list[list[int]]]]:
        """The new tokens of so many rows, by either side."""
        random = torch.Generator().manual_seed(seed)
        ids = torch.randint(3, WORDS, (rows, READ), generator=random)
        kept = READ if self.kind == "gpt2" else 1

        def mine() -> list[list[int]]:
            found = gs.generate(
                self.ours, ids, max_new_tokens=self.new, temperature=None if beams > 1 else 0.0, ignore_end=True,
                beams=beams if beams > 1 else None,
            )  # fmt: skip
            return found.ids

        def other() -> list[list[int]]:
            out = self.theirs.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=self.new, min_new_tokens=self.new,
                do_sample=False, num_beams=beams, eos_token_id=None, pad_token_id=0,
            )  # fmt: skip
            return out[:, kept:].tolist()

        return {"gossamer": mine, "transformers": other}


def writers(kind: str, folder: Path, sizes: dict[str, dict[str, Any]], new: int, seed: int) -> Writers:
    """A decoder, or an encoder and decoder, of drawn weights."""
    torch.manual_seed(seed)
    if kind == "gpt2":
        made: Any = GPT2LMHeadModel(GPT2Config(vocab_size=WORDS, bos_token_id=1, eos_token_id=1, **sizes[kind]))
    else:
        made = T5ForConditionalGeneration(
            T5Config(vocab_size=WORDS, eos_token_id=1, pad_token_id=0, decoder_start_token_id=0, **sizes[kind])
        )
    with torch.no_grad():  # fresh weights say nearly the same of all words, and ties are broken by rounding
        for weight in made.parameters():
            weight.mul_(1.5)
    made.eval().save_pretrained(folder / kind)
    return Writers(kind=kind, ours=gs.load(folder / kind), theirs=made, new=new)


def check_tokens(key: str, mine: list[list[int]], other: list[list[int]]) -> None:
    """Refuse to time what does not write the same tokens."""
    if mine != other:
        raise ParityError(f"{key}: both sides write different tokens")
