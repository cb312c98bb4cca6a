"""A distillation that is killed again and again while its teacher's outputs are written, in forks of one process.

`python killed_caches.py FOLDER` makes `unbroken` and `killed` in FOLDER, each beside a cache, and prints how often the
second one was killed. Each start dies at the next of MOMENTS; the last one is let go.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from killed_runs import after, before, child, dying, ended
from pyarrow import parquet
from tiny_teachers import distilling

from gossamer import atomic_files
from gossamer.training import run
from gossamer.training.loop import train
from gossamer.training.objectives.teachers import output_shards, teacher_cache

STEPS = 4


def half_a_file(real: Callable[..., None], table: Any, file: Any, **settings: Any) -> None:
    real(table, file, **settings)
    file.flush()
    file.truncate(file.tell() // 2)


MOMENTS: list[Callable[[], None]] = [
    lambda: dying(teacher_cache, "write_texts", 1, before),
    lambda: dying(teacher_cache, "write_texts", 1, after),
    lambda: dying(parquet, "write_table", 1, half_a_file),
    lambda: dying(atomic_files, "put_whole", 1, after),
    lambda: dying(output_shards.OutputShards, "write", 2, after),
    lambda: dying(run.Run, "update", 4, before),
]


def settings(folder: Path, name: str) -> dict[str, Any]:
    changes = {"steps": STEPS, "checkpoints": {"every": 2}, "evaluation": {"held_out": 6, "every": 2}}
    config = distilling(folder, "vectors", name, **changes)
    return {**config, "objective": {**config["objective"], "cache": str(folder / f"{name}-cache")}}


def main(folder: Path) -> None:
    output_shards.SHARD_ROWS = 3
    killed = partial(train, settings(folder, "killed"))
    assert ended(child(partial(train, settings(folder, "unbroken")), lambda: None)) == 0
    deaths = sum(ended(child(killed, moment)) != 0 for moment in MOMENTS)
    assert ended(child(killed, lambda: None)) == 0
    print(deaths)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
