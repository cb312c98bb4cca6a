"""A sentence encoder trained on pairs: the name of a function of scipy, abbreviated as they are, and the line about it.

python examples/sentence_pairs.py
"""

import numpy as np
from docstrings import functions
from sklearn.feature_extraction.text import TfidfVectorizer

import gossamer as gs

pairs = [{"query": one.name.replace("_", " "), "positive": one.summary} for one in functions()]
train, test = pairs[:400], pairs[400:]
config = {
    "model": "sample:minilm",
    "objective": "sentence-pairs",
    "batch": {"rows": 50, "length": 32},
    "optimizer": {"learning_rate": 1e-4},
    "schedule": {"name": "linear", "warmup": 0.1},
    "epochs": 3,
    "output": "pairs-encoder",
}
model, receipt = gs.train(config, rows=train)

queries, texts = [row["query"] for row in test], [row["positive"] for row in test]


def recall(similarities):
    """How often the text that belongs to a query is the nearest of all."""
    return np.mean(np.asarray(similarities).argmax(axis=1) == np.arange(len(queries)))


def by(encoder):
    embed = gs.task("embed", encoder)
    return recall(embed(queries).vectors @ embed(texts).vectors.T)


words = TfidfVectorizer().fit(queries + texts)
before, tfidf = by(gs.load("sample:minilm")), recall((words.transform(queries) @ words.transform(texts).T).toarray())
print(f"recall@1 {by(model):.3f}; before {before:.3f}, bag of words {tfidf:.3f}, chance {1 / len(test):.3f}")
