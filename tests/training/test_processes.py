"""Two processes on gloo, under DDP and FSDP2, against one process on the same batches; and resuming across them.

Two processes add up the same numbers as one in another order: float32 gradients differ by some 1e-7 of their size.
AdamW divides by the root of their squares, so where a gradient is nothing but rounding (a key's bias: softmax takes no
notice of it) an update would be all noise; with eps = 1e-3, far above that, weights agree to 1e-6 after a few steps.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow
import pytest
import torch
from finetune_rows import save_bare
from paired_runs import finetuned, half_way
from pyarrow import parquet
from tiny_labels import classifier_config
from tiny_pairs import byte_pairs_config
from tiny_runs import checkpoints, decoder_config, encoder_config, journal, llama_config, tensors, write_text

import gossamer as gs
from gossamer.models import SequenceClassification as Labels
from gossamer.training.config import TrainingConfig
from gossamer.training.loop import train
from gossamer.training.material import gather

STEPS = 8
TOLERANCE = 1e-6
SETTINGS: dict[str, Any] = {
    "optimizer": {"learning_rate": 0.01, "eps": 1e-3},
    "batch": {"rows": 8},
    "steps": STEPS,
    "checkpoints": {"every": 4, "keep": 9},
    "evaluation": {"held_out": 0.1, "every": 4},
}
DECODER = {
    "layers": 2,
    "hidden_size": 16,
    "heads": 2,
    "length": 32,
    "pattern": ["window(8)", "strided(4)"],
    "positions": [8, 4],
    "tied": False,
}
UNTIED = {**SETTINGS, "model": {"decoder": DECODER}}
REVERSIBLE = {**SETTINGS, "model": {"decoder": {**DECODER, "reversible": "mean", "feed_forward_chunk": 12}}}
LABELS = {**SETTINGS, "batch": {"tokens": 40}}
WEIGHTED = {"objective": {"kind": "classification", "class_weights": {"book": 0.1, "film": 2.0, "song": 0.02}}}
# Readings that are no better than the first save nothing, so that only the average itself gives up what was gathered.
TUNED = {
    **LABELS,
    **WEIGHTED,
    "average": {"decay": 0.7},
    "optimizer": {**SETTINGS["optimizer"], "layer_decay": 0.5},
    "evaluation": {"held_out": 0.1, "every": 1, "metric": "accuracy"},
}
ADAPTERS = {"rank": 3, "alpha": 6, "maps": ["query", "down"]}
PRUNED = {
    **LABELS,
    "pruning": {
        "score": "soft-movement",
        "structure": "hybrid",
        "keep": 0.3,
        "block": [4, 4],
        "penalty": 50.0,
        "learning_rate": 0.1,
        "warmup": 2,
    },
}
PAIRS = {**SETTINGS, "batch": {"rows": 8, "accumulation": 2}}
MATCH = {"teacher": 0, "student": 1, "of": "attention", "loss": "kl", "rows": 5}
FINETUNED = {"steps": STEPS, "checkpoints": {"every": 4, "keep": 9}}
PARTS = {**UNTIED, "batch": {"rows": 8, "accumulation": 2}, "recompute": "both"}


def taught(folder: Path, kind: str, settings: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The same beside a teacher; means over all tokens would count by shares of the labels (docs/distill.md)."""
    teacher = {"masked-lm": "one-masked", "causal-lm": "one"}[kind]
    objective = {"kind": "distillation", "task": {"kind": kind}, "teacher": str(folder / teacher / "last")}
    return {**settings, "objective": {**objective, "cosine_weight": 0, **changes}}


def cached(folder: Path, name: str) -> dict[str, Any]:
    """A student of labels whose teacher's outputs are read from disk; means over tokens left out, as above."""
    objective = {"kind": "distillation", "task": {"kind": "classification"}, "cache": str(folder / name)}
    return {**LABELS, "objective": {**objective, "teacher": str(folder / "one-labels" / "last"), "cosine_weight": 0}}


def projected(folder: Path) -> dict[str, Any]:
    """A narrower masked LM that meets its teacher through projections, beside parameters that get no gradients.

    All texts are equally long and every token counts, so that means over tokens are those over labels.
    """
    text = folder / "equal.txt"
    if not text.exists():
        text.write_text("\n".join(f"{i:04d} of equally long lines" for i in range(60)))
    fields = encoder_config(folder)["model"]["architecture"]
    fields["hidden_size"] = fields["embeddings"]["size"] = 8
    for layer in fields["layers"]:
        layer["attention"]["head_size"] = 4
    task = {"kind": "masked-lm", "share": 0.999999}
    matches = [{"teacher": 0, "student": 0}, {"teacher": 1, "student": 1, "loss": "cosine"}]
    objective = {"kind": "distillation", "task": task, "cosine_weight": 0, "matches": matches}
    objective |= {"teacher": str(folder / "one-masked" / "last")}
    data = {"train": str(text), "split": "lines", "pack": False}
    return {**SETTINGS, "objective": objective, "model": {"architecture": fields}, "data": data}


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def start(folder: Path, arguments: list[str], count: int = 2) -> list[subprocess.CompletedProcess[str]]:
    """Start the same Python command `count` times, as torchrun would; what each has printed."""
    common = {
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": free_port(),
    }
    place = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    path = {"PYTHONPATH": place, "OMP_NUM_THREADS": "1"}
    running = []
    for rank in range(count):
        environment = {**os.environ, **common, **path, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        running.append(subprocess.Popen([sys.executable, *arguments], env=environment, cwd=folder, **pipes))
    outputs = [one.communicate(timeout=300) for one in running]
    return [
        subprocess.CompletedProcess(one.args, one.returncode, *output)
        for one, output in zip(running, outputs, strict=True)
    ]


def stored(folder: Path) -> dict[str, Any]:
    """Layers that share a table by distance, some of whose maps learn an addition of low rank alone."""
    described = llama_config(folder)["model"]["architecture"]
    for layer in described["layers"]:
        layer["attention"] |= {"dropout": 0.0, "distance_bias": {"before": 6, "after": 0, "weights": 0}}
    maps = ["attention.0.query", "attention.1.value", "feed_forward.0.up", "feed_forward.1.down"]
    described["storages"] = [{"maps": maps, "storage": {"kind": "low-rank", "rank": 2, "scale": 0.5}}]
    return {**SETTINGS, "model": {"architecture": described}}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Runs of one process, of two, and of two that go on where one, or the same two, stood half-way; in one folder."""
    folder = tmp_path_factory.mktemp("pair")
    write_text(folder / "text.txt")
    gs.train(decoder_config(folder, "one", **UNTIED))
    gs.train(encoder_config(folder, "one-masked", **SETTINGS))
    gs.train(classifier_config(folder, "one-labels", **LABELS))
    adapted = {**TUNED, "model": {**classifier_config(folder)["model"], "adapters": ADAPTERS}}
    gs.train(classifier_config(folder, "one-tuned", **TUNED))
    gs.train(classifier_config(folder, "one-adapted", **adapted))
    gs.train(classifier_config(folder, "one-pruned", **PRUNED))
    gs.train(byte_pairs_config(folder, "one-pairs", **SETTINGS))
    gs.train(decoder_config(folder, "one-taught", **taught(folder, "causal-lm", UNTIED)))
    gs.train(encoder_config(folder, "one-taught-masked", **taught(folder, "masked-lm", SETTINGS)))
    gs.train(encoder_config(folder, "one-projected", **projected(folder)))
    gs.train(classifier_config(folder, "one-cached", **cached(folder, "one-cache")))
    gs.train(decoder_config(folder, "one-stored", **stored(folder)))
    gs.train(decoder_config(folder, "one-reversible", **REVERSIBLE))
    save_bare(folder, "bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    finetuned(folder, "one-finetuned", **FINETUNED)
    runs: list[tuple[str, str, str, dict[str, Any]]] = []
    for parallel in ("ddp", "fsdp2"):
        runs += [
            ("decoder", parallel, "", {**UNTIED, "parallel": parallel}),
            ("encoder", f"{parallel}-masked", "", {**SETTINGS, "parallel": parallel}),
            ("classifier", f"{parallel}-tuned", "", {**TUNED, "parallel": parallel}),
            ("classifier", f"{parallel}-adapted", "", {**adapted, "parallel": parallel}),
            ("pairs", f"{parallel}-pairs", "", {**PAIRS, "parallel": parallel}),
            ("finetuned", f"{parallel}-finetuned", "", {**FINETUNED, "parallel": parallel}),
            ("decoder", f"{parallel}-parts", "", {**PARTS, "parallel": parallel}),
            ("decoder", f"{parallel}-stored", "", {**stored(folder), "parallel": parallel}),
            ("decoder", f"{parallel}-reversible", "", {**REVERSIBLE, "parallel": parallel}),
            ("decoder", f"one-then-{parallel}", "one", {**UNTIED, "parallel": parallel}),
            ("decoder", f"{parallel}-again", parallel, {**UNTIED, "parallel": parallel}),
        ]
    runs += [
        ("decoder", "ddp-taught", "", taught(folder, "causal-lm", UNTIED)),
        ("encoder", "ddp-taught-masked", "", taught(folder, "masked-lm", SETTINGS)),
        # Each process draws rows of its own: no equal to one process, but both have the same weights.
        ("encoder", "ddp-matched", "", taught(folder, "masked-lm", SETTINGS, matches=[MATCH])),
        ("encoder", "ddp-projected", "", projected(folder)),
        ("classifier", "ddp-cached", "", cached(folder, "ddp-cache")),
        ("classifier", "ddp-pruned", "", PRUNED),
    ]
    done = start(folder, [str(Path(__file__).parent / "paired_runs.py"), str(folder), json.dumps(runs)])
    assert "find_unused_parameters" not in done[0].stderr
    assert "FSDP2-wrapped module" not in done[0].stderr
    assert [one.returncode for one in done] == [0, 0], done[0].stderr[-3000:] + done[1].stderr[-3000:]
    first, second = (json.loads((folder / f"told-{rank}.json").read_text()) for rank in range(2))
    for name in first:
        assert first[name]["sums"] == second[name]["sums"]
    return folder, first


def assert_close(one: Path, other: Path) -> None:
    ours, theirs = tensors(one, STEPS), tensors(other, STEPS)
    assert list(ours) == list(theirs)
    for name in ours:
        torch.testing.assert_close(
            ours[name], theirs[name], rtol=0, atol=TOLERANCE, msg=lambda text, name=name: f"{name}: {text}"
        )
    for left, right in zip(journal(one), journal(other), strict=True):
        assert {**left, "loss": 0, "gradient_norm": 0, "perplexity": 0, "bits_per_byte": 0}.keys() >= right.keys()
        assert left["loss"] == pytest.approx(right["loss"], abs=1e-5)
        assert left.get("bits_per_byte", 0) == pytest.approx(right.get("bits_per_byte", 0), abs=1e-5)
        assert left.get("gradient_norm", 0) == pytest.approx(right.get("gradient_norm", 0), rel=1e-4)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
@pytest.mark.parametrize(
    "kind", ["", "-masked", "-tuned", "-adapted", "-pairs", "-finetuned", "-parts", "-stored", "-reversible"]
)
def test_two_processes_learn_what_one_learns(pair: tuple[Path, dict[str, Any]], parallel: str, kind: str) -> None:
    folder, told = pair
    one = folder / ("one" if kind == "-parts" else f"one{kind}")
    assert told[f"{parallel}{kind}"]["processes"] == f"2 processes, {'FSDP2' if parallel == 'fsdp2' else 'DDP'}"
    assert_close(one, folder / f"{parallel}{kind}")
    moved = tensors(one, STEPS // 2)
    assert max(float((moved[name] - tensor).abs().max()) for name, tensor in tensors(one, STEPS).items()) > 1e-3
    assert gs.load(folder / f"{parallel}{kind}" / "best").architecture == gs.load(one / "best").architecture


def test_two_processes_prune_what_one_prunes(pair: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = pair
    assert_close(folder / "one-pruned", folder / "ddp-pruned")
    lines = [line for line in journal(folder / "ddp-pruned") if line["split"] == "train"]
    assert lines[-1]["penalty"] > 0, "which is in the gradients' norm, once"


@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_the_first_of_two_processes_measures_alone(pair: tuple[Path, dict[str, Any]], parallel: str) -> None:
    """It reads all held-out rows by itself, while the other has gone on."""
    folder, _ = pair
    one, two = (json.loads((folder / f"{name}-finetuned" / "receipt.json").read_text()) for name in ("one", parallel))
    scores = [told["comparison"]["rows"][-1] for told in (one, two)]
    assert "accuracy, mean of 12 held-out rows" in scores[0]["name"]
    assert scores[0] == scores[1]


@pytest.mark.parametrize("kind", ["", "-masked"])
def test_two_processes_learn_the_same_from_a_teacher(pair: tuple[Path, dict[str, Any]], kind: str) -> None:
    folder, told = pair
    assert told[f"ddp-taught{kind}"]["processes"] == "2 processes, DDP"
    assert_close(folder / f"one-taught{kind}", folder / f"ddp-taught{kind}")


def test_two_processes_learn_the_same_projections(pair: tuple[Path, dict[str, Any]]) -> None:
    folder, told = pair
    assert told["ddp-projected"]["processes"] == "2 processes, DDP"
    assert_close(folder / "one-projected", folder / "ddp-projected")
    first, last = (tensors(folder / "ddp-projected", step) for step in (STEPS // 2, STEPS))
    names = [one for one in last if one.startswith("distillation_projections.") and one.endswith(".weight")]
    assert len(names) == 2
    assert all(float((first[name] - last[name]).abs().max()) > 1e-3 for name in names)


def test_two_processes_share_a_teachers_cache(pair: tuple[Path, dict[str, Any]]) -> None:
    """Each writes some of its files, which hold what those of one process hold."""
    folder, told = pair
    assert told["ddp-cached"]["processes"] == "2 processes, DDP"
    assert_close(folder / "one-cached", folder / "ddp-cached")
    ours, theirs = ([*sorted((folder / name).glob("*.parquet"))] for name in ("one-cache", "ddp-cache"))
    assert (len(ours), len(theirs)) == (1, 5)
    one, two = (pyarrow.concat_tables([parquet.read_table(path) for path in paths]) for paths in (ours, theirs))
    assert one["key"].to_pylist() == two["key"].to_pylist()
    np.testing.assert_allclose(one["logits"].to_pylist(), two["logits"].to_pylist(), atol=1e-6)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_two_go_on_where_one_stopped(pair: tuple[Path, dict[str, Any]], parallel: str) -> None:
    folder, told = pair
    assert_close(folder / "one", folder / f"one-then-{parallel}")
    (note,) = told[f"one-then-{parallel}"]["notes"]
    assert note.startswith("processes was 'one process' up to step 4, is '2 processes")


@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_one_goes_on_where_two_stopped(pair: tuple[Path, dict[str, Any]], parallel: str) -> None:
    folder, _ = pair
    half_way(folder, parallel, f"{parallel}-then-one", STEPS // 2)
    notes: list[str] = []
    train(decoder_config(folder, f"{parallel}-then-one", **UNTIED), remark=notes.append)
    assert len(notes) == 1
    assert_close(folder / "one", folder / f"{parallel}-then-one")


@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_two_resume_to_the_same_bits(pair: tuple[Path, dict[str, Any]], parallel: str) -> None:
    folder, told = pair
    assert told[f"{parallel}-again"]["notes"] == []
    ours, theirs = tensors(folder / parallel, STEPS), tensors(folder / f"{parallel}-again", STEPS)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert journal(folder / parallel) == journal(folder / f"{parallel}-again")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": {"rows": 9}}, r"batch\.rows is 9; with 2 processes and accumulation 1 .* a multiple of 2"),
        ({"pruning": {}}, r"parallel is 'fsdp2', .*; with pruning it must be 'ddp'"),
        ({"optimizer": "adafactor"}, r"parallel is 'fsdp2', .*; with torch's Adafactor it must be 'ddp'"),
        (
            {"frozen_rows": {"embeddings.position.weight": 1}},
            r"parallel is 'fsdp2', .*; with frozen_rows it must be 'ddp'",
        ),
    ],
)
def test_what_cannot_be_shared_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    config = TrainingConfig.read(decoder_config(tmp_path, **changes))
    processes: Any = SimpleNamespace(count=2, rank=1, sharded=True, splits=False, reader=(1, 2))
    with pytest.raises(gs.InputError, match=message):
        gather(config, None, processes)


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        ["torch.distributed.run", "--nproc-per-node", "2", "--master-port"],
        ["accelerate.commands.launch", "--use_fsdp", "--fsdp_version=2", "--num_processes=2", "--main_process_port"],
    ],
    ids=["torchrun", "accelerate"],
)
def test_the_command_under_a_launcher(tmp_path: Path, launcher: list[str]) -> None:
    (tmp_path / "c.yaml").write_text(
        json.dumps(decoder_config(tmp_path, "many", parallel="fsdp2" if "torch" in launcher[0] else "ddp"))
    )
    done = subprocess.run(
        [sys.executable, "-m", *launcher, free_port(), "-m", "gossamer", "train", str(tmp_path / "c.yaml"), "--json"],
        capture_output=True, text=True, check=False, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    receipt = json.loads(done.stdout)["receipt"]
    assert receipt["conditions"]["processes"] == "2 processes, FSDP2"
    assert checkpoints(tmp_path / "many") == ["step-3", "step-6"]


def test_several_processes_name_a_folder_that_all_see(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(gs.InputError, match=r"^output is None, but several processes train together; name a folder"):
        gs.finetune(save_bare(tmp_path, "bert"), [{"text": "film", "label": one} for one in ("a", "b")])
    labels = Labels(labels=("film", "song"), problem_type="single_label_classification")
    with pytest.raises(gs.InputError, match=r"^output is None, but several processes train together; name a folder"):
        gs.distill(save_bare(tmp_path / "teacher", "bert", labels), [{"text": "film", "label": "film"}] * 2)
