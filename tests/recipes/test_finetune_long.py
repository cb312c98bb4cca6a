"""Long documents: a lengthened model reads them whole, another one as far as it goes, which is said."""

from pathlib import Path
from typing import Any

from finetune_rows import save_bare

import gossamer as gs
from gossamer.recipes import finetune
from gossamer.recipes.evaluate import evaluate

ROWS = [{"text": f"{'s ' * (54 + i % 5)}{label}", "label": label} for i in range(16) for label in ("film", "song")]
"""Twice as long as the model reads, with what tells the label behind all of that."""
SETTINGS: dict[str, Any] = {"journal.live": False, "threads": 1, "schedule.warmup": 0}


def test_the_end_of_a_long_text_is_learnt_by_a_lengthened_model_alone(tmp_path: Path) -> None:
    short = gs.load(save_bare(tmp_path, "bert"))
    longer, _ = gs.lengthen(short, to=64, window=16)
    said: list[str] = []
    given: dict[str, Any] = {"epochs": 8, "batch": 8, "learning_rate": 0.05, "settings": SETTINGS}
    model, receipt = finetune(longer, ROWS[8:], ROWS[:8], **given, output=tmp_path / "out", remark=said.append)
    assert model.architecture.length == 64
    assert not any("cut" in line for line in said)
    assert receipt.evaluation["accuracy"] == 1.0
    scored = evaluate(gs.load(tmp_path / "out" / "last"), ROWS)
    assert (scored.cut, scored.scores["accuracy"]) == (0, 1.0)
    given |= {"epochs": 1}
    model, receipt = finetune(short, ROWS[8:], ROWS[:8], **given, remark=said.append)
    assert receipt.evaluation["accuracy"] == 0.5
    assert "32 of 32 rows are longer than 32 tokens and were cut (batch.length)" in said
    scored = evaluate(model, ROWS)
    assert (scored.cut, scored.scores["accuracy"]) == (32, 0.5)


def test_a_tokenizer_that_reads_less_sets_the_length_of_training_and_of_evaluation(tmp_path: Path) -> None:
    """sentence-transformers' max_seq_length is one: what is trained is what tasks and `evaluate` read."""
    model = gs.load(save_bare(tmp_path, "bert"))
    assert model.tokenizer is not None
    model.tokenizer = model.tokenizer.with_max_length(12)
    said: list[str] = []
    tuned, _ = finetune(model, ROWS, epochs=1, settings=SETTINGS, remark=said.append)
    assert "32 of 32 rows are longer than 12 tokens and were cut (batch.length)" in said
    assert evaluate(tuned, ROWS).cut == 32
    finetune(model, ROWS, epochs=1, settings=SETTINGS, length=20, remark=said.append)
    assert "32 of 32 rows are longer than 20 tokens and were cut (batch.length)" in said
