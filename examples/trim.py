"""A sentence encoder with the words that speeches use alone: it finds the speech that a passage is from.

python examples/trim.py
"""

import numpy as np

import gossamer as gs
from gossamer.text import passages, speeches

rng = np.random.default_rng(0)
counted = [one.text for one in speeches()[::8]]
talks = [" ".join(one.text.split()[:300]) for one in speeches()[4::8]]  # of which no word was counted
queries = [text for one in talks for text in passages(one, 40, 2, rng)]

model = gs.load("sample:minilm")
few, receipt = gs.trim(model, counted, size=8000, evaluate=talks)
letters, _ = gs.trim(model, counted, at_least=10**9)
print(receipt)


def recall(model):
    """How often the speech nearest to a passage is the passage's own."""
    embed = gs.task("embed", model)
    nearest = (embed(queries).vectors @ embed(talks).vectors.T).argmax(dim=1).numpy()
    return np.mean(nearest == np.repeat(np.arange(len(talks)), 2))


print(f"recall@1 {recall(few):.3f}; letters alone {recall(letters):.3f}, chance {1 / len(talks):.3f}")
