"""Vectors of texts, and the texts nearest to another: the neighbour of a function of scipy is from the same part of it.

python examples/embed.py
"""

import numpy as np
from docstrings import functions
from sklearn.feature_extraction.text import TfidfVectorizer

import gossamer as gs

known, new = functions()[:400], functions()[400:]
texts, queries = [one.summary for one in known], [one.summary for one in new]
embed = gs.task("embed", gs.load("sample:minilm"))
similarities = embed.similarity(embed(queries).vectors, embed(texts).vectors).numpy()
for query, best in zip(queries[:3], np.argsort(-similarities)[:3, :2], strict=True):
    print(query, "->", *(texts[i] for i in best))


def share(nearest):
    """How often the nearest known function is from the part that the new one is from."""
    return np.mean([known[i].part == one.part for i, one in zip(nearest, new, strict=True)])


words = TfidfVectorizer().fit(texts)
by_words = (words.transform(queries) @ words.transform(texts).T).toarray()
by_chance = np.random.default_rng(0).integers(len(known), size=len(new))
score, bag = share(similarities.argmax(axis=1)), share(by_words.argmax(axis=1))
print(f"of the same part {score:.3f}; chance {share(by_chance):.3f}, bag of words {bag:.3f}")
