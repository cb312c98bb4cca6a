"""Configs: what is read, and one line for each thing that is wrong, before anything is computed."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_runs import decoder_config, encoder_config, write_text

import gossamer as gs
from gossamer.errors import InputError
from gossamer.patterns import Fixed, Full, Strided, Window
from gossamer.training.config import TrainingConfig
from gossamer.training.config.models import read_pattern
from gossamer.training.config.reading import changed
from gossamer.training.objectives import DistillationObjective, Match, Objective
from gossamer.training.optimization.optimizers import OptimizerSettings


def test_a_config_is_written_and_read_back_equal(tmp_path: Path) -> None:
    for fields in (decoder_config(tmp_path), encoder_config(tmp_path)):
        config = TrainingConfig.read(fields)
        assert TrainingConfig.read(config.to_dict()) == config
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(config.to_dict()))
        assert TrainingConfig.read(tmp_path / "c.yaml") == config
        assert TrainingConfig.read(config) is config


def test_yaml_numbers_short_forms_and_changes(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("text")
    (tmp_path / "c.yaml").write_text(
        f"model: some/model\ndata: {tmp_path / 't.txt'}\nobjective: masked-lm\noptimizer:\n  learning_rate: 3e-4\n"
        f"  betas: [0.9, 0.95]\nschedule: inverse-sqrt\nepochs: 2\noutput: {tmp_path / 'out'}\n"
    )
    config = TrainingConfig.read(tmp_path / "c.yaml", {"optimizer.name": "lamb", "model.new_head": True})
    assert config.model is not None
    assert (config.model.checkpoint, config.model.new_head) == ("some/model", True)
    assert (config.optimizer.name, config.optimizer.learning_rate, config.optimizer.betas) == (
        "lamb",
        3e-4,
        (0.9, 0.95),
    )
    assert (config.objective.kind, config.schedule.name, config.epochs) == ("masked-lm", "inverse-sqrt", 2.0)
    assert config.data.inputs == (str(tmp_path / "t.txt"),)


def test_changed_makes_the_way_to_a_value() -> None:
    before = {"a": {"b": 1, "c": 2}, "d": 3}
    assert changed(before, "a.b", 5) == {"a": {"b": 5, "c": 2}, "d": 3}
    assert changed(before, "e.f", 6) == {**before, "e": {"f": 6}}
    assert before == {"a": {"b": 1, "c": 2}, "d": 3}
    with pytest.raises(InputError, match=r"^a is 'short'; write it as a mapping of fields, for a\.b to be changed$"):
        changed({"a": "short"}, "a.b", 5)


def test_a_change_leaves_the_rest_of_settings_that_are_objects(tmp_path: Path) -> None:
    """Objectives are of a class for each kind, and hold settings that no file has, such as a list of matches."""
    aim = Objective(kind="classification", labels=("no", "yes"), label_field="stars")
    fields = {
        "objective": DistillationObjective(task=aim, soft_weight=3.0, matches=(Match(teacher=1, student=0),)),
        "optimizer": OptimizerSettings(name="lamb", learning_rate=0.5),
        "data": str(write_text(tmp_path / "text.txt")),
        "output": str(tmp_path / "out"),
        "steps": 2,
    }
    changes = {"objective.temperature": 3.0, "objective.task.label_field": "label", "optimizer.learning_rate": 0.25}
    config = TrainingConfig.read(fields, changes)
    objective: Any = config.objective
    assert (objective.temperature, objective.soft_weight) == (3.0, 3.0)
    assert objective.matches == (Match(teacher=1, student=0),)
    assert objective.task == dataclasses.replace(aim, label_field="label")
    assert (config.optimizer.name, config.optimizer.learning_rate) == ("lamb", 0.25)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("full", Full(causal=True)),
        ("window(8)", Window(8, 0)),
        (" window ( 8 , 2 ) ", Window(8, 0, 2)),
        ("strided(4)", Strided(4)),
        ("fixed(8, 2)", Fixed(8, 2)),
        ({"pattern": "strided", "stride": 4, "part": "local"}, Strided(4, "local")),
    ],
)
def test_patterns_have_short_forms(given: object, meant: object) -> None:
    assert read_pattern(given) == meant


def test_a_decoder_takes_patterns_in_turn(tmp_path: Path) -> None:
    fields = decoder_config(tmp_path)
    fields["model"]["decoder"] |= {"layers": 3, "pattern": ["window(4)", "full"], "positions": [4, 8]}
    model = TrainingConfig.read(fields).model
    assert model is not None
    architecture = model.describe(257)
    assert [str(one.attention.pattern) for one in architecture.layers] == [
        str(Window(4, 0)),
        str(Full(True)),
        str(Window(4, 0)),
    ]
    assert architecture.embeddings.positions.axes == (4, 8)
    assert architecture.embeddings.vocabulary_size == 257


WRONG = [
    ({"stepps": 3}, r"stepps is no field; did you mean 'steps'\?"),
    ({"optimizer.lr": 1}, r"optimizer\.lr is no field; did you mean|known are name, learning_rate"),
    ({"optimizer.learning_rate": "fast"}, r"optimizer\.learning_rate is 'fast'; it must be a number"),
    ({"optimizer.learning_rate": -1}, r"optimizer\.learning_rate is -1; it must be a finite number above 0"),
    ({"optimizer.name": "sgd"}, r"optimizer\.name is 'sgd'; it must be one of 'adamw', 'adafactor', 'lamb'"),
    ({"steps": True}, r"steps is True; it must be a whole number"),
    ({"steps": 0}, r"steps is 0; it must be a whole number from 1"),
    ({"steps": 2.5}, r"steps is 2\.5; it must be a whole number"),
    ({"epochs": 1.0}, r"epochs is 1\.0; it must be left out where there are steps"),
    ({"steps": None}, r"steps is None; it must be given, or epochs or minutes"),
    ({"steps": None, "minutes": 1}, r"schedule\.name is 'cosine' .* need a number of steps"),
    ({"precision": "float8"}, r"precision is 'float8'; it must be one of 'float32'"),
    ({"batch.rows": 0}, r"batch\.rows is 0; it must be a whole number from 1"),
    ({"batch.accumulation": 4}, r"batch\.accumulation is 4; it must be a divisor of batch\.rows, 6"),
    ({"batch.length": 1}, r"batch\.length is 1; it must be a whole number from 2"),
    ({"data.train": "nowhere.txt"}, r"data\.train is 'nowhere\.txt': no such file"),
    ({"data.train": 7}, r"data\.train is 7; it must be a text or a list"),
    ({"data.split": "pages"}, r"data\.split is 'pages'; it must be one of 'file'"),
    ({"data": None}, r"data is None; it must be a mapping of fields"),
    ({"model": {}}, r"model: is empty; give one of checkpoint, architecture, decoder"),
    ({"model.checkpoint": "x"}, r"model: holds checkpoint and decoder; give one of"),
    ({"model.decoder.heads": 3}, r"model\.decoder\.heads is 3; it must be a divisor of 16"),
    ({"model.decoder.pattern": "windw(8)"}, r"model\.decoder\.pattern is 'windw\(8\)'; it must be one of full"),
    ({"model.decoder.pattern": "window"}, r"model\.decoder\.pattern is 'window'; it must be one of full"),
    ({"model.decoder.pattern": {"pattern": "full", "causal": False}}, r"model\..*pattern is .*it must be causal"),
    ({"model.decoder.layers": None}, r"model\.decoder\.layers is None; it must be a whole number"),
    ({"evaluation.every": 5}, r"evaluation\.every is 5; it must be left out, or held_out or data given"),
    ({"evaluation.held_out": 1.5}, r"evaluation\.held_out is 1\.5; it must be a number of documents"),
    ({"checkpoints.keep": 0}, r"checkpoints\.keep is 0; it must be a whole number from 1"),
    ({"recompute": "all"}, r"recompute is 'all'; it must be one of 'nothing'"),
    ({"seed": -1}, r"seed is -1; it must be a whole number, 0 or more"),
    ({"sample": {"prompt": "x", "top_p": 0}}, r"sample\.top_p is 0; it must be a share above 0"),
    ({"objective": "masked-lm", "sample": "x"}, r"sample is .*it must be left out: only a causal-lm"),
    ({"clipping": 0}, r"clipping is 0; it must be a finite number above 0"),
    ({"train_only": "embeddings"}, r"train_only is 'embeddings'; it must be a list"),
    ({"frozen_rows": {"embeddings.position.weight": 0}}, r"frozen_rows\.embeddings\.position\.weight is 0"),
    ({"device": "tpu"}, r"device is 'tpu'; it must be one of 'cpu'"),
    ({"schedule.warmup": 50}, r"schedule\.warmup is 50; it must be at most the number of steps, 6"),
    ({"steps": None, "epochs": 1e308}, r"epochs is 1e\+308; it must be at most 1,000,000"),
    ({"threads": 3_000_000_000}, r"threads is 3000000000; it must be a whole number from 1 to 4096"),
    ({"objective.share": 0}, r"objective\.share is 0; it must be a rate above 0"),
    ({"evaluation": {"held_out": 1, "patience": 2}}, r"evaluation\.patience is 2; it must be left out without"),
]


def with_changes(fields: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    for path, value in changes.items():
        fields = changed(fields, path, value)
    return fields


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_what_is_wrong_is_said_before_any_compute(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    fields = with_changes(decoder_config(tmp_path), changes)
    with pytest.raises(gs.InputError, match=message) as caught:
        gs.train(fields)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


TOGETHER = [
    ({"batch.length": 64}, r"batch\.length is 64; the model reads 32 tokens"),
    ({"objective": "masked-lm"}, r"objective\.kind is 'masked-lm', but the model has the head 'causal-lm'"),
    ({"model.decoder.vocabulary_size": 100}, r"vocabulary of 257, the model's has 100"),
    ({"model": None}, r"model is missing; name a checkpoint"),
    ({"model": {"checkpoint": "/no/such/place"}}, r"'/no/such/place'"),
    ({"train_only": ["embeddings.positions"]}, r"train_only\[0\] is 'embeddings\.positions'.*'embeddings\.position'"),
    ({"frozen_rows": {"embeddings.position.weight": 33}}, r"is 33; the table has 32 rows"),
    ({"frozen_rows": {"embeddings.position": 3}}, r"nearest is 'embeddings\.position\.weight'"),
    ({"sample": {"prompt": "long " * 10}}, r"sample\.prompt is 50 tokens long; the model reads 32"),
    ({"data.tokenizer": "/no/such/place"}, r"'/no/such/place'"),
    (
        {"data.split": "file", "evaluation.held_out": 0.05},
        r"evaluation\.held_out is 0\.05, but the data are one document: data\.split, 'lines'",
    ),
]


@pytest.mark.parametrize(("changes", "message"), TOGETHER)
def test_what_does_not_fit_together_is_said_before_any_step(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(gs.InputError, match=message):
        gs.train(with_changes(decoder_config(tmp_path), changes))
    assert not (tmp_path / "out" / "journal.jsonl").exists()
    assert not (tmp_path / "out" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("steps: 1\nsteps: 2\n", r"line 2, column 1: the key 'steps' is there twice"),
        ("optimizer: {name: adamw, name: lamb}\n", r"the key 'name' is there twice"),
        ("a: [1, 2\n", r"is no YAML \(line 2"),
        ("- a\n- b\n", r"holds \['a', 'b'\]; it must hold fields"),
        ("", r"holds None; it must hold fields"),
        ("!!python/object/apply:os.system ['true']\n", r"is no YAML"),
        ("steps: 5\n", r"c\.yaml: data is missing; give a mapping of fields"),
        ("1: 2\n", r"c\.yaml: the config is"),
    ],
)
def test_files_that_are_no_config(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "c.yaml").write_text(content)
    with pytest.raises(gs.InputError, match=message):
        TrainingConfig.read(tmp_path / "c.yaml")


def test_places_that_are_no_config(tmp_path: Path) -> None:
    (tmp_path / "big.yaml").write_bytes(b"x" * (2**20 + 1))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for source, message in (
        (tmp_path, "is a directory"),
        (tmp_path / "none.yaml", "no such file"),
        (tmp_path / "big.yaml", "holds 1,048,577 bytes"),
        (tmp_path / "binary.yaml", "cannot be read|is no YAML"),
        (5, "the config is 5; give a YAML file"),
    ):
        with pytest.raises(gs.InputError, match=message):
            TrainingConfig.read(source)  # type: ignore[arg-type]


def test_every_field_says_what_it_is() -> None:
    """The docs page names every field."""
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    missing = [one.name for one in dataclasses.fields(TrainingConfig) if not re.search(rf"\b{one.name}\b", page)]
    assert missing == []
