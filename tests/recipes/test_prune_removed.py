"""What gs.prune removes by name, and what gs.compact makes of what it set to 0."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from test_prune_at_once import IDS, encoder, llama, weights

import gossamer as gs
from gossamer.checks import as_python
from gossamer.recipes.removal import remove

NAMED: dict[str, Any] = {"heads": {0: [1, 2]}, "neurons": {1: range(0, 24, 2)}, "layers": None}


@pytest.mark.parametrize("changes", [{}, {"layers": [1], "neurons": {0: [3]}}], ids=["widths", "layers"])
def test_what_is_named_is_removed(changes: dict[str, Any]) -> None:
    model = encoder()
    named = {**NAMED, **changes}
    new, receipt = gs.prune(model, **named)
    wanted = remove(model, heads=named["heads"], neurons=named["neurons"], layers=named["layers"] or ())
    assert new.architecture == wanted.architecture
    assert all(torch.equal(one, wanted.state_dict()[name]) for name, one in new.state_dict().items())
    said = "2 heads, 1 neuron and 1 layer" if changes else "2 heads, 12 neurons and 0 layers"
    assert receipt.changes == (f"{said} were removed",)
    assert receipt.after["parameters"] < receipt.before["parameters"]
    assert receipt.settings == {name: as_python(value) for name, value in named.items() if value}
    json.dumps(receipt.to_dict())


def test_it_is_untrained_and_refuses_what_is_not_there() -> None:
    with pytest.raises(
        gs.InputError, match=r"^train is .*; it must be left out where heads, neurons or layers are named"
    ):
        gs.prune(encoder(), [{"text": "a"}], heads={0: [1]})
    with pytest.raises(gs.InputError, match=r"^heads\[0\] has 7"):
        gs.prune(encoder(), heads={0: [7]})
    with pytest.raises(gs.InputError, match=r"^layers has 9"):
        gs.prune(encoder(), layers=[9])


def test_numbers_of_numpy_and_sets_are_numbers() -> None:
    model = encoder()
    wanted, _ = gs.prune(model, heads={0: [1, 2]}, neurons={1: [3, 5]}, layers=None)
    new, receipt = gs.prune(model, heads={np.int64(0): np.array([1, 2])}, neurons={1: {3, 5}})
    assert new.architecture == wanted.architecture
    assert json.loads(json.dumps(receipt.to_dict()))["settings"] == {"heads": {"0": [1, 2]}, "neurons": {"1": [3, 5]}}
    assert gs.prune(model, layers=np.array([1]))[0].architecture == gs.prune(model, layers=[1])[0].architecture


@pytest.mark.parametrize("named", [{"layers": []}, {"heads": {}}, {"heads": {0: []}, "neurons": {1: np.array([])}}])
def test_nothing_that_is_named_is_refused(named: dict[str, Any]) -> None:
    """A list that came out empty is no pruning."""
    if named == {"heads": {}}:
        named = {"heads": {}, "layers": ()}
    with pytest.raises(gs.InputError, match=r"^heads, neurons and layers name nothing that is to be removed"):
        gs.prune(encoder(), **named)


@pytest.mark.parametrize("make", [encoder, llama])
@pytest.mark.parametrize(
    ("structure", "keep"),
    [(["heads", "neurons"], 0.5), ("hybrid", 0.3), ("layers", 0.75)],
    ids=["both", "hybrid", "layers"],
)
def test_compacted_it_is_smaller_and_gives_the_same(make: Any, structure: Any, keep: float) -> None:
    pruned, receipt = gs.prune(make(), score="magnitude", structure=structure, keep=keep, scope="global", block=(4, 4))
    small, made = gs.compact(pruned)
    torch.testing.assert_close(small(IDS).logits, pruned(IDS).logits, rtol=0, atol=1e-5)
    assert made.after["parameters"] < receipt.after["parameters"]
    if structure != "layers":
        assert sum(made.after["neurons"]) == int(keep * 48 + 0.5)
    again, _ = gs.prune(small, score="magnitude", structure="weight", keep=0.5)
    assert all(int(one.count_nonzero()) <= round(0.5 * one.numel()) for one in weights(again).values())
    if make is llama:
        prompt = torch.arange(5)[None]
        with_cache, without = (
            gs.generate(small, prompt, max_new_tokens=5, temperature=0.0, ignore_end=True, use_cache=used).ids
            for used in (True, False)
        )
        assert with_cache == without
