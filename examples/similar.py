"""The nearest of many texts: the passage of a speech is found by the sentence that follows it.

python examples/similar.py
"""

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

import gossamer as gs
from gossamer.text import speeches

rng = np.random.default_rng(0)
passages, queries = [], []
for speech in speeches():
    words = speech.text.split()
    start = rng.integers(len(words) - 120)
    passages.append(" ".join(words[start : start + 100]))
    queries.append(" ".join(words[start + 100 : start + 120]))

found = gs.task("similar", gs.load("sample:minilm"))(queries, passages, top_k=3)
for query, best in zip(queries[:2], found.neighbours[:2], strict=True):
    print(query[:60], "->", best[0].text[:60], round(best[0].score, 3))


def share(nearest):
    """How often the nearest passage is the one that stands before the query."""
    return np.mean([place == one for place, one in enumerate(nearest)])


words = TfidfVectorizer().fit(passages)
by_words = (words.transform(queries) @ words.transform(passages).T).toarray().argmax(axis=1)
by_chance = rng.integers(len(passages), size=len(passages))
score = share([best[0].index for best in found.neighbours])
print(f"found {score:.3f}; chance {share(by_chance):.3f}, bag of words {share(by_words):.3f}")
