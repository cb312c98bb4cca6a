"""A sentence encoder with half of its weights at 0, chosen by what texts tell of them: it still finds.

python examples/prune.py
"""

import numpy as np
from docstrings import functions
from sklearn.feature_extraction.text import TfidfVectorizer

import gossamer as gs

pairs = [{"query": one.summary, "positive": one.details} for one in functions() if one.details]
known, new = pairs[:100], pairs[100:]
model = gs.load("sample:minilm")
pruned, receipt = gs.prune(model, known, score="wanda", scope="row", keep=0.5)
drawn, _ = gs.prune(model, score="random", keep=0.5)
print(receipt)

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
    f"recall@1 {by_vectors(pruned):.3f}; drawn weights {by_vectors(drawn):.3f}, bag of words {bag:.3f}, "
    f"chance {1 / len(queries):.3f}"
)
