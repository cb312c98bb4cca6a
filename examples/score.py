"""A regression, fine-tuned on rows with a score and then used: in which year was a passage of a speech spoken?

python examples/score.py
"""

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

import gossamer as gs
from gossamer.text import passages, speeches

rng = np.random.default_rng(0)
held_out = sorted({one.speaker for one in speeches()})[::4]  # nobody speaks in both parts


def rows(speaks_in_test, count):
    chosen = [one for one in speeches() if (one.speaker in held_out) == speaks_in_test]
    centuries = {one: (one.year - 1900) / 100 for one in chosen}  # numbers of about 1 are learnt best
    return [{"text": text, "score": centuries[one]} for one in chosen for text in passages(one.text, 25, count, rng)]


train, test = rows(False, 2), rows(True, 4)
top = ("attention.5", "feed_forward.5", "head")  # the last layer alone: few rows, quickly learnt
model, receipt = gs.finetune(
    "sample:minilm", train, epochs=3, batch=32, learning_rate=1e-3, settings={"train_only": top}
)
texts, scores = [row["text"] for row in test], np.array([row["score"] for row in test])
found = gs.task("classify", model)(texts).labels
years = 100 * np.mean(np.abs([one.score for (one,) in found] - scores))

words = make_pipeline(TfidfVectorizer(), Ridge())
words.fit([row["text"] for row in train], [row["score"] for row in train])
by_words = 100 * np.mean(np.abs(words.predict(texts) - scores))
mean = 100 * np.mean(np.abs(np.mean([row["score"] for row in train]) - scores))
print(f"years off {years:.1f}; the mean year {mean:.1f}, bag of words {by_words:.1f}")
