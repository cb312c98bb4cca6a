"""A sentence encoder without half of its feed-forward: what is at 0 is removed, and the model is smaller.

python examples/compact.py
"""

import numpy as np
from docstrings import functions
from sklearn.feature_extraction.text import TfidfVectorizer

import gossamer as gs

pairs = [{"query": one.summary, "positive": one.details} for one in functions() if one.details]
known, new = pairs[:100], pairs[100:]
model = gs.load("sample:minilm")
pruned, _ = gs.prune(model, known, score="gradient", structure="neurons", scope="global", keep=0.5)
small, receipt = gs.compact(pruned)
print(receipt)
gs.save(small, "minilm-compact")

queries, texts = [one["query"] for one in new], [one["positive"] for one in new]


def recall(similarities):
    """How often the text that belongs to a query is the nearest of all."""
    return np.mean(np.asarray(similarities).argmax(axis=1) == np.arange(len(queries)))


def by_vectors(encoder):
    embed = gs.task("embed", encoder)
    return recall(embed(queries).vectors @ embed(texts).vectors.T)


words = TfidfVectorizer().fit(queries + texts)
bag = recall((words.transform(queries) @ words.transform(texts).T).toarray())
print(
    f"recall@1 {by_vectors(gs.load('minilm-compact')):.3f}; the whole model {by_vectors(model):.3f}, "
    f"bag of words {bag:.3f}, chance {1 / len(queries):.3f}"
)
