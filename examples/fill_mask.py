"""A masked LM learns the language of a documentation, then fills gaps in it: one word of each new sentence is hidden.

python examples/fill_mask.py
"""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from docstrings import functions

import gossamer as gs
from gossamer.models import MaskedLM

sentences = [text for one in functions() for text in (one.summary, *one.parameters.values()) if len(text.split()) > 4]
learnt, new = sentences[:800], sentences[-200:]
Path("sentences.txt").write_text("\n".join(learnt), encoding="utf-8")
config = {
    "data": {"train": "sentences.txt", "split": "lines"},
    "objective": "masked-lm",
    "train_only": ["attention.4", "feed_forward.4", "attention.5", "feed_forward.5", "head"],
    "batch": {"rows": 16, "length": 32},
    "optimizer": {"learning_rate": 1e-3},
    "schedule": {"name": "linear", "warmup": 0.1},
    "epochs": 12,
    "output": "filler",
}
torch.manual_seed(0)  # the head is drawn
model, receipt = gs.train(config, model=gs.load("sample:minilm", head=MaskedLM()))

rng, fill = np.random.default_rng(0), gs.task("fill-mask", model)
hidden = []
for text in new:
    words = text.rstrip(".").split()
    place = int(rng.integers(1, len(words)))
    hidden.append(
        (" ".join([*words[:place], "[MASK]", *words[place + 1 :]]) + ".", words[place].lower(), words[place - 1])
    )
found = fill([text for text, _, _ in hidden], top_k=1).masks
score = np.mean([best.fills[0].token_str == word for (best,), (_, word, _) in zip(found, hidden, strict=True)])

words = [word.lower() for text in learnt for word in text.rstrip(".").split()]
commonest, pairs = Counter(words).most_common(1)[0][0], Counter(pairwise(words))
following = {before: word for (before, word), _ in reversed(pairs.most_common())}
majority = np.mean([word == commonest for _, word, _ in hidden])
bigram = np.mean([following.get(before.lower()) == word for _, word, before in hidden])
print(f"filled rightly {score:.3f}; the commonest word {majority:.3f}, the usual word behind the last {bigram:.3f}")
