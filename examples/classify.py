"""A classifier of texts, fine-tuned and then used: which part of scipy is a function from, by the first line about it?

python examples/classify.py
"""

import numpy as np
from docstrings import functions
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import gossamer as gs

rows = [{"text": one.summary, "label": one.part} for one in functions()]
train, test = rows[:400], rows[400:]
top = ("attention.5", "feed_forward.5", "head")  # the last layer alone: few rows, quickly learnt
model, receipt = gs.finetune(
    "sample:minilm", train, epochs=6, batch=32, learning_rate=1e-3, settings={"train_only": top}
)

texts, labels = [row["text"] for row in test], [row["label"] for row in test]
found = gs.task("classify", model)(texts, top_k=1).labels
score = np.mean([best.label == label for (best,), label in zip(found, labels, strict=True)])

majority = max(map(labels.count, labels)) / len(labels)
words = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10))
words.fit([row["text"] for row in train], [row["label"] for row in train])
print(f"accuracy {score:.3f}; majority {majority:.3f}, bag of words {words.score(texts, labels):.3f}")
