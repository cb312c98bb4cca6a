"""Patterns and sizes of a config: what is written is read back to the same; a size of 0 is not one left out."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_runs import decoder_config

import gossamer as gs
from gossamer.patterns import Chunks, Fixed, Full, Hashed, Pattern, PerHead, Prefix, Sink, Strided, Union, Window
from gossamer.settings import plain
from gossamer.training.config import TrainingConfig
from gossamer.training.config.models import read_pattern

OBJECTS: list[Pattern] = [
    Full(causal=True),
    Window(16, 0),
    Window(4, 0, 2),
    Strided(4),
    Strided(4, "local"),
    Fixed(8, 2),
    Fixed(8, 2, part="block"),
    PerHead((Window(4, 0), 1), (Strided(4, "column"), 1)),
    Window(4, 0) | Strided(8, "column"),
    Window(4, 0) | Sink(2),
    Sink(3),
    Prefix(5),
    Chunks(8),
    Hashed(2, 4, 8),
    Hashed(1, (2, 4), None, seed=3),
]
SHORT = ["full", "window(16)", "window(4, 2)", "strided(4)", "fixed(8, 2)", "prefix(5)", "chunks(8)", "hashed(2, 4, 8)"]
GIVEN: list[Any] = [
    *OBJECTS,
    *SHORT,
    *(one.to_dict() for one in OBJECTS),
    [OBJECTS[1], "full", OBJECTS[3].to_dict()],
    (OBJECTS[1], OBJECTS[7]),
]


def patterns_of(config: TrainingConfig) -> list[Pattern]:
    assert config.model is not None
    return [one.attention.pattern for one in config.model.describe(257).layers]


@pytest.mark.parametrize("given", GIVEN, ids=str)
def test_every_pattern_is_written_and_read_back(tmp_path: Path, given: Any) -> None:
    fields = decoder_config(tmp_path)
    fields["model"]["decoder"]["pattern"] = given
    config = TrainingConfig.read(fields)
    several = list(given) if isinstance(given, list | tuple) else [given]
    assert patterns_of(config) == [read_pattern(several[i % len(several)]) for i in range(2)]
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(config.to_dict()))
    for again in (config.to_dict(), json.loads(json.dumps(config.to_dict())), path):
        back = TrainingConfig.read(again)
        assert back == config
        assert patterns_of(back) == patterns_of(config)
    changed = TrainingConfig.read(config, {"steps": 7})
    assert (changed.steps, changed.model) == (7, config.model)


@pytest.mark.parametrize("pattern", OBJECTS, ids=str)
def test_plain_values_keep_the_kind_of_a_pattern(pattern: Pattern) -> None:
    assert plain({"a": [pattern]}) == {"a": [pattern.to_dict()]}


def test_the_list_of_patterns_has_every_kind_that_a_decoder_takes() -> None:
    kinds = {type(one) for one in OBJECTS}
    assert Union in kinds
    assert {one.kind for one in kinds} == set(Pattern.kinds) - {"global"}


@pytest.mark.parametrize("name", ["vocabulary_size", "width", "head_size"])
@pytest.mark.parametrize("value", [0, -1])
def test_sizes_of_no_rows_are_refused_and_not_taken_for_unset(tmp_path: Path, name: str, value: int) -> None:
    fields = decoder_config(tmp_path)
    fields["model"]["decoder"][name] = value
    with pytest.raises(gs.InputError, match=rf"^model\.decoder\.{name} is {value}; it must be a whole number from 1"):
        TrainingConfig.read(fields)


def test_the_vocabulary_of_a_sparse_transformer_is_no_less_than_a_row(tmp_path: Path) -> None:
    fields = {"layers": 2, "hidden_size": 16, "heads": 2, "length": 32, "stride": 4, "vocabulary_size": 0}
    with pytest.raises(gs.InputError, match=r"^model\.sparse_transformer\.vocabulary_size is 0; it must be a whole"):
        TrainingConfig.read(decoder_config(tmp_path, model={"sparse_transformer": fields}))
