"""Half of a sentence encoder's layers learn to give its vectors: their queries search the whole model's index.

python examples/distill.py
"""

import numpy as np
from docstrings import functions

import gossamer as gs
from gossamer.recipes.student import make_student

known, new = functions()[:400], [one for one in functions()[400:] if one.details]
texts = [{"text": text} for one in known for text in (one.summary, one.details) if text]
teacher = gs.load("sample:minilm")
settings = {"batch.rows": 32, "batch.length": 32, "optimizer.learning_rate": 5e-4, "schedule.warmup": 0.1}
student, receipt = gs.distill(teacher, texts, objective="embed", epochs=2, settings=settings)
print(receipt)

index = gs.task("embed", teacher)([one.details for one in new]).vectors


def recall(encoder):
    """How often the nearest text of the teacher's index is the one that belongs to the query."""
    queries = gs.task("embed", encoder)([one.summary for one in new]).vectors
    return np.mean((queries @ index.T).argmax(dim=1).numpy() == np.arange(len(new)))


print(
    f"recall@1 {recall(student):.3f}; untrained layers {recall(make_student(teacher)):.3f}, "
    f"chance {1 / len(new):.3f}, the teacher itself {recall(teacher):.3f}"
)
