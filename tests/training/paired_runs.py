"""One of several processes that train together; `python paired_runs.py FOLDER RUNS`, started with torchrun's variables.

RUNS, as JSON: a list of [kind, name, begun, changes], each a config of `tiny_runs` to be trained in turn, or
"finetuned"; `begun`: the name of a run in whose middle it begins.
"""

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch.distributed as dist
from tiny_labels import classifier_config, texts
from tiny_pairs import byte_pairs_config
from tiny_runs import decoder_config, encoder_config

from gossamer.models import Model
from gossamer.recipes import finetune
from gossamer.training.loop import train
from gossamer.training.objectives.teachers import output_shards
from gossamer.training.receipt import TrainingReceipt

KINDS = {
    "decoder": decoder_config,
    "encoder": encoder_config,
    "classifier": classifier_config,
    "pairs": byte_pairs_config,
}


def finetuned(folder: Path, name: str, **settings: Any) -> tuple[Model, TrainingReceipt]:
    """A pretrained encoder, `folder/bert`, that gets a new head for rows in memory; its best epoch, measured."""
    return finetune(
        folder / "bert", texts(), 0.2, batch=8, metric="accuracy", learning_rate=0.01, output=folder / name,
        measure={"latency": False, "memory": False},
        settings={"journal.live": False, "threads": 1, "optimizer.eps": 1e-3, "epochs": None, **settings},
    )  # fmt: skip


def half_way(folder: Path, name: str, new: str, step: int) -> None:
    """A copy of a run that stands after this step."""
    (folder / new / "checkpoints").mkdir(parents=True)
    (folder / new / "checkpoints" / f"step-{step}").symlink_to(folder / name / "checkpoints" / f"step-{step}")
    (folder / new / "journal.jsonl").write_bytes((folder / name / "journal.jsonl").read_bytes())


def main(folder: Path, runs: list[tuple[str, str, str, dict[str, Any]]]) -> None:
    told = {}
    for kind, name, begun, changes in runs:
        if begun and os.environ["RANK"] == "0":
            half_way(folder, begun, name, changes["steps"] // 2)
        notes: list[str] = []
        if kind == "finetuned":
            model, receipt = finetuned(folder, name, **changes)
        else:
            model, receipt = train(KINDS[kind](folder, name, **changes), remark=notes.append)
        assert "FSDP2" not in str(warnings.filters), "the caller's warnings are not silenced for good"
        sums = {one: float(tensor.double().sum()) for one, tensor in model.state_dict().items()}
        told[name] = {
            "processes": receipt.conditions["processes"],
            "notes": notes,
            "sums": sums,
            "steps": receipt.steps,
        }
    (folder / f"told-{dist.get_rank()}.json").write_text(json.dumps(told))
    dist.destroy_process_group()


if __name__ == "__main__":
    warnings.simplefilter("error")
    output_shards.SHARD_ROWS = 4  # so that each process has some to write
    # torch warns of its own deprecations while DTensors are made.
    warnings.filterwarnings("default", category=FutureWarning, module="torch")
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
