"""An encoder that reads twice as much: it finds the speech that a passage beyond its old end is from.

python examples/lengthen.py
"""

import numpy as np

import gossamer as gs
from gossamer.text import passages, speeches

rng = np.random.default_rng(0)
talks = [one for one in speeches() if len(one.text.split()) > 1000][::8]
beyond = [" ".join(one.text.split()[450:750]) for one in talks]  # 512 tokens are fewer words
queries = [text for one in beyond for text in passages(one, 40, 2, rng)]

short = gs.load("sample:minilm")
long, receipt = gs.lengthen(short, to=1024, window=256)
print(receipt)


def recall(model, length):
    """How often the speech nearest to a passage, by the vector of its beginning, is the passage's own."""
    embed = gs.task("embed", model)
    index = embed([one.text for one in talks], long="truncate", max_length=length).vectors
    nearest = (embed(queries).vectors @ index.T).argmax(dim=1).numpy()
    return np.mean(nearest == np.repeat(np.arange(len(talks)), 2))


print(f"recall@1 {recall(long, 1024):.3f}; cut to 512 tokens {recall(short, 512):.3f}, chance {1 / len(talks):.3f}")
