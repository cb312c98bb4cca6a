"""Gossamer's own format: its number, what older versions wrote, and names that stay where modules are renamed."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

import gossamer as gs
from gossamer.errors import InputError
from gossamer.families.native import form
from gossamer.families.native.form import FORMAT
from gossamer.models import Model
from gossamer.models.decoders import decoder
from gossamer.patterns import Fixed, Window

OLD = [Path(__file__).parent / f"format-{number}" for number in range(5)]
"""Models that were saved when the format had this number (0: none yet), each with what it gave."""


def configured(directory: Path, **changes: Any) -> Path:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return directory


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    described = decoder(
        vocabulary_size=9, length=8, layers=2, hidden_size=8, heads=2, patterns=[Window(3, 0), Fixed(4, 1)]
    )
    return gs.save(Model(described), tmp_path / "model")


def test_the_number_is_written_and_read(saved: Path) -> None:
    written = json.loads((saved / "config.json").read_text())
    assert written["format"] == FORMAT == 4
    model = gs.load(saved)
    assert "format" not in model.extra_config
    assert json.loads((gs.save(model, saved.parent / "again") / "config.json").read_text()) == written


@pytest.mark.parametrize("number", range(FORMAT + 1))
def test_what_each_version_wrote_is_read(number: int, tmp_path: Path) -> None:
    assert json.loads((OLD[number] / "config.json").read_text()).get("format", 0) == number
    model, told = gs.load(OLD[number]), json.loads((OLD[number] / "outputs.json").read_text())
    batch = {name: torch.tensor(told[name]) for name in ("ids", "attention_mask") if name in told}
    logits = model(batch.pop("ids"), **batch).logits
    torch.testing.assert_close(logits, torch.tensor(told["logits"]), rtol=1e-5, atol=1e-5)
    assert gs.load(gs.save(model, tmp_path / "again")).architecture == model.architecture


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (5, "format is 5; this version of Gossamer reads formats up to 4: update it"),
        (10**400, "reads formats up to 4"),
        (-1, "format is -1; it must be a whole number, 0 to 4"),
        ("1", "format is '1'; it must be a whole number"),
        (True, "format is true; it must be a whole number"),
        (None, "format is null; it must be a whole number"),
    ],
)
def test_other_numbers_are_refused(saved: Path, number: Any, said: str) -> None:
    with pytest.raises(InputError) as refused:
        gs.load(configured(saved, format=number))
    assert said in str(refused.value).replace("True", "true").replace("None", "null")
    assert len(str(refused.value)) < 400


def test_upgrades_run_from_the_file_s_number_on(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a later version would read these files: fields of before, and names of before."""

    def renamed(fields: dict[str, Any]) -> dict[str, Any]:
        return {**fields, "architecture": fields["model"]}

    written = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**written, "format": FORMAT, "model": written.pop("architecture")}))
    monkeypatch.setattr(form, "FORMAT", FORMAT + 1)
    monkeypatch.setattr(form, "_UPGRADES", (*form._UPGRADES, renamed))
    monkeypatch.setattr(form, "_KEYS", (*form._KEYS, {"nothing": "as before"}))
    assert len(gs.load(saved).architecture.layers) == 2


def test_every_tensor_has_its_name_in_the_table(saved: Path) -> None:
    with safe_open(saved / "model.safetensors", "pt") as file:
        names = set(file.keys())
    assert names == {*gs.load(saved).state_dict()} - {"head.decoder.weight"}


@pytest.mark.parametrize("bare", [True, False])
def test_another_head_than_the_saved_one_is_named(saved: Path, bare: bool) -> None:
    if bare:
        saved = gs.save(gs.load(saved, head="none"), saved.parent / "bare")
    how = "without one" if bare else "with 'causal-lm'"
    with pytest.raises(InputError, match=f"head is 'masked-lm'; this checkpoint was saved {how}: leave head out$"):
        gs.load(saved, head="masked-lm")
