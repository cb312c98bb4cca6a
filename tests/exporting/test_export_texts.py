"""Models of whole texts as graphs: any batch and any length, windows as blocks, global tokens, every head."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from exported_models import LONGEST, encoder, fed, longformer, peak_mib, session
from family_models import ours

import gossamer as gs
from gossamer.exporting import Exported
from gossamer.models import Model
from gossamer.patterns import Window

SCALE = 20.0


@pytest.fixture(scope="module")
def long_model() -> Model:
    """Its scores go to 200 and more, as those of trained models do: past what an exponential can hold."""
    return longformer(length=LONGEST, scale=SCALE)


@pytest.fixture(scope="module")
def long_graph(long_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return gs.export(long_model, tmp_path_factory.mktemp("long") / "out")


def texts(batch: int, length: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Padded at the end, at the beginning and in between, by turns."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 40, (batch, length), generator=generator)
    mask = torch.ones_like(ids)
    for i in range(1, batch):
        gap = max(length // 4, 0)
        start = (length - gap, 0, length // 2)[i % 3]
        mask[i, start : start + gap] = 0
    types = (torch.arange(length) > length // 2).long().expand(batch, -1).clone()
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


@pytest.mark.parametrize("length", [1, 2, 5, 10, 11, 12, 24, 63, 64, 65, 127, 128, 129, 200, 1000])
def test_one_file_reads_every_length_as_the_model_does(long_model: Model, long_graph: Exported, length: int) -> None:
    """Below, at and above the window of 11, on and off blocks of 64; the example had 2 texts of 24 tokens."""
    run = session(long_graph.path)
    for batch in (1, 2, 5):
        given = texts(batch, length, seed=batch)
        with torch.no_grad():
            wanted = long_model(**given).logits
        found = torch.from_numpy(run.run(None, fed(**given))[0])
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_first_token_is_global_at_every_length(long_graph: Exported) -> None:
    """A word at the first place reaches the last one, far behind the window of one layer; one at the third does not."""
    run, given = session(long_graph.path), texts(1, 300)
    changed = []
    for place in (0, 2):
        other = given["input_ids"].clone()
        other[0, place] = 1 + other[0, place] % 38
        found = [run.run(None, fed(**given) | {"input_ids": ids.numpy()})[0] for ids in (given["input_ids"], other)]
        changed.append(bool((found[0][0, -1] != found[1][0, -1]).any()))
    assert changed == [True, False]


def test_windows_take_linear_memory(long_graph: Exported) -> None:
    """Pairs of 16,384 tokens would take 1 GiB a head."""
    short, long = peak_mib(long_graph.path, 64, 16_384)
    assert long - short < 500, (short, long)
    assert long_graph.memory == "linear"


def test_the_result_says_what_it_made(long_graph: Exported) -> None:
    described = json.loads((long_graph.folder / "export.json").read_text())
    assert described == {**described, **json.loads(json.dumps(long_graph.to_dict()))}
    assert described["kind"] == "whole-text"
    assert described["inputs"][0] == {"name": "input_ids", "dtype": "int64", "shape": ["batch", "length"]}
    assert described["head"]["kind"] == "masked-lm"
    assert [one.name for one in session(long_graph.path).get_outputs()] == ["logits"]
    assert session(long_graph.path).get_inputs()[0].shape == ["batch", "length"]
    assert 0 < long_graph.deviation < 1e-5
    assert "linear in memory" in str(long_graph)


@pytest.mark.slow
def test_torch_program_reads_every_length(tmp_path: Path) -> None:
    model = encoder(Window(3, 3))
    made = gs.export(model, tmp_path / "out", "torch")
    program = torch.export.load(made.path).module()
    for length in (1, 7, 8, 65, 200):
        given = texts(3, length)
        with torch.no_grad():
            torch.testing.assert_close(program(*given.values())[0], model(**given).last_hidden_state)
    assert (made.memory, made.file) == ("linear", "model.pt2")


@pytest.mark.slow
def test_choices_are_open_too(tmp_path: Path) -> None:
    model = ours("bert", "multiple-choice")
    made = gs.export(model, tmp_path / "out", "torch")
    program = torch.export.load(made.path).module()
    for choices in (1, 2, 5):
        given = {name: one.expand(choices, 1, -1).transpose(0, 1) % 30 for name, one in texts(1, 9).items()}
        with torch.no_grad():
            torch.testing.assert_close(program(*given.values())[0], model(**given).logits)
    assert made.outputs[0].shape == ("batch", "choices")


HEADS = [
    ("bert", "none"), ("bert", "embed"), ("roberta", "sequence-classification"), ("bert", "token-classification"),
    ("distilbert", "question-answering"), ("albert", "masked-lm"), ("electra", "replaced-token"),
    ("bert", "pre-training"), ("bert", "next-sentence"), ("bert", "multiple-choice"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "torch"])
@pytest.mark.parametrize(("family", "head"), HEADS)
@pytest.mark.parametrize("lengthened", [False, True])
def test_every_head_is_exported(family: str, head: str, lengthened: bool, form: Any, tmp_path: Path) -> None:
    """`export` itself compares; global tokens of a lengthened model depend on the head."""
    model = ours(family, head)
    if lengthened:
        model, _ = gs.lengthen(model, to=200, window=8)
    made = gs.export(model, tmp_path / "out", form)
    assert made.deviation < 1e-5
    assert made.memory == ("linear" if lengthened else "quadratic")
