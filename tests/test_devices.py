"""Devices by their names: those that are there, "auto", and one line for the others."""

import sys
from types import ModuleType
from typing import Any

import pytest
import torch

import gossamer.devices as module
from gossamer.devices import DEVICES, devices_there, find_device
from gossamer.errors import InputError


def test_the_cpu_is_always_there() -> None:
    assert devices_there()[0] == "cpu"
    assert set(devices_there()) <= set(DEVICES)
    assert find_device(None) is None
    for given in ("cpu", torch.device("cpu")):
        assert find_device(given) == torch.device("cpu")
    assert find_device("meta") == torch.device("meta")


@pytest.mark.parametrize(
    ("there", "chosen"),
    [(["cpu"], "cpu"), (["cpu", "mps"], "mps"), (["cpu", "cuda", "mps", "xla"], "cuda"), (["cpu", "xla"], "xla")],
)
def test_auto_is_the_first_accelerator(there: list[str], chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "devices_there", lambda: there)
    monkeypatch.setattr(module, "_xla", lambda name: name)
    made: list[Any] = []
    monkeypatch.setattr(torch, "empty", lambda _, device: made.append(device) or torch.ones(0))
    assert (find_device("auto") == "xla") == (chosen == "xla")
    assert made == ([] if chosen == "xla" else [chosen])


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "", "cpu:x", 3.5, "hip"])
def test_one_that_is_not_there_is_refused_in_one_line(device: Any) -> None:
    with pytest.raises(InputError, match=r"which is not there .*; this machine has cpu") as caught:
        find_device(device)
    assert "\n" not in str(caught.value)


def test_xla_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_xla", None)
    with pytest.raises(InputError, match=r"device is 'xla', which is not there .*: install torch_xla of torch's own"):
        find_device("xla")
    known = ModuleType("torch_xla")

    def device(number: int = 0) -> str:
        if number > 1:
            raise RuntimeError(f"no device {number}")
        return f"meta:{number}"

    known.device = device  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_xla", known)
    assert find_device("xla") == torch.device("meta", 0)
    assert find_device("xla:1") == torch.device("meta", 1)
    for name in ("xla:7", "xla:x"):
        with pytest.raises(InputError, match=f"device is '{name}', which torch_xla does not have"):
            find_device(name)
