"""A tagger of words, fine-tuned and then used: which words of a speech are written with a capital letter?

python examples/tag.py
"""

import re
from collections import Counter, defaultdict

import numpy as np

import gossamer as gs
from gossamer.text import passages, speeches

rng = np.random.default_rng(0)
rows = []
for one in speeches()[-120:]:
    (text,) = passages(one.text, 30, 1, rng)
    words = re.findall("[A-Za-z]+", text)
    tags = ["Name" if word[0].isupper() else "O" for word in words]
    rows.append({"tokens": [word.lower() for word in words], "tags": tags})
train, test = rows[0::2], rows[1::2]
model, receipt = gs.finetune("sample:minilm", train, epochs=6, batch=4, learning_rate=2e-4)


def tagged(words):
    """The tag of each word, by the characters of the entities that were found."""
    (entities,) = gs.task("tag", model)(" ".join(words), aggregation="first").entities
    starts = np.cumsum([0, *(len(word) + 1 for word in words[:-1])])
    return ["Name" if any(one.start <= start < one.end for one in entities) else "O" for start in starts]


commonest = defaultdict(lambda: Counter("O"))
for row in train:
    for word, tag in zip(row["tokens"], row["tags"], strict=True):
        commonest[word][tag] += 1
wanted = np.concatenate([row["tags"] for row in test])
found = np.concatenate([tagged(row["tokens"]) for row in test])
by_word = np.array([commonest[word].most_common(1)[0][0] for row in test for word in row["tokens"]])
score, majority, known = (np.mean(one == wanted) for one in (found, np.array("O"), by_word))
print(f"accuracy {score:.3f}; majority {majority:.3f}, each word's commonest tag {known:.3f}")
