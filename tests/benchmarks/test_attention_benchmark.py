"""benchmarks/attention.py: its gate refuses wrong peers, its masks are the patterns, and it runs, resumes and ends."""

import json
from dataclasses import replace
from functools import lru_cache

import attention
import flex
import gate
import grid
import pytest
import shapes
import torch
from contestants import AUTO, BLOCKED, CONTESTANTS, CPU, FLEX, LONGFORMER, SDPA, Contestant, mask_bytes, prepare, sdpa
from flex import band_block_mask, mask_mod_of
from gate import ParityError, require_parity
from grid import PLANS, Case, GateCase, only
from peaks import PEAKS, peak_names, seconds_a_gflop
from shapes import DENSE, DILATED, HEAD_SIZE, HEADS, SHAPES, WITH_GLOBAL, make_problem
from torch.nn.attention.flex_attention import create_block_mask

import gossamer as gs
from gossamer.errors import InputError
from gossamer.kernels.backends.cpu.library import peak_rate

WINDOW = "window 512"
OTHERS = [name for name in SHAPES if not name.startswith("window") or name in ("window 64", WITH_GLOBAL)]


@lru_cache
def problem_of(shape: str, n: int = 600):
    return make_problem(SHAPES[shape], n, torch.float32, seed=1)


def check(contestant: Contestant, shape: str = WINDOW, n: int = 600, whole: bool = False):
    return require_parity(prepare(contestant, problem_of(shape, n)), whole=whole)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("name", [AUTO, CPU, BLOCKED, SDPA, LONGFORMER])
def test_gate_lets_right_outputs_pass(name, whole):
    found = check(CONTESTANTS[name], whole=whole)
    assert [one.what for one in found] == [
        "forward, output", "forward + backward, output", "forward + backward, gradients",
    ]  # fmt: skip
    assert all(one.error <= one.tolerance for one in found)


@pytest.mark.parametrize("name", [CPU, SDPA])
@pytest.mark.parametrize("shape", OTHERS)
def test_gate_lets_every_pattern_pass(shape, name):
    assert all(one.error <= one.tolerance for one in check(CONTESTANTS[name], shape, n=300))


@pytest.mark.parametrize("shape", OTHERS)
def test_the_gate_is_gossamers_reference(shape):
    """Its definition is written out for some rows and keys; here it is compared with the library's, for all."""
    p = problem_of(shape, 90)
    right = gate.right(p, True)
    q, k, v = (x.double().requires_grad_() for x in p.qkv)
    out = gs.attend(q, k, v, p.pattern, global_mask=p.flags, backend="reference")
    grads = torch.autograd.grad(out, (q, k, v), p.grad.double())
    for mine, expected in zip((right.out, right.dq, right.dk, right.dv), (out, *grads), strict=True):
        torch.testing.assert_close(mine, expected.detach(), rtol=1e-11, atol=1e-12)


def test_strips_of_the_gate_are_rows_of_the_whole():
    p = problem_of(WITH_GLOBAL, 200)
    some, whole = gate.right(p, False), gate.right(p, True)
    assert len(some.rows) == len(some.keys) == 4 * gate.STRIP
    torch.testing.assert_close(some.out, whole.out[:, :, some.rows])
    torch.testing.assert_close(some.dk, whole.dk[:, :, some.keys])


def test_keys_that_cost_too_much_are_not_compared(monkeypatch):
    monkeypatch.setattr(gate, "MOST_PAIRS", 200 * 200 // 4)
    p = problem_of(DENSE, 200)
    assert len(gate.affordable_keys(p, gate.strips(200))[0]) == 0
    monkeypatch.setattr(gate, "MOST_PAIRS", 3 * 200 * 200)
    assert [len(x) if torch.is_tensor(x) else x for x in gate.affordable_keys(p, gate.strips(200))] == [32, 200, 3]


def shifted_window(problem, setting):
    return lambda q, k, v: gs.attend(q, k, v, gs.Window(256, 255))


def poisoned(problem, setting):
    def call(q, k, v):
        out = gs.attend(q, k, v, problem.pattern)
        return torch.where(torch.arange(problem.n)[:, None] == problem.n - 1, torch.nan, out)

    return call


def detached_values(problem, setting):
    return lambda q, k, v: gs.attend(q, k, v.detach() + 0 * v, problem.pattern)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    ("wrong", "what"), [(shifted_window, "output"), (poisoned, "output"), (detached_values, "gradients")]
)
def test_gate_refuses_corrupted_outputs_and_gradients(wrong, what, whole):
    with pytest.raises(ParityError, match=f"culprit .*{what}"):
        check(replace(CONTESTANTS[AUTO], name="culprit", prepare=wrong), whole=whole)


TINY = Case(shape="window 64", n=96, names=(CPU, FLEX, LONGFORMER), rounds=2, patience=0.2, directions=("forward",))


@pytest.fixture
def tiny_plan(monkeypatch):
    """Two cases of milliseconds in place of the smoke test's."""
    plan = replace(PLANS["smoke"], cases=(replace(TINY, names=(CPU, SDPA)), replace(TINY, shape=DENSE, names=(CPU,))))
    monkeypatch.setitem(attention.PLANS, "smoke", plan)


@pytest.mark.usefixtures("tiny_plan")
def test_red_parity_keeps_nothing_of_its_case(monkeypatch, capsys, tmp_path):
    def wrong(problem, setting):
        return lambda q, k, v: 1.01 * gs.attend(q, k, v, problem.pattern)

    monkeypatch.setitem(CONTESTANTS, SDPA, replace(CONTESTANTS[SDPA], prepare=wrong))
    out = tmp_path / "results.json"
    assert attention.main(["--budget", "smoke", "--out", str(out)]) == 1
    printed = capsys.readouterr()
    assert f"parity is red, so nothing of this case is kept or reported: {SDPA}" in printed.err
    assert printed.out == ""
    assert not out.exists()


@pytest.mark.usefixtures("tiny_plan")
def test_an_interrupted_run_keeps_what_it_has_and_is_resumed(monkeypatch, tmp_path, capsys):
    out = tmp_path / "results.json"
    given, time = ["--budget", "smoke", "--out", str(out)], attention.Benchmark.time

    def interrupted(self, case):
        if case.shape == DENSE:
            raise KeyboardInterrupt
        return time(self, case)

    with monkeypatch.context() as patch:
        patch.setattr(attention.Benchmark, "time", interrupted)
        assert attention.main([*given, "--plots", str(tmp_path)]) == 130
    first = json.loads(out.read_text())
    assert not first["complete"]
    assert first["done"] == ["window 64, n = 96, float32, wall time"]
    assert {t["name"] for t in first["times"]} == {CPU, SDPA, *PEAKS.values()} - absent_peaks()
    assert attention.main([*given, "--resume"]) == 0
    second = json.loads(out.read_text())
    assert second["complete"]
    assert len(second["runs"]) == 2
    assert {(t["shape"], t["run"]) for t in second["times"]} == {("window 64", 0), (DENSE, 1)}
    assert second["times"][: len(first["times"])] == first["times"]
    assert "verdicts" in capsys.readouterr().out


def absent_peaks():
    return {name for dtype, name in PEAKS.items() if peak_rate(dtype, 0.001) is None}


def test_results_of_another_kind_are_not_gone_on_from(tmp_path):
    out = tmp_path / "results.json"
    out.write_text('{"benchmark": "attention", "times": []}')
    with pytest.raises(SystemExit, match=r"holds no results of benchmarks/attention\.py"):
        attention.main(["--budget", "smoke", "--out", str(out), "--resume"])


@pytest.mark.parametrize("given", [["--only", "windows"], ["--resume"], ["--again", "--out", "x.json"]])
def test_options_that_make_no_sense_are_refused(given, capsys):
    with pytest.raises(SystemExit):
        attention.main(given)
    assert "error: --" in capsys.readouterr().err


def test_those_who_cannot_are_listed_with_the_reason():
    found = attention.left_out(replace(TINY, shape=WITH_GLOBAL, directions=shapes.DIRECTIONS))
    assert {(one["name"], one["direction"]) for one in found} == {
        (FLEX, "forward + backward"), (LONGFORMER, "forward"), (LONGFORMER, "forward + backward"),
    }  # fmt: skip
    assert all(one["why"] for one in found)


@pytest.mark.parametrize(("n", "size", "side"), [(1, 64, 256), (600, 64, 256), (777, 128, 256), (777, 64, 65)])
def test_block_mask_is_the_one_torch_finds(n, size, side):
    mod = mask_mod_of(replace(SHAPES[WINDOW], attention_window=2 * side), n)
    ours, theirs = band_block_mask(n, size, side, mod), create_block_mask(mod, None, None, n, n, "cpu", BLOCK_SIZE=size)
    assert torch.equal(ours.to_dense(), theirs.to_dense())
    assert torch.equal(ours.full_kv_num_blocks, theirs.full_kv_num_blocks)
    assert ours.shape[-2:] == theirs.shape[-2:]


@pytest.mark.parametrize("shape", [name for name in SHAPES if name != DENSE])
def test_what_flex_is_told_is_the_pattern(shape):
    p = problem_of(shape)
    i, j = torch.arange(p.n)[:, None], torch.arange(p.n)
    flags = None if p.flags is None else p.flags[0]
    assert torch.equal(mask_mod_of(p.shape, p.n)(0, 0, i, j), p.pattern.mask(p.n, flags=flags))


def test_only_plain_windows_get_the_written_down_mask():
    assert flex.is_plain_window(SHAPES["window 64"])
    assert not any(flex.is_plain_window(SHAPES[name]) for name in (DILATED, WITH_GLOBAL, DENSE))


@pytest.mark.parametrize("setting", ["boolean", "additive"])
def test_mask_for_sdpa_is_the_pattern(setting):
    p = problem_of(WITH_GLOBAL)
    mask = sdpa(p, setting).keywords["attn_mask"]
    assert torch.equal(mask if setting == "boolean" else mask == 0, p.pattern.mask(p.n, flags=p.flags[0]))
    assert mask.nbytes == mask_bytes(p, setting)


def test_useful_work_counts_allowed_pairs_only():
    p = problem_of(WITH_GLOBAL, 700)
    pairs = int(p.pattern.mask(700, flags=p.flags[0]).sum())
    assert p.useful_flops("forward") == 4 * pairs * HEADS * HEAD_SIZE
    assert p.useful_flops("forward + backward") == 14 * pairs * HEADS * HEAD_SIZE


@pytest.mark.parametrize(("n", "expected"), [(256, 16), (4096, 64), (16384, 128), (65536, 256), (777, 32)])
def test_strides_grow_as_the_root_of_the_length(n, expected):
    assert shapes.stride(n) == expected


@pytest.mark.parametrize("budget", sorted(PLANS))
def test_a_plan_names_no_case_twice(budget):
    keys = [case.key for case in PLANS[budget].cases]
    assert len(keys) == len(set(keys))


def test_the_measurement_covers_what_was_promised():
    cases = [case for case in PLANS["cpu"].cases if isinstance(case, Case)]
    assert {case.shape for case in cases} == set(SHAPES)
    assert {case.n for case in cases if case.shape == WINDOW} == {256, 512, 1024, 2048, 4096, 8192, 16384, 65536}
    for shape in grid.GROWING:
        assert {4096, 16384, 65536} <= {c.n for c in cases if (c.shape, c.clock, c.dtype) == (shape, "wall", "float32")}
        assert {c.dtype for c in cases if (c.shape, c.clock) == (shape, "CPU")} == {"float32", "bfloat16"}
    gated = {case.shape for case in PLANS["cpu"].cases if isinstance(case, GateCase)}
    assert gated >= {WINDOW, DENSE, DILATED, WITH_GLOBAL}


def test_only_picks_parts():
    cases = PLANS["cpu"].cases
    assert only(cases, []) == list(cases)
    assert {case.shape for case in only(cases, ["dense", "global"])} == {DENSE, WITH_GLOBAL}
    assert {type(case).__name__ for case in only(cases, ["memory"])} == {"MemoryCase"}
    assert {case.family for case in cases} == set(grid.families())


def test_peaks_are_told_in_seconds_a_gflop(monkeypatch):
    monkeypatch.setattr("peaks.peak_rate", lambda dtype, seconds: 100.0)
    assert seconds_a_gflop(torch.float32) == pytest.approx(1 / (100 * torch.get_num_threads()))
    assert peak_names("float32") == (PEAKS[torch.float32],)
    assert set(peak_names("bfloat16")) == set(PEAKS.values())


def test_the_library_measures_its_peak():
    """More than plain Python could, less than any core has; bfloat16's only where there is such an instruction."""
    assert 1 < peak_rate(torch.float32, 0.01) < 1000
    assert peak_rate(torch.bfloat16, 0.01) is None or 1 < peak_rate(torch.bfloat16, 0.01) < 2000
    with pytest.raises(InputError, match=r"dtype is torch\.float16"):
        peak_rate(torch.float16, 0.01)


@pytest.mark.slow
def test_smoke_run_goes_to_the_end(tmp_path, capsys):
    out = tmp_path / "results.json"
    assert attention.main(["--budget", "smoke", "--out", str(out), "--plots", str(tmp_path)]) == 0
    results = json.loads(out.read_text())
    assert results["complete"]
    assert results["runs"][0]["torch"] == torch.__version__
    assert all(found["error"] <= found["tolerance"] for found in results["parity"])
    assert {t["name"] for t in results["times"]} >= {AUTO, CPU, BLOCKED, SDPA, LONGFORMER}
    assert all(0 < t["least"] <= t["median"] for t in results["times"])
    assert [m["n"] for m in results["memory"]] == [512, 1024]
    assert "verdicts" in capsys.readouterr().out
