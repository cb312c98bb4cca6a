"""A lengthened masked LM is trained on, so that it learns to use its windows: bits of a masked token of other speeches.

python examples/heal.py
"""

from collections import Counter
from math import log2
from pathlib import Path

import torch

import gossamer as gs
from gossamer.models import MaskedLM
from gossamer.recipes import heal
from gossamer.text import speeches

texts = [" ".join(one.text.split()[:1200]) for one in speeches()[-27:]]
Path("learnt.txt").write_text("\n".join(texts[:24]), encoding="utf-8")
Path("held-out.txt").write_text("\n".join(texts[24:]), encoding="utf-8")

torch.manual_seed(0)
model = gs.load("sample:minilm", head=MaskedLM())  # its head is drawn: how words are told it has to learn here
long, receipt = gs.lengthen(model, to=768, window=128)
settings = {
    "data": {"train": "learnt.txt", "split": "lines"},
    "train_only": ["attention.5", "feed_forward.5", "head"],  # the last layer alone: quickly learnt
    "batch": {"rows": 1},
    "optimizer": {"learning_rate": 2e-3},
    "schedule": {"name": "linear", "warmup": 0.1},
    "steps": 60,
    "evaluation": {"data": "held-out.txt"},
    "output": "healed",
}
healed, receipt = heal(long, settings)
print(receipt)

learnt, wanted = (
    [token for text in part for token in model.tokenizer.encode_plain(text, False)[0]]
    for part in (texts[:24], texts[24:])
)
counts, size = Counter(learnt), model.tokenizer.vocabulary_size
frequencies = -sum(log2((counts[one] + 0.1) / (len(learnt) + 0.1 * size)) for one in wanted) / len(wanted)
before, after = (receipt.measured[f"bits_per_masked_token_{when}"] for when in ("before", "after"))
print(f"bits per masked token {after:.2f}; before {before:.2f}, the frequencies of tokens {frequencies:.2f}")
