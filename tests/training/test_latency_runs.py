"""Trainings that prune to a share of the model's time, by a table in their config."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from broken_runs import broken_off
from tiny_labels import labels_config
from tiny_runs import assert_same_run, journal

import gossamer as gs
from gossamer.settings import plain
from gossamer.training.config import TrainingConfig
from gossamer.training.pruning.pruner import Pruner
from gossamer.training.pruning.schedule import share_at
from gossamer.training.pruning.settings import PruningSettings
from gossamer.training.pruning.time_table import PartTimes, TimeTable, part_sizes


def table_of(folder: Path) -> TimeTable:
    """Of the encoder that the configs name: every unit takes as long as any other of its part."""
    sizes = part_sizes(gs.load(folder / "encoder").architecture)
    return TimeTable(
        parts={name: PartTimes(units=(0, size), milliseconds=(0.0, 3.0)) for name, size in sizes.items()}, rest=1.3
    )


def timed_config(folder: Path, name: str = "out", **changes: Any) -> dict[str, Any]:
    config = labels_config(folder, name)
    times = folder / "times.json"
    if not times.exists():
        times.write_text(json.dumps(plain(table_of(folder))))
    pruning = {"structure": ["heads", "neurons"], "latency": 0.6, "times": str(times), "scope": "global"}
    pruning |= {"warmup": 1, "cooldown": 2, "learning_rate": 0.1}
    return {**config, "pruning": {**pruning, **changes}}


def test_a_run_goes_on_exactly_with_the_table_that_its_file_held(tmp_path: Path) -> None:
    gs.train(timed_config(tmp_path, "unbroken"))
    broken_off(timed_config(tmp_path, "broken"), 5, KeyboardInterrupt)
    gs.train(timed_config(tmp_path, "broken"))
    assert_same_run(tmp_path / "broken", tmp_path / "unbroken", 6)
    lines = [line for line in journal(tmp_path / "broken") if line["split"] == "train"]
    assert [line["latency"] for line in lines] == [share_at("cubic", 0.6, 1, 4, step) for step in range(6)]
    assert [line["time"] <= line["latency"] for line in lines] == [True] * 6
    assert lines[-1]["kept"] < 1
    read = TrainingConfig.read(timed_config(tmp_path))
    assert read.pruning is not None
    assert read.pruning.times == table_of(tmp_path)
    assert TrainingConfig.read(read.to_dict()) == read
    other = table_of(tmp_path)
    (tmp_path / "times.json").write_text(json.dumps(plain(TimeTable(parts=other.parts, rest=2.0))))
    with pytest.raises(gs.InputError, match=r"pruning\.times\.rest was 1\.3, is 2\.0; put it back to go on"):
        gs.train(timed_config(tmp_path, "broken"))


@pytest.mark.parametrize("score", ["movement", "magnitude"])
def test_the_masks_of_each_step_take_what_the_schedule_allows(tmp_path: Path, score: str) -> None:
    timed_config(tmp_path)
    model = gs.load(tmp_path / "encoder")
    settings = PruningSettings(
        score=score, structure="neurons", latency=0.7, times=table_of(tmp_path), warmup=2, cooldown=2
    )
    pruner = Pruner(model, settings, 0, 10)
    if score == "movement":
        with torch.no_grad():
            for name in pruner.rates:
                model.get_parameter(name).normal_(generator=torch.Generator().manual_seed(0))
    width, whole = model.architecture.layers[0].feed_forward.width, table_of(tmp_path).milliseconds({})
    of_neurons = 3.0 * len(model.feed_forward)
    for step in range(10):
        pruner.before_step(step)
        told = pruner.numbers(step)
        most = share_at("cubic", 0.7, 2, 8, step) * whole
        kept = [number for number in range(width + 1) if whole - of_neurons * (1 - number / width) <= most + 1e-9]
        assert told["kept"] == max(kept) / width
    assert 0 < told["kept"] < 1


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"times": None}, r"^pruning\.times is None; with a latency it must be a table of the model's times, or the name"),
    ({"keep": 0.5}, r"^pruning\.keep is 0\.5; it must be left out where there is a latency"),
    ({"latency": None}, r"^pruning\.times is .*; it must be left out without a latency"),
    ({"latency": 0.1}, r"^latency is 0\.1; what has to stay of the model takes up to .* of its time: give 0\.\d+ or"),
    ({"score": "l0"}, r"^pruning\.score is 'l0', whose penalty decides what stays; with a latency take"),
    ({"structure": "block"}, r"^pruning\.structure is 'block'; single weights and blocks bring no time"),
    ({"times": {"parts": {}, "rest": 1.0}}, r"^the table of times is another model's: attention\.0 has 2 units, there"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=lambda one: str(one)[:40])
def test_what_cannot_be_is_refused_before_anything_is_computed(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(gs.InputError, match=message):
        gs.train(timed_config(tmp_path, **changes))
    assert not (tmp_path / "out" / "journal.jsonl").exists()
