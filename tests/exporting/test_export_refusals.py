"""What is not exported is said in one line before any work, and nothing is lost when an export fails."""

import importlib.util
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from exported_models import encoder

import gossamer as gs
from gossamer.exporting import whole_text
from gossamer.exporting.exporter import _check
from gossamer.exporting.graph import Case
from gossamer.models import DistanceTable, Model, RelativePositions
from gossamer.models.decoders import decoder
from gossamer.patterns import Chunks, Full, Hashed, Prefix, Sink, Strided, Window


def with_attention(model: Model, **fields: Any) -> Model:
    described = model.architecture.with_layers(lambda one: replace(one, attention=replace(one.attention, **fields)))
    return Model(described).eval()


def two_texts() -> Model:
    """Of T5's form: it reads one text and writes another."""
    config = transformers.T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    with tempfile.TemporaryDirectory() as folder:
        transformers.T5ForConditionalGeneration(config).save_pretrained(folder)
        return gs.load(folder)


def spoilt() -> Model:
    model = encoder(Full())
    with torch.no_grad():
        next(model.parameters())[0, 0] = float("nan")
    return model


MODELS: dict[str, tuple[Callable[[], Model], str]] = {
    "hashed": (lambda: encoder(Hashed()), "layer 0 has the pattern 'hashed.*buckets are not exported"),
    "ring": (lambda: encoder(Chunks(8, causal=False, before=1, ring=16)), "whose ring is not exported"),
    "no pieces": (lambda: encoder(Sink(3) | Strided(5)), "computed pair by pair and is not exported"),
    "deberta": (
        lambda: with_attention(encoder(Full()), distance_bias=RelativePositions(span=4, weights=0)), "DeBERTa",
    ),
    "distances under a window": (
        lambda: with_attention(encoder(Window(3, 3)), distance_bias=DistanceTable(before=4, after=4, weights=0)),
        "adds numbers by distance under 'window 3.3'",
    ),
    "prefix": (lambda: Model(decoder(
        vocabulary_size=20, length=32, layers=1, hidden_size=8, heads=2, patterns=Prefix(4)
    )), "whose prefix is read at once, not in steps"),
    "half precision": (lambda: encoder(Full()).half(), "float16; ONNX Runtime.*load it with dtype='float32'"),
    "two texts": (two_texts, "reads one text and writes another.*gossamer.export"),
    "nan": (spoilt, "NaN or infinity"),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_models_that_are_not_exported(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gossamer.exporting.exporter.trace", lambda graph: pytest.fail("work was done"))
    make, match = MODELS[name]
    with pytest.raises(gs.InputError, match=match) as caught:
        gs.export(make(), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_arguments_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = encoder(Full())
    file, full = tmp_path / "file", tmp_path / "full"
    file.touch()
    full.mkdir()
    (full / "thesis.txt").touch()
    calls: list[tuple[Callable[[], Any], str]] = [
        (lambda: gs.export("m", tmp_path / "out"), "load it first"),  # type: ignore[arg-type]
        (lambda: gs.export(model, tmp_path / "out", "tflite"), "format is 'tflite'; it must be one of onnx, torch"),  # type: ignore[arg-type]
        (lambda: gs.export(model, ""), "path is ''; name a folder"),
        (lambda: gs.export(model, file), "file: is a file; name a folder"),
        (lambda: gs.export(model, file / "out"), "'.*file' may not be written to"),
        (lambda: gs.export(model, full), "full: holds 'thesis.txt', which is no part of an export"),
        (lambda: gs.export(model, Path.cwd().parent), "is the folder you are in, or one around it"),
        (lambda: gs.export(model, tmp_path / "out", largest_file=0), "largest_file is 0"),
    ]
    for call, match in calls:
        with pytest.raises(gs.InputError, match=match):
            call()
    assert (full / "thesis.txt").exists()
    found = importlib.util.find_spec
    monkeypatch.setattr("gossamer.exporting.refusals.find_spec", lambda name: None if "onnx" in name else found(name))
    with pytest.raises(gs.InputError, match=r"needs onnx, onnxscript, onnxruntime; .*pip install 'gossamer\[export\]'"):
        gs.export(model, tmp_path / "out")


def test_a_file_that_differs_is_not_put_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a graph keeps of its example is right for the example alone; the earlier export stays, and no rest."""
    model, out = encoder(Full()), tmp_path / "out"
    first = gs.export(model, out, "torch")
    before = first.path.read_bytes()
    assert first.memory == "quadratic"
    read = whole_text._Module.read

    def with_a_constant(module: Any, given: Any) -> list[torch.Tensor]:
        found = read(module, given)
        return [one + (one.shape[1] != 24) for one in found] if not torch.compiler.is_compiling() else found

    monkeypatch.setattr(whole_text._Module, "read", with_a_constant)
    with pytest.raises(gs.GossamerError, match=r"differs from the model by .*of 1 x 1.*nothing was written"):
        gs.export(model, out, "torch")
    assert first.path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["out"]
    monkeypatch.undo()
    gs.export(model.train(), out, "torch")
    assert model.training


def test_what_torch_cannot_trace_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def looks(module: Any, given: Any) -> list[torch.Tensor]:
        return [given[0] * int(given[0].sum())]

    monkeypatch.setattr(whole_text._Module, "read", looks)
    with pytest.raises(gs.GossamerError, match=r"torch.export failed on this model \(.*nothing was written") as caught:
        gs.export(encoder(Full()), tmp_path / "out", "torch")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("found", "match"), [(torch.full((2,), float("nan")), "differs"), (torch.ones(3), r"gives \[3\]")]
)
def test_nothing_passes_that_is_no_number_or_of_another_shape(found: torch.Tensor, match: str) -> None:
    class OneCase:
        def cases(self, run: Any) -> list[Case]:
            return [Case(said="x", found=found, wanted=torch.ones(2))]

    with pytest.raises(gs.GossamerError, match=match):
        _check(OneCase(), lambda given: [], torch.float32)  # type: ignore[arg-type]
