"""Answers out of a text, fine-tuned and then used: which of its parameters does a function's documentation describe?

python examples/answer.py
"""

import numpy as np
from docstrings import functions

import gossamer as gs

rows = []
for one in functions():
    names = list(one.parameters)
    context = f"{one.name}: {', '.join(names)}"
    for i, (name, about) in enumerate(one.parameters.items()):
        if 2 < len(names) < 7 and len(about.split()) > 3:
            start = len(f"{one.name}: ") + sum(len(f"{before}, ") for before in names[:i])
            rows.append(
                {"question": about[:80], "context": context, "answers": {"text": [name], "answer_start": [start]}}
            )
train, test = rows[:400], rows[-200:]
model, receipt = gs.finetune(
    "sample:minilm", train, epochs=3, batch=32, learning_rate=3e-4, settings={"batch.length": 64}
)

questions, contexts = [row["question"] for row in test], [row["context"] for row in test]
found = gs.task("answer", model)(questions, contexts).answers
score = np.mean([best[0].text == row["answers"]["text"][0] for best, row in zip(found, test, strict=True)])


def spelt_in(row):
    """The longest name that stands in the question, else the first."""
    names = row["context"].partition(": ")[2].split(", ")
    return max(names, key=lambda name: len(name) * (name.lower() in row["question"].lower()))


first = np.mean([row["context"].partition(": ")[2].split(", ")[0] == row["answers"]["text"][0] for row in test])
spelt = np.mean([spelt_in(row) == row["answers"]["text"][0] for row in test])
print(f"exact match {score:.3f}; the first name {first:.3f}, a name that the question spells {spelt:.3f}")
