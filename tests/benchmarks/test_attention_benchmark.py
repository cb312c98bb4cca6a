"""benchmarks/attention.py: its gate refuses wrong peers, its verdicts say what was measured, and it runs to the end."""

import json
from dataclasses import replace

import attention
import contestants
import pytest
import torch
from contestants import AUTO, BLOCKED, CONTESTANTS, CPU, FLEX, LONGFORMER, SDPA, Contestant, make_problem, prepare
from gate import ParityError, require_parity
from peak_memory import exponent
from torch.nn.attention.flex_attention import create_block_mask
from verdicts import verdicts

import gossamer as gs


def check(contestant: Contestant, n: int = 600, whole: bool = False):
    return require_parity(prepare(contestant, make_problem(n, torch.float32, seed=1)), whole=whole)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("name", [AUTO, CPU, BLOCKED, SDPA, contestants.DENSE, LONGFORMER])
def test_gate_lets_right_outputs_pass(name, whole):
    assert all(found.error <= found.tolerance for found in check(CONTESTANTS[name], whole=whole))


def shifted_window(n, dtype, setting):
    return lambda q, k, v: gs.attend(q, k, v, gs.Window(256, 255))


def poisoned(n, dtype, setting):
    def call(q, k, v):
        out = gs.attend(q, k, v, contestants.WINDOW)
        return torch.where(torch.arange(n)[:, None] == n - 1, torch.nan, out)

    return call


def detached_values(n, dtype, setting):
    return lambda q, k, v: gs.attend(q, k, v.detach() + 0 * v, contestants.WINDOW)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    ("wrong", "what"), [(shifted_window, "output"), (poisoned, "output"), (detached_values, "gradients")]
)
def test_gate_refuses_corrupted_outputs_and_gradients(wrong, what, whole):
    with pytest.raises(ParityError, match=f"culprit .*{what}"):
        check(replace(CONTESTANTS[AUTO], name="culprit", prepare=wrong), whole=whole)


def test_red_parity_ends_the_run_without_results(monkeypatch, capsys, tmp_path):
    wrong = replace(CONTESTANTS[BLOCKED], prepare=shifted_window)
    monkeypatch.setitem(CONTESTANTS, BLOCKED, wrong)
    out = tmp_path / "results.json"
    assert attention.main(["--quick", "--out", str(out)]) == 1
    printed = capsys.readouterr()
    assert f"parity is red, so nothing is reported: {BLOCKED}" in printed.err
    assert printed.out == ""
    assert not out.exists()


def test_interrupt_writes_what_was_measured(monkeypatch, tmp_path):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(attention.Benchmark, "run", interrupted)
    out, plot = tmp_path / "results.json", tmp_path / "plot.svg"
    assert attention.main(["--quick", "--out", str(out), "--plot", str(plot)]) == 130
    assert json.loads(out.read_text())["complete"] is False
    assert plot.stat().st_size > 0


@pytest.mark.parametrize(("n", "size"), [(1, 64), (600, 64), (777, 128), (2048, 128)])
def test_block_mask_is_the_one_torch_finds(n, size):
    ours = contestants.band_block_mask(n, size)
    theirs = create_block_mask(contestants.in_band, None, None, n, n, device="cpu", BLOCK_SIZE=size)
    assert torch.equal(ours.to_dense(), theirs.to_dense())
    assert torch.equal(ours.full_kv_num_blocks, theirs.full_kv_num_blocks)
    assert ours.shape[-2:] == theirs.shape[-2:]


@pytest.mark.parametrize("setting", ["boolean", "additive"])
def test_mask_for_sdpa_is_the_window(setting):
    mask = contestants.sdpa_masked(600, torch.float32, setting).keywords["attn_mask"]
    assert torch.equal(mask if setting == "boolean" else mask == 0, contestants.WINDOW.mask(600))
    assert mask.nbytes == contestants.mask_bytes(600, torch.float32, setting)


def test_useful_work_counts_allowed_pairs_only():
    pairs = int(contestants.WINDOW.mask(700).sum())
    assert contestants.useful_flops(700, "forward") == 4 * pairs * 12 * 64
    assert contestants.useful_flops(700, "forward + backward") == 14 * pairs * 12 * 64


@pytest.mark.parametrize("power", [1, 2])
def test_exponent_of_a_power_is_found(power):
    lengths = [2048, 4096, 8192]
    assert exponent(lengths, [3 * n**power for n in lengths]) == pytest.approx(power)


def timed(name, seconds, n=4096, direction="forward"):
    return {
        "section": "wall", "dtype": "float32", "direction": direction, "name": name, "n": n, "samples": {0: seconds},
    }  # fmt: skip


def words(times, memory=()):
    return {verdict.goal: verdict.word for verdict in verdicts(times, memory)}


def test_verdicts_name_every_goal_even_unmeasured():
    found = words([])
    assert len(found) == 14
    assert set(found.values()) == {"not measured"}


@pytest.mark.parametrize(
    ("name", "peer", "seconds", "goal"),
    [
        (BLOCKED, LONGFORMER, 4.0, "blocked at least 4x"),
        (BLOCKED, FLEX, 0.95, "blocked at least 0.95x"),
        (CPU, LONGFORMER, 14.0, "cpu at least 14x"),
        (CPU, FLEX, 2.5, "cpu at least 2.5x"),
    ],
)
def test_speed_verdicts_turn_at_their_goal(name, peer, seconds, goal):
    for factor, word in ((1.001, "holds"), (0.999, "falls short")):
        found = words([timed(name, 1.0), timed(peer, seconds * factor)])
        forward = {g: w for g, w in found.items() if "backward" not in g}
        assert {w for g, w in forward.items() if g.startswith(goal)} == {word}


@pytest.mark.parametrize("direction", ["forward", "forward + backward"])
def test_one_slow_length_is_enough_to_fall_short(direction):
    times = [timed(name, 1.0, n, direction) for name in (AUTO, SDPA) for n in (512, 1024)]
    goal = f"auto never over 10% slower than SDPA given the same mask, {direction}, every n"
    assert words(times)[goal] == "holds"
    slow = [timed(AUTO, 1.11, 2048, direction), timed(SDPA, 1.0, 2048, direction)]
    assert words(times + slow)[goal] == "falls short"


@pytest.mark.parametrize(("power", "word"), [(1, "holds"), (1.5, "falls short")])
def test_memory_verdict_reads_the_growth(power, word):
    memory = [
        {"name": BLOCKED, "direction": "forward", "n": n, "extra": 10 * n**power, "held": 0} for n in (2048, 4096, 8192)
    ]
    assert words([], memory)["blocked: peak memory linear in n, forward"] == word


@pytest.mark.slow
def test_quick_run_goes_to_the_end(tmp_path, capsys):
    out, plot = tmp_path / "results.json", tmp_path / "plot.png"
    assert attention.main(["--quick", "--out", str(out), "--plot", str(plot)]) == 0
    results = json.loads(out.read_text())
    assert results["complete"]
    assert results["conditions"]["torch"] == torch.__version__
    assert all(found["error"] <= found["tolerance"] for found in results["parity"])
    assert {t["name"] for t in results["times"]} >= {AUTO, BLOCKED, SDPA, LONGFORMER}
    assert all(0 < t["least"] <= t["median"] for t in results["times"])
    assert [m["n"] for m in results["memory"]] == [512, 1024]
    assert len(results["verdicts"]) == 9
    assert "verdicts" in capsys.readouterr().out
    assert plot.stat().st_size > 0
