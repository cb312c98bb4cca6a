"""Fine-tunings that are killed while held-out rows are read and models are saved, until they are let go.

`python killed_readings.py FOLDER [more]` makes `unbroken` and one folder for each moment of death in FOLDER, then
prints how often each was killed, as JSON. Beside each folder lies `NAME.safetensors`, the model that was returned, and
`NAME.json`, its receipt. Patience ends them, two epochs behind the best one.
"""

import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from killed_runs import after, before, child, dying, ended, halfway, killed_at
from safetensors.torch import save_file
from tiny_labels import save_encoder, texts

import gossamer as gs
from gossamer.training import loop, run
from gossamer.training.objectives import ClassificationObjective
from gossamer.training.resume import state

# Whose packages call the functions in them by the same names.
SAVING, RECIPE = import_module("gossamer.checkpoints.save"), import_module("gossamer.recipes.finetune")


def measuring(*calls: int) -> Callable[[int], None]:
    """Held-out rows are read behind steps 6, 12 (the best), 18 and 24, in three batches, checkpoints each four steps.

    calls: in which of a process's batches the first and the second die.
    """
    return lambda attempt: dying(ClassificationObjective, "measure", calls[attempt], after)


MOMENTS: dict[str, Callable[[int], None]] = {
    "middle of the best reading": measuring(5, 2),
    "middle of the last reading": measuring(11, 2),
    "best half written": lambda attempt: dying(SAVING, "save_file", 2 - attempt, halfway),
    "last half written": lambda _: dying(loop, "save", 1, before_files),
}
MORE_MOMENTS: dict[str, Callable[[int], None]] = {
    "head drawn": lambda _: dying(RECIPE, "train_on", 1, before),
    "middle of the first reading": measuring(2, 2),
    "middle of a worse reading": measuring(8, 2),
    "read": lambda attempt: dying(run, "evaluate", 2 - attempt, after),
    "in the journal": lambda attempt: dying(run, "value_of", 2 - attempt, before),
    "best written": lambda attempt: dying(run, "save", 2 - attempt, after),
    "best counted": lambda attempt: dying(run.Run, "save", (3, 1)[attempt], before),
    "checkpoint half written": lambda attempt: dying(state, "save_file", (5, 1)[attempt], halfway),
    "patience counted": lambda attempt: dying(run.Run, "save", (6, 1)[attempt], before),
    "last written": lambda _: dying(loop, "save", 1, after),
    "receipt": lambda _: dying(loop, "_write_receipt", 1, before),
    "best returned": lambda _: dying(RECIPE, "_best", 1, after),
}


def before_files(real: Callable[..., object], *args: object) -> None:
    """Die in the middle of the last model's weights."""
    dying(SAVING, "save_file", 1, halfway)
    real(*args)


def learn(folder: Path, name: str) -> Callable[[], None]:
    """A fine-tuning with the output `folder/name`, and what it returned beside it."""

    def tuned() -> None:
        rows, held_out = texts(48, seed=0), texts(20, seed=1)
        settings = {
            "checkpoints.every": 4, "schedule.name": "constant", "journal.live": False, "threads": 1,
            "batch.length": 8,
        }  # fmt: skip
        model, receipt = gs.finetune(
            str(folder / "encoder"), rows, held_out, epochs=20, batch=8, learning_rate=0.02, metric="accuracy",
            patience=2, output=folder / name, settings=settings,
        )  # fmt: skip
        save_file(model.state_dict(), folder / f"{name}.safetensors")
        told = receipt.to_dict()
        (folder / f"{name}.json").write_text(json.dumps({field: told[field] for field in TOLD}))

    return tuned


TOLD = ("steps", "tokens", "ended", "loss", "evaluation", "best", "parameters", "trained", "notes")


def main(folder: Path, moments: dict[str, Callable[[int], None]]) -> None:
    save_encoder(folder)
    assert ended(child(learn(folder, "unbroken"), lambda: None)) == 0
    print(json.dumps({name: killed_at(learn(folder, name), moment) for name, moment in moments.items()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), MORE_MOMENTS if sys.argv[2:] == ["more"] else MOMENTS)
