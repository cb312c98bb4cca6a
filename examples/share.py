"""A sentence encoder in ALBERT's form, two layers sharing their weights, that learns from the encoder it was made of.

python examples/share.py
"""

from docstrings import functions

import gossamer as gs

known, new = functions()[:400], [one for one in functions()[400:] if one.details]
texts = [{"text": text} for one in known for text in (one.summary, one.details) if text]
model = gs.load("sample:minilm")
form = {"groups": 3, "embedding_size": 128, "start": 1}
settings = {"batch.rows": 32, "batch.length": 32, "optimizer.learning_rate": 5e-4, "schedule.warmup": 0.1}
shared, receipt = gs.share(model, texts, **form, epochs=3, settings=settings)
unlearnt, _ = gs.share(model, **form)
print(receipt)

wanted = gs.task("embed", model)([one.details for one in new]).vectors


def closeness(encoder):
    """The mean cosine of an encoder's vectors of new texts and the whole model's, which are of length 1."""
    vectors = gs.task("embed", encoder)([one.details for one in new]).vectors
    return float((vectors * wanted).sum(dim=1).mean())


mean = wanted.mean(dim=0)
apart = float((wanted @ mean).mean() / mean.norm())
print(
    f"cosine to the whole {closeness(shared):.3f}; before it learnt {closeness(unlearnt):.3f}, "
    f"the mean vector {apart:.3f}"
)
