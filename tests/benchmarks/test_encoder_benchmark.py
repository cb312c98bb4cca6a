"""benchmarks/encoder.py: both libraries read one checkpoint, wrong outputs are refused, and it runs to the end."""

import json

import encoder
import pytest
import torch
from encoder import Benchmark, Case, MemoryCase
from encoder_models import BASE, OURS, SIZES, THEIRS, make_ids
from gate import ParityError
from grid import HALF
from transformers import LongformerConfig


@pytest.fixture
def benchmark(tmp_path):
    return Benchmark(encoder.PLANS["smoke"], tmp_path, seed=0)


def case(dtype="float32", clock="wall"):
    return Case(n=64, dtype=dtype, clock=clock, rounds=1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_both_are_timed_after_they_were_found_equal(benchmark, dtype):
    found = benchmark.time(case(dtype))
    assert {t["name"] for t in found["times"]} == {OURS, THEIRS}
    ours = next(p for p in found["parity"] if p["name"] == OURS)
    assert 0 <= ours["error"] <= ours["tolerance"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_wrong_outputs_are_not_timed(benchmark, dtype):
    ours = benchmark._models(dtype)[OURS]
    benchmark.models[OURS] = lambda ids: ours(ids).roll(1, dims=1)
    with pytest.raises(ParityError, match="whole model, n = 64"):
        benchmark.time(case(dtype))


def test_one_thread_is_one_thread(benchmark):
    before = torch.get_num_threads()
    assert {t["threads"] for t in benchmark.time(case(clock="CPU"))["times"]} == {1}
    assert torch.get_num_threads() == before


def test_the_base_model_is_longformers():
    config = LongformerConfig(**BASE)
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (768, 12, 12)
    assert config.attention_window == [512] * 12
    assert max(encoder.PLANS["cpu"].lengths) <= config.max_position_embeddings - 2
    assert all(int(make_ids(size, 300, seed=0).max()) < SIZES[size]["vocab_size"] for size in SIZES)


def test_the_measurement_covers_what_was_promised():
    cases = list(encoder.PLANS["cpu"].cases(encoder.DTYPES))
    timed = {(c.n, c.dtype, c.clock) for c in cases if isinstance(c, Case)}
    assert timed == {(n, d, c) for n in (512, 2048, 4096) for d in ("float32", HALF) for c in ("wall", "CPU")}
    assert {(c.name, c.dtype) for c in cases if isinstance(c, MemoryCase)} == {
        (name, dtype) for name in (OURS, THEIRS) for dtype in ("float32", HALF)
    }
    assert len({c.key for c in cases}) == len(cases)


@pytest.mark.slow
def test_encoder_smoke_run_goes_to_the_end(tmp_path, capsys):
    out = tmp_path / "results.json"
    given = ["--budget", "smoke", "--out", str(out), "--plots", str(tmp_path), "--only", "float32"]
    assert encoder.main(given) == 0
    results = json.loads(out.read_text())
    assert results["complete"]
    assert {m["n"] for m in results["memory"]} == {64, 128}
    assert (tmp_path / "encoder.svg").stat().st_size > 0
    assert "whole model at least 2.2x transformers" in capsys.readouterr().out
