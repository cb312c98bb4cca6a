"""What users of other libraries give first: names for models, True for progress, numbers beyond floats."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import gossamer as gs

Q = torch.zeros(1, 1, 4, 8)
HUGE = 10**400
DIGITS = 10**5000

CALLS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "lengthen a name": (lambda model: gs.lengthen("minilm"), "load it first: gossamer.load.'minilm'"),  # type: ignore[arg-type]
    "lengthen a path": (lambda model: gs.lengthen(Path("m")), "load it first: gossamer.load.'m'"),  # type: ignore[arg-type]
    "lengthen nothing": (lambda model: gs.lengthen(None), "model is None, no model"),  # type: ignore[arg-type]
    "lengthen to": (lambda model: gs.lengthen(model, to=DIGITS), "to is of type int, too large to show"),
    "lengthen window": (lambda model: gs.lengthen(model, window=DIGITS), "window is of type int, too large to show"),
    "save a name": (lambda model: gs.save("m", "x"), "load it first: gossamer.load.'m'"),  # type: ignore[arg-type]
    "train a name": (lambda model: gs.train({}, model="x"), "load it first: gossamer.load.'x'"),  # type: ignore[arg-type]
    "generate a name": (lambda model: gs.generate("m", "x"), "load it first: gossamer.load.'m'"),  # type: ignore[arg-type]
    "task of a name": (lambda model: gs.task("embed", "m"), "load it first: gossamer.load.'m'"),  # type: ignore[call-overload]
    "progress": (lambda model: gs.task("embed", model)(["a"], progress=True), "progress is True; give a function"),
    "scale": (lambda model: gs.attend(Q, Q, Q, gs.Full(), scale=HUGE), "scale is 10*.*; it must be a finite number"),
    "scale of digits": (lambda model: gs.attend(Q, Q, Q, gs.Full(), scale=DIGITS), "scale is of type int, too large"),
    "scale nan": (lambda model: gs.attend(Q, Q, Q, gs.Full(), scale=float("nan")), "scale is nan; it must be a finite"),
    "explain": (lambda model: gs.explain(Q, Q, Q, gs.Full(), scale=HUGE), "scale is 10*.*; it must be a finite number"),
    "window": (lambda model: gs.Window(DIGITS, 0), "before is of type int, too large to show"),
    "load": (lambda model: gs.load(model), "the model is Model"),
}


@pytest.fixture(scope="module")
def model(minilm: Path) -> Any:
    return gs.load(minilm)


@pytest.mark.parametrize("name", CALLS)
def test_what_is_none_of_its_kind_is_said_in_one_line(model: Any, name: str) -> None:
    call, match = CALLS[name]
    with pytest.raises(gs.InputError, match=match) as caught:
        call(model)
    assert "\n" not in str(caught.value)


def test_a_directory_as_data_is_said_to_be_one(tmp_path: Path) -> None:
    for name, why in ((tmp_path, "is a directory"), (tmp_path / "none", "no such file")):
        with pytest.raises(gs.InputError, match=f"data.train is .*: {why}; name a token file"):
            gs.train({"data": {"train": str(name)}, "steps": 1})
