"""The main job from end to end: load, lengthen, read, compare; every number measured here and now."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gossamer import __version__
from gossamer.checkpoints import load
from gossamer.cli.demo import experiments
from gossamer.cli.demo.material import Material, check_draw, draw_material
from gossamer.cli.demo.plots import Pictures, draw_pictures
from gossamer.cli.output import progress, working
from gossamer.errors import InputError
from gossamer.inspection import summary
from gossamer.inspection.processor import read_processor
from gossamer.models.model import Model
from gossamer.recipes import lengthen
from gossamer.tasks import Embed

__all__ = ["Settings", "run"]

SAMPLE = "sample:minilm"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the demo is asked to do; `speeches=None` is all of them, `model=None` the sample model."""

    speeches: int | None
    seed: int
    model: str | None
    to: int
    window: int
    lengths: tuple[int, ...]
    dtype: str


@dataclass
class Clock:
    """Seconds by stage."""

    stages: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.stages[name] = self.stages.get(name, 0.0) + time.perf_counter() - start


def run(settings: Settings) -> tuple[dict[str, Any], Pictures]:
    """Do the whole job and return its receipt, JSON-ready, and the pictures for the report."""
    check_draw(settings.speeches, settings.seed)
    clock = Clock()
    with clock.stage("load and lengthen"), working("loading the model"):
        short = _load(settings)
        limits = _read_whole_table(short) | {"long_model": settings.to}
        long, receipt = lengthen(short, to=settings.to, window=settings.window)
    with clock.stage("choose and tokenise speeches"), working("reading the speeches"):
        material = draw_material(short, settings.speeches, settings.seed)
    with clock.stage("outputs unchanged on short text"):
        unchanged = experiments.unchanged(short, long, material, settings.window)
    with clock.stage("time and memory by length"), progress("timing both models by length") as report:
        scaling = experiments.scaling(short, settings.lengths, settings.window, report)
    reading = _read(short, long, material, clock)
    with clock.stage("retrieval and years"):
        retrieval, differences = experiments.retrieval(reading, material)
        years = experiments.years(reading, material, settings.seed)
    result = {
        "conditions": _conditions(settings),
        "settings": asdict(settings) | {"lengths": list(settings.lengths)},
        "material": material.describe() | _passes(long, material),
        "limits": limits,
        "content_tokens": {str(size): content for size, content in experiments.contents(short).items()},
        "lengthen": receipt.to_dict(),
        "unchanged": unchanged,
        "scaling": scaling,
        "reading": reading.describe(),
        "retrieval": retrieval,
        "spans_minus_chunks": differences,
        "years": years,
        "model": str(summary(long, lengths=settings.lengths)),
        "seconds": {**clock.stages, "whole": sum(clock.stages.values())},
    }
    result = finite(result)
    return result, draw_pictures(result, long)


def _load(settings: Settings) -> Model:
    if settings.model is None:
        return load(SAMPLE, dtype=settings.dtype)
    model = load(settings.model, head="embed", dtype=settings.dtype)
    most = max(experiments.SIZES)
    if model.architecture.length < most:
        raise InputError(
            f"--model is {settings.model!r}, which reads {model.architecture.length} tokens; the demo compares chunks "
            f"of up to {most}: give an encoder that reads as many"
        )
    return model


def _read_whole_table(short: Model) -> dict[str, int]:
    """Let the short model read as many tokens as it has positions for; that, and what its files allow a text."""
    own, whole = short.reading_length(), short.architecture.length
    short.tokenizer = short.tokenizer.with_max_length(whole)
    return {"short_model_files": own, "short_model": whole}


def _passes(long: Model, material: Material) -> dict[str, int]:
    """How many speeches the long model reads at once; the others take it several passes."""
    capacity = Embed(long).capacity
    return {"speeches_in_one_pass": sum(len(ids) <= capacity for ids, _ in material.tokens)}


def finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: null stands for them."""
    if isinstance(value, dict):
        return {name: finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _read(short: Model, long: Model, material: Material, clock: Clock) -> experiments.Reading:
    reading = experiments.Reading(material)
    for name, steps in (
        ("read the passages (short model)", experiments.read_passages(short, material)),
        ("read whole (long model)", experiments.read_whole(short, long, material)),
        ("read in chunks (short model)", experiments.read_chunks(short, material)),
    ):
        with clock.stage(name), progress(name) as report:
            steps(reading, report)
    return reading


def _conditions(settings: Settings) -> dict[str, Any]:
    return {
        "date": time.strftime("%Y-%m-%d"),
        "gossamer": __version__,
        **({"commit": commit} if (commit := _commit()) else {}),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": read_processor()[0],
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "dtype": settings.dtype,
        "batch": "1 text where timed by length, up to 4,096 tokens where speeches are read",
        "seed": settings.seed,
    }


def _commit() -> str | None:
    """The git commit of a checkout that the package lies in; None for an installed one."""
    package = Path(__file__).resolve().parents[2]
    if not (package.parents[1] / ".git").exists():  # an environment may lie in somebody else's repository
        return None
    command = ["git", "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(command, cwd=package, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
