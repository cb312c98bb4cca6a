"""Any number of labels a text, fine-tuned and then used: which of the usual parameters does a function of scipy take?

python examples/several_labels.py
"""

import numpy as np
from docstrings import functions
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline

import gossamer as gs

NAMES = ("x", "out", "axis", "n", "a", "mode", "method", "output")
rows = [{"text": one.summary, "labels": [name for name in NAMES if name in one.parameters]} for one in functions()]
train, test = rows[:400], rows[400:]
top = ("attention.5", "feed_forward.5", "head")  # the last layer alone: few rows, quickly learnt
model, receipt = gs.finetune(
    "sample:minilm", train, epochs=15, batch=16, learning_rate=2e-3, settings={"train_only": top}
)


def table(labels):
    return np.array([[name in some for name in NAMES] for some in labels])


texts, wanted = [row["text"] for row in test], table(row["labels"] for row in test)
scores = gs.task("classify", model)(texts).labels
found = table([one.label for one in some if one.score > 0.5] for some in scores)

words = make_pipeline(TfidfVectorizer(), OneVsRestClassifier(LogisticRegression(C=10)))
words.fit([row["text"] for row in train], table(row["labels"] for row in train))
f1 = [f1_score(wanted, one, average="micro") for one in (found, np.ones_like(wanted), words.predict(texts))]
print(f"micro F1 {f1[0]:.3f}; every label {f1[1]:.3f}, bag of words {f1[2]:.3f}")
