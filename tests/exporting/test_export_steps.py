"""Decoders as step graphs: new tokens and caches in, scores and caches out, token for token as `generate` writes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from exported_models import session, writer

import gossamer as gs
from gossamer.exporting import Exported
from gossamer.models import Model
from gossamer.patterns import Chunks, Fixed, Full, PerHead, Sink, Strided, Window


@pytest.fixture(scope="module")
def model() -> Model:
    """Llama's bricks: fewer key heads, rotary positions; a window of 7 tokens and a full layer."""
    return writer("llama", key_heads=1)


@pytest.fixture(scope="module")
def graph(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Of more bytes than one file may hold; moved, as its folder has to be able to."""
    made = gs.export(model, tmp_path_factory.mktemp("step") / "made", largest_file=1000)
    return replace(made, folder=made.folder.rename(made.folder.with_name("moved")))


def empty_caches(run: onnxruntime.InferenceSession, batch: int) -> dict[str, np.ndarray]:
    sizes = {"batch": batch, "past": 0}
    return {
        one.name: np.zeros([sizes.get(size, size) for size in one.shape], dtype=np.float32)
        for one in run.get_inputs()[2:]
    }


def written(path: Path, prompts: list[list[int]], new: int, piece: int) -> list[list[int]]:
    """Greedy, with numpy and onnxruntime alone; the prompts, padded on the left, are read in pieces."""
    run = session(path)
    longest = max(map(len, prompts))
    ids = np.array([[0] * (longest - len(one)) + one for one in prompts])
    mask = np.array([[0] * (longest - len(one)) + [1] * len(one) for one in prompts])
    caches, start = empty_caches(run, len(prompts)), 0
    while start < longest + new:
        stop = min(start + piece, longest) if start < longest else start + 1
        given = {"input_ids": ids[:, start:stop], "attention_mask": mask[:, :stop]}
        logits, *kept = run.run(None, given | caches)
        caches = dict(zip(caches, kept, strict=True))
        if stop >= longest:
            ids = np.concatenate([ids, logits[:, -1:].argmax(-1)], 1)
            mask = np.concatenate([mask, np.ones_like(mask[:, :1])], 1)
        start = stop
    return ids[:, longest : longest + new].tolist()


@pytest.mark.parametrize("piece", [1, 3, 64])
def test_greedy_texts_are_those_of_generate(model: Model, graph: Exported, piece: int) -> None:
    """Prompts shorter and longer than the window, one alone and three together."""
    generator = torch.Generator().manual_seed(3)
    prompts = [torch.randint(1, 50, (n,), generator=generator).tolist() for n in (5, 12, 1)]
    for batch in ([prompts[1]], prompts):
        wanted = gs.generate(model, batch, max_new_tokens=30, temperature=0, ignore_end=True).ids
        assert written(graph.path, batch, 30, piece) == wanted


def test_weights_stand_beside_the_file(model: Model, graph: Exported) -> None:
    beside = graph.folder / "model.onnx.data"
    assert beside.stat().st_size > 0.9 * sum(one.nbytes for one in model.parameters())
    assert "model.onnx.data" in graph.files
    assert graph.bytes == beside.stat().st_size + graph.path.stat().st_size


def test_caches_of_windows_keep_their_size(graph: Exported) -> None:
    shapes = {one.name: one.shape for one in graph.outputs}
    assert shapes["present.0.key"] == ("batch", 1, 6, 8)
    assert shapes["present.1.value"] == ("batch", 1, "total", 8)
    assert graph.notes == ("the caches of windows are of 6 tokens, zeros at first",)
    assert [one.name for one in session(graph.path).get_inputs()][:3] == [
        "input_ids", "attention_mask", "past_key_values.0.key",
    ]  # fmt: skip


PATTERNS: dict[str, Any] = {
    "several": [PerHead((Fixed(6, 2), 1), (Window(3, 0), 1)), Window(3, 0, 2)],
    "sinks": Sink(3) | Window(4, 0),
    "strided": [Strided(5), Chunks(7)],
    "wider than the model": Window(400, 0),
    "itself alone": Window(0, 0),
}


@pytest.mark.parametrize("name", ["several", *(pytest.param(one, marks=pytest.mark.slow) for one in [*PATTERNS][1:])])
def test_every_causal_pattern_goes_on_from_caches(name: str, tmp_path: Path) -> None:
    """`export` itself reads texts in pieces, padded on the left, beside the model that reads each at once."""
    made = gs.export(writer(patterns=PATTERNS[name]), tmp_path / "out", "torch")
    assert made.deviation < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "torch"])
@pytest.mark.parametrize(
    "fields",
    [{}, {"form": "llama"}, {"reversible": "mean"}, {"axes": (8, 12)}, {"shared_query_key": True}],
    ids=["gpt2", "llama", "reversible", "axes", "shared"],
)
def test_forms_of_decoders(fields: dict[str, Any], form: Any, tmp_path: Path) -> None:
    assert gs.export(writer(**fields), tmp_path / "out", form).deviation < 1e-5


@pytest.mark.slow
def test_half_precision_is_exported_by_torch(tmp_path: Path) -> None:
    made = gs.export(writer(patterns=Full(causal=True), layers=1).bfloat16(), tmp_path / "out", "torch")
    assert made.inputs[-1].dtype == "bfloat16"
