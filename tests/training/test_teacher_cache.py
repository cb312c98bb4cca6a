"""A teacher's outputs on disk: what is learnt from them, what they hold, and when they are refused."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from broken_runs import broken_off
from killed_caches import MOMENTS
from pyarrow import parquet
from safetensors.torch import load_file
from tiny_labels import texts
from tiny_runs import assert_same_run, journal
from tiny_teachers import classifier, decoder, distilling, saved_teacher

import gossamer as gs
from gossamer.errors import InputError
from gossamer.models import Model
from gossamer.text import byte_tokenizer
from gossamer.training.loop import train
from gossamer.training.objectives import TeacherCache
from gossamer.training.objectives.rows_read import rows_of
from gossamer.training.objectives.teachers import output_shards, teacher_cache
from gossamer.training.objectives.teachers.soft_targets import soft_target_loss, top_targets
from gossamer.training.objectives.teachers.teacher import Teacher

SETTINGS: dict[str, Any] = {"steps": 6, "checkpoints": {"every": 3}, "evaluation": {"held_out": 6, "every": 3}}
QUICK: dict[str, Any] = {"journal": {"live": False}, "threads": 1, "steps": 3, "batch.rows": 6}


def cached(folder: Path, kind: str, name: str, cache: Any, **changes: Any) -> dict[str, Any]:
    """A run beside a cache; of plain text one document a row."""
    config = {**distilling(folder, kind, name, **SETTINGS)}
    if kind == "causal-lm":
        config["data"] = {**config["data"], "pack": False}
    config["objective"] = {**config["objective"], "cache": cache}
    return {**config, **changes}


def count_readings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows teachers read from now on, a number a call."""
    read: list[int] = []
    on = Teacher.model_on

    def counted(teacher: Teacher, device: torch.device) -> Model:
        model = on(teacher, device)
        if not hasattr(model, "_is_counted"):
            model.register_forward_pre_hook(
                lambda _, given, named: read.append(len(named["input_ids"])), with_kwargs=True
            )
            model.__dict__["_is_counted"] = True
        return model

    monkeypatch.setattr(Teacher, "model_on", counted)
    return read


@pytest.mark.parametrize("kind", ["classification", "causal-lm", "vectors"])
def test_a_student_learns_the_same_from_a_cache(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All scores in float32: the same run but for rounding, since the teacher reads each row alone, without padding.

    It reads every row once, before the training; a second run from the same cache asks nothing of it.
    """
    whole = {"folder": str(tmp_path / "cache"), "top_k": "all" if kind == "causal-lm" else None}
    train(cached(tmp_path, kind, "plain", None))
    monkeypatch.setattr(output_shards, "SHARD_ROWS", 7)
    read = count_readings(monkeypatch)
    train(cached(tmp_path, kind, "cached", whole))
    rows = sum(parquet.read_metadata(one).num_rows for one in sorted((tmp_path / "cache").glob("*.parquet")))
    assert sum(read) == rows > 7
    before = list(read)
    train(cached(tmp_path, kind, "again", whole, seed=3))
    assert read == before
    ours, theirs = (load_file(tmp_path / name / "last" / "model.safetensors") for name in ("plain", "cached"))
    begun = load_file(tmp_path / "plain" / "checkpoints" / "step-3" / "model.safetensors")
    assert max(float((ours[name] - begun[name]).abs().max()) for name in ours) > 0.01
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=2e-3, msg=lambda text, name=name: name + text)
    for one, other in zip(journal(tmp_path / "plain"), journal(tmp_path / "cached"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)


def test_the_files_hold_what_the_teacher_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a vocabulary the highest scores, the numbers of their tokens, what others come to; and the last states."""
    monkeypatch.setattr(output_shards, "GROUP_BYTES", 2000)
    train(cached(tmp_path, "causal-lm", "out", {"folder": str(tmp_path / "cache"), "top_k": 3}))
    teacher = gs.load(tmp_path / "teacher").eval()
    file = parquet.ParquetFile(tmp_path / "cache" / "part-00000.parquet")
    assert file.num_row_groups > 3
    texts_read = (tmp_path / "text.txt").read_text().splitlines()
    whole = [[256, *text.encode(), 256] for text in texts_read]
    rows = {tuple(ids[start : start + 32]) for ids in whole for start in range(0, len(ids) - 1, 31)}
    table = file.read().to_pylist()
    assert len(table) <= len(rows)
    states = {tuple(np.round(row["states"][-16:], 4)) for row in table}
    for ids in sorted(rows)[:5]:
        with torch.no_grad():
            out = teacher(torch.tensor([ids]))
        if tuple(np.round(out.last_hidden_state[0, -1].numpy(), 4)) not in states:
            continue  # held out
        near = [row for row in table if len(row["logits"]) == 3 * len(ids)]
        same = [row for row in near if np.allclose(row["states"], out.last_hidden_state[0].flatten(), atol=1e-5)]
        assert len(same) == 1
        top = out.logits[0].topk(3)
        np.testing.assert_allclose(np.reshape(same[0]["logits"], (-1, 3)), top.values, atol=1e-5)
        np.testing.assert_array_equal(np.reshape(same[0]["classes"], (-1, 3)), top.indices)
        others = (out.logits[0] / 2).exp().sum(-1) - (top.values / 2).exp().sum(-1)
        np.testing.assert_allclose(np.exp(same[0]["rest"]), others, rtol=1e-4)


def test_a_cache_that_is_killed_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    script = Path(__file__).parent / "killed_caches.py"
    path = os.pathsep.join([str(script.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.splitlines()[-1]) == len(MOMENTS)
    assert_same_run(tmp_path / "unbroken", tmp_path / "killed", 4)
    ours, theirs = (sorted((tmp_path / f"{name}-cache").iterdir()) for name in ("unbroken", "killed"))
    assert [one.name for one in ours] == [one.name for one in theirs]
    assert len(ours) == 7
    assert [one.read_bytes() for one in ours] == [one.read_bytes() for one in theirs]


def test_a_run_goes_on_where_the_cache_lies_elsewhere(tmp_path: Path) -> None:
    train(cached(tmp_path, "causal-lm", "unbroken", str(tmp_path / "cache")))
    broken_off(cached(tmp_path, "causal-lm", "broken", str(tmp_path / "cache")), 5, MemoryError)
    (tmp_path / "cache").rename(tmp_path / "moved")
    train(cached(tmp_path, "causal-lm", "broken", str(tmp_path / "moved")), resume="must")
    assert_same_run(tmp_path / "unbroken", tmp_path / "broken", 6)


@pytest.mark.parametrize("k", [1, 3, 6])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_top_targets_are_a_divergence_of_outcomes(k: int, temperature: float) -> None:
    """Each of the top classes, and another one: by hand in float64; with all but one kept that of all classes."""
    torch.manual_seed(0)
    student, teacher = torch.randn(5, 7, requires_grad=True), torch.randn(5, 7)
    told = soft_target_loss(student, top_targets(teacher, k, temperature), temperature)
    p, q = (torch.softmax(one.double() / temperature, -1) for one in (teacher, student))
    top = teacher.topk(k).indices
    p, q = (torch.cat([one.gather(-1, top), 1 - one.gather(-1, top).sum(-1, keepdim=True)], -1) for one in (p, q))
    by_hand = temperature**2 * (p * (p / q).log()).sum(-1)
    torch.testing.assert_close(told.double(), by_hand, atol=1e-5, rtol=1e-4)
    whole = soft_target_loss(student, teacher, temperature)
    assert (told <= whole + 1e-5).all()
    assert bool((told < whole - 1e-3).any()) == (k < 6)
    ours, theirs = (torch.autograd.grad(one.sum(), student)[0] for one in (told, by_hand))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_what_another_cache_holds_is_refused(tmp_path: Path) -> None:
    """The line names all that differs."""
    place = str(tmp_path / "cache")
    train(cached(tmp_path, "causal-lm", "out", place))
    begin = r"^cache is '.*cache', which was made with something else: "
    changes: list[tuple[Any, dict[str, Any], str]] = [
        ({"folder": place, "top_k": 5}, {}, r"logits '32 x float32', now '5 x float32'; name another folder, or"),
        ({"folder": place, "precision": "float16"}, {}, r"logits '32 x float32', now '32 x float16'; states"),
        (place, {"batch": {"rows": 6, "length": 16}}, r"longest row 32, now 16; other data; name"),
        (place, {"evaluation": {"held_out": 9}}, r"other data; name"),
        (place, {"precision": "bfloat16"}, r"precision 'float32', now 'bfloat16'; name"),
    ]
    for settings, others, message in changes:
        with pytest.raises(InputError, match=begin + message):
            train(cached(tmp_path, "causal-lm", "other", settings, **others))
    config = cached(tmp_path, "causal-lm", "other", place)
    for settings, message in (({"temperature": 3.0}, r"temperature 2\.0, now 3\.0"), ({"cosine_weight": 0}, "states")):
        with pytest.raises(InputError, match=begin + message):
            train({**config, "objective": {**config["objective"], **settings}})
    other = decoder(6)
    other.tokenizer = byte_tokenizer()
    gs.save(other, tmp_path / "teacher")
    with pytest.raises(InputError, match=begin + "other teacher; name"):
        train(config)


def test_a_damaged_file_is_one_line_and_written_again(tmp_path: Path) -> None:
    config = cached(tmp_path, "classification", "out", str(tmp_path / "cache"))
    train({**config, "output": str(tmp_path / "first")})
    (file,) = (tmp_path / "cache").glob("*.parquet")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"part-00000\.parquet: is no part of this cache \(.*\); remove it, and it is"):
        train(config)
    altered = bytearray(whole)
    altered[len(whole) // 3] ^= 1
    file.write_bytes(altered)
    with pytest.raises(InputError, match=r"part-00000\.parquet: is no part of this cache \(.*(CRC|checksum).*\); rem"):
        train(config)
    file.unlink()
    train(config)
    assert file.read_bytes() == whole
    (tmp_path / "cache" / "cache.json").write_text("{}")
    with pytest.raises(InputError, match=r"cache\.json: is of no cache that this version reads; name another folder"):
        train(config)


def test_what_cannot_be_kept_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "cache"
    masked = distilling(tmp_path, "masked-lm")
    with pytest.raises(InputError, match=r"^objective\.cache is '.*'; it must be left out: masked-lm draws other"):
        train({**masked, "objective": {**masked["objective"], "cache": str(place)}})
    shutil.rmtree(tmp_path / "teacher")
    config = cached(tmp_path, "classification", "out", str(place))
    matches = {"matches": [{"teacher": 0, "student": 0}]}
    with pytest.raises(InputError, match=r"^objective\.matches is .*; it must be left out where there is a cache"):
        train({**config, "objective": {**config["objective"], **matches}})
    with pytest.raises(InputError, match=r"^objective\.cache\.top_k is 2; it must be left out: of a head of classes"):
        train(cached(tmp_path, "classification", "out", {"folder": str(place), "top_k": 2}))
    with pytest.raises(InputError, match=r"^objective\.cache\.top_k is 0; it must be a whole number from 1, or 'all'"):
        train(cached(tmp_path, "classification", "out", {"folder": str(place), "top_k": 0}))
    place.write_text("")
    with pytest.raises(InputError, match=r"^cache is '.*cache', which is no folder; name a new or empty one"):
        train(config)
    with pytest.raises(InputError, match=r"^cache is '.*', where other files are; name a new or empty folder"):
        train(cached(tmp_path, "classification", "out", str(tmp_path)))
    place.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(output_shards, "find_spec", lambda name: None)
        with pytest.raises(InputError, match=r"^cache: .* parquet by pyarrow; install it: pip install 'gossamer\[data"):
            train(config)
    monkeypatch.setattr(teacher_cache.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(InputError, match=r"^cache is '.*cache', where 0\.0 MB are free and 0\.\d MB are needed; free"):
        train(config)
    assert not place.exists()


def test_numbers_that_float16_does_not_hold_are_one_line(tmp_path: Path) -> None:
    saved_teacher(tmp_path, "classification")
    teacher = gs.load(tmp_path / "teacher")
    with torch.no_grad():
        teacher.head.output.bias += 1e5
    gs.save(teacher, tmp_path / "teacher")
    held = {"folder": str(tmp_path / "cache"), "precision": "float16"}
    with pytest.raises(InputError, match=r"^cache: the teacher's logits are not all numbers that float16 holds"):
        train(cached(tmp_path, "classification", "out", held))


def test_packed_text_is_kept_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows are cut anew in each epoch; so minutes alone do not tell them."""
    read = count_readings(monkeypatch)
    config = cached(tmp_path, "causal-lm", "out", str(tmp_path / "cache"), data={"train": str(tmp_path / "text.txt")})
    config["data"] |= {"split": "lines"}
    train({**config, "steps": 30})
    assert 140 < sum(read) <= 30 * 6
    minutes = {"steps": None, "minutes": 0.1, "schedule": {"name": "constant", "warmup": 2}}
    with pytest.raises(InputError, match=r"^packed rows are cut anew in each epoch; to know all of them give steps or"):
        train({**config, **minutes, "output": str(tmp_path / "other")})


def test_the_size_is_told_before_and_progress_is_shown(tmp_path: Path) -> None:
    told: list[str] = []
    train(cached(tmp_path, "vectors", "out", str(tmp_path / "cache")), remark=told.append)
    size, done = [line for line in told if line.startswith("cache: ")]
    assert size.startswith("cache: the teacher reads ")
    assert size.endswith("MB are to be written (vector 64 bytes a row)")
    assert "rows read, 0 s left" in done


def test_rows_beyond_the_ceiling_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for one group, each batch reads many again, and learns the same."""
    monkeypatch.setattr(output_shards, "GROUP_BYTES", 600)
    train(cached(tmp_path, "classification", "one", str(tmp_path / "cache")))
    monkeypatch.setattr(output_shards, "KEPT_BYTES", 1)
    monkeypatch.setattr(output_shards, "_OPEN_FILES", 1)
    train(cached(tmp_path, "classification", "other", str(tmp_path / "cache")))
    assert_same_run(tmp_path / "one", tmp_path / "other", 6)


def test_the_recipe_takes_a_cache(tmp_path: Path) -> None:
    teacher, rows = classifier(tmp_path), texts(24)
    kept = TeacherCache(folder=str(tmp_path / "cache"), precision="float16")
    for given in (tmp_path / "other", kept):
        student, receipt = gs.distill(teacher, rows, layers=[0], cache=given, settings=QUICK)
        assert any(note.startswith("cache: the teacher reads ") for note in receipt.notes)
    assert len(student.architecture.layers) == 1
    table = parquet.read_table(tmp_path / "cache" / "part-00000.parquet")
    assert table.schema.field("logits").type.value_type == "halffloat"
    with pytest.raises(InputError, match=r"^cache is 3; it must be a folder's name, or a TeacherCache"):
        gs.distill(teacher, rows, cache=3, settings=QUICK)  # type: ignore[arg-type]


def test_a_file_of_another_cache_is_one_line(tmp_path: Path) -> None:
    for name, changes in (("one", {}), ("other", {"cosine_weight": 0})):
        config = cached(tmp_path, "classification", name, str(tmp_path / f"cache-{name}"))
        train({**config, "objective": {**config["objective"], **changes}})
    shutil.copy(tmp_path / "cache-one" / "part-00000.parquet", tmp_path / "cache-other")
    with pytest.raises(InputError, match=r"part-00000\.parquet: is no part of this cache \(it belongs to another cach"):
        train({**config, "output": str(tmp_path / "third"), "objective": {**config["objective"], **changes}})


def test_rows_are_known_by_what_a_teacher_reads() -> None:
    """Not by padding, labels or types that are all 0; by everything else."""
    ids = torch.tensor([[5, 6, 7, 0], [5, 6, 7, 8]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    zeros = torch.zeros_like(ids)
    types, segments = torch.tensor([[0, 0, 1, 0]] * 2), torch.tensor([[0, 1, 1, 1]] * 2)
    batches: list[dict[str, torch.Tensor]] = [
        {"input_ids": ids, "attention_mask": mask, "labels": zeros},
        {"input_ids": ids[:1, :3]},
        {"input_ids": ids[:1, :3], "labels": ids[:1, :3], "token_type_ids": zeros[:1, :3]},
        {"input_ids": ids, "attention_mask": mask, "token_type_ids": types},
        {"input_ids": ids, "attention_mask": mask, "segments": segments},
        {"input_ids": ids, "attention_mask": mask, "segments": zeros},
    ]
    keys = [[row.key for row in rows_of(batch)] for batch in batches]
    assert keys[0][0] == keys[1][0] == keys[2][0]
    assert len({key for some in keys for key in some}) == 8
