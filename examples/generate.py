"""A small language model of bytes learns from the speeches, then writes; bits per byte of others.

python examples/generate.py
"""

from collections import Counter
from math import log2
from pathlib import Path

import gossamer as gs
from gossamer.text import speeches

texts = [one.text for one in speeches()]
learnt, held_out = texts[:-4], texts[-4:]
for name, part in {"learnt": learnt, "held-out": held_out}.items():
    Path(f"{name}.txt").write_text("\n".join(" ".join(one.split()) for one in part), encoding="utf-8")

config = {
    "model": {"decoder": {"layers": 3, "hidden_size": 128, "heads": 4, "length": 512, "pattern": "window(127)"}},
    "data": {"train": "learnt.txt", "split": "lines"},
    "objective": "causal-lm",
    "batch": {"rows": 2},
    "optimizer": {"learning_rate": 3e-3},
    "schedule": {"name": "cosine", "warmup": 0.05},
    "steps": 120,
    "evaluation": {"data": "held-out.txt"},
    "output": "speaker",
}
model, receipt = gs.train(config)
print(gs.task("generate", model)("My fellow citizens, ", max_new_tokens=200, temperature=0.7))

pairs = Counter(pair for text in learnt for pair in zip(text.encode(), text.encode()[1:], strict=False))
singles = Counter(byte for text in learnt for byte in text.encode())


def bits(chances):
    """The mean over the bytes of the held-out texts, each with the one before it."""
    told = [-log2(chances(*pair)) for text in held_out for pair in zip(text.encode(), text.encode()[1:], strict=False)]
    return sum(told) / len(told)


unigram = bits(lambda _, byte: (singles[byte] + 1) / (singles.total() + 256))
bigram = bits(lambda before, byte: (pairs[before, byte] + 1) / (singles[before] + 256))
print(
    f"bits per byte {receipt.evaluation['bits_per_byte']:.3f}; bytes alone {unigram:.3f}, by the last byte {bigram:.3f}"
)
