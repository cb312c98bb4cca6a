"""Two models side by side: the whole sentence encoder and the first half of its layers, with what that costs in recall.

python examples/compare.py
"""

import numpy as np
from docstrings import functions
from sklearn.feature_extraction.text import TfidfVectorizer

import gossamer as gs
from gossamer.surgery.students import make_student

pairs = [(one.summary, one.details) for one in functions() if one.details]
queries, texts = map(list, zip(*pairs, strict=True))
whole = gs.load("sample:minilm")
models = {"whole": whole, "half": make_student(whole, layers=[0, 1, 2])}


def found(similarities):
    """For each query 1 if the text that belongs to it is the nearest of all, else 0."""
    return (np.asarray(similarities).argmax(axis=1) == np.arange(len(queries))).astype(int).tolist()


hits = {}
for name, model in models.items():
    embed = gs.task("embed", model)
    hits[name] = found(embed(queries).vectors @ embed(texts).vectors.T)
comparison = gs.compare(models, scores={"recall@1": hits}, memory=False, tokens=(128,), batches=(1,), threads=(1,))
print(comparison)
words = TfidfVectorizer().fit(queries + texts)
bag = np.mean(found((words.transform(queries) @ words.transform(texts).T).toarray()))
score, half = np.mean(hits["whole"]), np.mean(hits["half"])
print(f"recall@1 {score:.3f}; half of the layers {half:.3f}, bag of words {bag:.3f}, chance {1 / len(queries):.3f}")
