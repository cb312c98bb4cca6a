"""Half of the layers of a sentence encoder learn from texts alone to give the vectors of the whole.

python examples/distill.py
"""

from docstrings import functions

import gossamer as gs
from gossamer.surgery.students import make_student

known, new = functions()[:400], [one for one in functions()[400:] if one.details]
texts = [{"text": text} for one in known for text in (one.summary, one.details) if text]
teacher = gs.load("sample:minilm")
settings = {"batch.rows": 32, "batch.length": 32, "optimizer.learning_rate": 5e-4, "schedule.warmup": 0.1}
student, receipt = gs.distill(teacher, texts, objective="embed", epochs=2, settings=settings)
print(receipt)

wanted = gs.task("embed", teacher)([one.details for one in new]).vectors


def closeness(encoder):
    """The mean cosine of an encoder's vectors of new texts and the teacher's, which are of length 1."""
    vectors = gs.task("embed", encoder)([one.details for one in new]).vectors
    return float((vectors * wanted).sum(dim=1).mean())


mean = wanted.mean(dim=0)
apart = float((wanted @ mean).mean() / mean.norm())
print(
    f"cosine to the teacher {closeness(student):.3f}; untrained layers {closeness(make_student(teacher)):.3f}, "
    f"the mean vector {apart:.3f}"
)
