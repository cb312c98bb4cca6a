"""The loop: its numbers against a loop written out, and all that a run leaves behind."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import assert_same_run, checkpoints, decoder_config, encoder_config, journal, tensors

import gossamer as gs
from gossamer.layers import LowRank
from gossamer.models import Architecture, MaskedLM
from gossamer.models.model import Model
from gossamer.surgery.storages import store
from gossamer.text import byte_tokenizer
from gossamer.training import run as run_module
from gossamer.training.config import TrainingConfig
from gossamer.training.data.token_batches import Batches, open_tokens
from gossamer.training.estimate.estimate import estimate
from gossamer.training.evaluation import Evaluation
from gossamer.training.journal import journal as journal_module
from gossamer.training.loop import train
from gossamer.training.optimization.schedules import rate_at
from gossamer.training.resume import state as state_module


def batches_of(config: TrainingConfig, **changes: Any) -> Batches:
    """The batches of a run, built without it."""
    tokenizer = byte_tokenizer(mask=config.objective.kind == "masked-lm")
    given = {"length": 32, "batch": config.batch.rows, "held_out": config.evaluation.held_out, **changes}
    file = open_tokens(list(config.data.inputs), tokenizer, split=config.data.split)
    return Batches(file=file, tokenizer=tokenizer, objective=config.objective, **given)


def fresh_model(config: TrainingConfig, seed: int = 0) -> Model:
    assert config.model is not None
    torch.manual_seed(seed)
    return Model(config.model.describe(257))


def test_a_run_is_the_plain_loop_bit_for_bit(tmp_path: Path) -> None:
    fields = decoder_config(tmp_path, clipping=0.5)
    fields["model"]["decoder"]["dropout"] = 0.0
    config = TrainingConfig.read(fields)
    trained, receipt = gs.train(config)

    model, batches = fresh_model(config), batches_of(config)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    decay = [one for one in model.parameters() if one.dim() > 1]
    plain = [one for one in model.parameters() if one.dim() == 1]
    groups = [{"params": decay, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, fused=True)
    losses, norms = [], []
    for step in range(6):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * rate_at(config.schedule_of(6), step)
        loss = model(**batches.at(step)).loss
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)))
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    torch.set_num_threads(threads)
    assert min(norms) > 0.5
    assert [one["loss"] for one in journal(tmp_path / "out")] == losses
    assert [one["gradient_norm"] for one in journal(tmp_path / "out")] == norms
    assert [one["rate"] for one in journal(tmp_path / "out")] == [
        0.01 * rate_at(config.schedule_of(6), i) for i in range(6)
    ]
    for name, one in model.state_dict().items():
        assert torch.equal(trained.state_dict()[name], one), name
    assert receipt.loss == losses[-1]


def test_what_a_run_leaves_behind(tmp_path: Path) -> None:
    evaluation = {"held_out": 0.1, "every": 4}
    config = decoder_config(tmp_path, steps=10, evaluation=evaluation, sample={"prompt": "over", "tokens": 5})
    model, receipt = gs.train(config)
    out = tmp_path / "out"
    lines = journal(out)
    assert [one["step"] for one in lines if one["split"] == "train"] == list(range(1, 11))
    assert [one["step"] for one in lines if one["split"] == "held-out"] == [4, 8, 10]
    assert [one["tokens"] for one in lines if one["split"] == "train"] == [6 * 32 * i for i in range(1, 11)]
    losses = [one["loss"] for one in lines if one["split"] == "train"]
    assert losses[-1] < losses[0] - 0.5
    assert checkpoints(out) == ["step-10", "step-9"]
    best = min((one for one in lines if one["split"] == "held-out"), key=lambda one: one["loss"])
    assert receipt.best == {"step": best["step"], "loss": best["loss"]}
    assert receipt.sample is not None
    assert receipt.sample.startswith("over")
    assert (out / "sample.txt").read_text() == receipt.sample
    assert json.loads((out / "receipt.json").read_text()) == receipt.to_dict()
    assert b"<svg" in (out / "loss.svg").read_bytes()
    assert str(receipt) in str(model.receipt)
    for name in ("last", "best"):
        loaded = gs.load(out / name)
        assert loaded.tokenizer.vocabulary_size == 257
        assert loaded.architecture == model.architecture
    for name, tensor in gs.load(out / "last").state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])
    assert "all steps done" in (out / "last" / "README.md").read_text()
    assert not model.training
    assert all(one.grad is None and one.requires_grad for one in model.parameters())


@torch.no_grad()
def test_held_out_numbers_are_those_of_the_saved_model(tmp_path: Path) -> None:
    fields = decoder_config(tmp_path, evaluation={"held_out": 0.2})
    model, receipt = gs.train(fields)
    batches = batches_of(TrainingConfig.read(fields))
    nats, count, size = 0.0, 0, 0
    for batch in batches.evaluation():
        size += int(batch.pop("bytes"))
        labels, segments = batch["labels"][:, 1:], batch["segments"]
        logits = model(input_ids=batch["input_ids"], segments=segments).logits.double()[:, :-1]
        chosen = (labels != -100) & (segments[:, 1:] == segments[:, :-1])
        nats -= float(logits.log_softmax(-1).gather(-1, labels.clamp_min(0)[..., None])[..., 0][chosen].sum())
        count += int(chosen.sum())
    assert receipt.evaluation is not None
    assert receipt.evaluation["loss"] == pytest.approx(nats / count, rel=1e-5)
    assert receipt.evaluation["perplexity"] == pytest.approx(math.exp(nats / count), rel=1e-5)
    assert receipt.evaluation["bits_per_byte"] == pytest.approx(nats / math.log(2) / size, rel=1e-5)
    assert count > 100


def test_accumulated_micro_batches_weigh_labels_not_batches(tmp_path: Path) -> None:
    """float32 sums in another order: weights of size 0.1 differ by some of their last bits, 1e-6 after 6 steps."""
    settings = {"optimizer": {"learning_rate": 0.01, "eps": 1e-3}, "checkpoints": {"every": 6}}
    gs.train(encoder_config(tmp_path, "whole", **settings))
    gs.train(encoder_config(tmp_path, "parts", **settings, batch={"rows": 6, "accumulation": 6}))
    counts = {
        int((row != -100).sum()) for row in batches_of(TrainingConfig.read(encoder_config(tmp_path))).at(0)["labels"]
    }
    assert len(counts) > 1
    one, other = (tensors(tmp_path / name, 6) for name in ("whole", "parts"))
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=1e-6)
    for left, right in zip(journal(tmp_path / "whole"), journal(tmp_path / "parts"), strict=True):
        assert left["loss"] == pytest.approx(right["loss"], abs=1e-5)


def test_recomputing_changes_nothing(tmp_path: Path) -> None:
    stored, _ = gs.train(decoder_config(tmp_path, "stored"))
    again, receipt = gs.train(decoder_config(tmp_path, "again", recompute="both"))
    assert_same_run(tmp_path / "stored", tmp_path / "again", 6)
    assert {one.recompute for one in again.architecture.layers} == {"nothing"}
    assert again.architecture == stored.architecture
    assert receipt.settings["recompute"] == "both"


@pytest.mark.parametrize("name", ["adafactor", "lamb"])
def test_other_optimizers_resume_too(tmp_path: Path, name: str) -> None:
    settings = {"optimizer": {"name": name, "learning_rate": 0.01}}
    gs.train(decoder_config(tmp_path, "unbroken", **settings))
    stopped_after(tmp_path, 3, **settings)
    gs.train(decoder_config(tmp_path, "stopped", **settings), resume="must")
    assert_same_run(tmp_path / "unbroken", tmp_path / "stopped", 6)


def stopped_after(folder: Path, step: int, **changes: Any) -> None:
    """A run in `folder/stopped` that breaks off right after the checkpoint of a step."""
    with pytest.MonkeyPatch.context() as patch:
        update = run_module.Run.update

        def stop(run: run_module.Run) -> None:
            if run.step == step:
                raise MemoryError
            update(run)

        patch.setattr(run_module.Run, "update", stop)
        with pytest.raises(MemoryError):
            gs.train(decoder_config(folder, "stopped", **changes))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_learns_and_resumes(tmp_path: Path, precision: str) -> None:
    settings = {"precision": precision, "steps": 8}
    _, receipt = gs.train(decoder_config(tmp_path, "unbroken", **settings))
    lines = [one["loss"] for one in journal(tmp_path / "unbroken")]
    assert lines[-1] < lines[0] - 0.2
    assert receipt.conditions["precision"] == precision
    assert [one[:29] for one in receipt.notes] == ["precision is 'float16' on a CP"[:29]] * (precision == "float16")
    stopped_after(tmp_path, 3, **settings)
    gs.train(decoder_config(tmp_path, "stopped", **settings))
    assert_same_run(tmp_path / "unbroken", tmp_path / "stopped", 8)


def test_float16_skips_steps_that_overflow_and_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.amp.GradScaler
    monkeypatch.setattr(
        torch.amp, "GradScaler", lambda device, enabled: real(device, init_scale=2.0**24, enabled=enabled)
    )
    gs.train(decoder_config(tmp_path, "some", precision="float16", steps=20, checkpoints={"every": 20}))
    norms = [one["gradient_norm"] for one in journal(tmp_path / "some")]
    assert norms[0] is None
    assert norms[-1] is not None
    state = json.loads((tmp_path / "some" / "checkpoints" / "step-20" / "state.json").read_text())
    assert state["skipped"] == 0
    assert state["scaler"]["scale"] < 2.0**24
    monkeypatch.setattr(
        torch.amp, "GradScaler", lambda device, enabled: real(device, init_scale=2.0**126, enabled=enabled)
    )
    with pytest.raises(gs.GossamerError, match="step 26: its gradients are not finite"):
        gs.train(decoder_config(tmp_path, "many", precision="float16", steps=40))


def test_a_loss_that_is_no_number_stops_and_names_the_documents(tmp_path: Path) -> None:
    config = TrainingConfig.read(decoder_config(tmp_path))
    model = fresh_model(config)
    model.tokenizer = byte_tokenizer()
    with torch.no_grad():
        model.feed_forward[0].up.weight[0, 0] = math.inf
    with pytest.raises(
        gs.GossamerError, match=r"step 1: its loss is not finite; .*nonfinite\.json holds .* not finite either"
    ):
        gs.train(config, model=model)
    found = json.loads((tmp_path / "out" / "nonfinite.json").read_text())
    assert found["step"] == 1
    assert found["documents"] == batches_of(config).ids(0)
    assert found["documents"][0].startswith(str(tmp_path / "text.txt"))


def test_early_stopping_keeps_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([3.0, 2.0, 2.5, math.nan, 1.0])
    monkeypatch.setattr(run_module, "evaluate", lambda *_: Evaluation(loss=next(losses)))
    settings = {"evaluation": {"held_out": 0.1, "every": 2, "patience": 2}, "checkpoints": {"every": 4, "keep": 9}}
    _, receipt = gs.train(decoder_config(tmp_path, steps=100, **settings))
    assert (receipt.steps, receipt.ended) == (8, "no lower loss on held-out text 2 times in a row")
    assert receipt.best == {"step": 4, "loss": 2.0}
    best, at_four = (
        load_file(tmp_path / "out" / place / "model.safetensors") for place in ("best", "checkpoints/step-4")
    )
    assert best.keys() == at_four.keys()
    assert all(torch.equal(best[name], at_four[name]) for name in best)
    last = load_file(tmp_path / "out" / "last" / "model.safetensors")
    assert not torch.equal(last["embeddings.word.weight"], best["embeddings.word.weight"])


def test_minutes_end_a_run(tmp_path: Path) -> None:
    fields = decoder_config(tmp_path, steps=None, minutes=0.01, schedule={"name": "constant"})
    _, receipt = gs.train(fields)
    assert receipt.ended == "out of time"
    assert 0.6 <= receipt.seconds < 10
    assert receipt.steps > 0
    assert gs.train(fields)[1].steps == receipt.steps


def test_the_time_left_knows_of_the_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(
        journal_module.Journal, "show", lambda _, *steps, **numbers: shown.append(numbers["seconds_at_most"])
    )
    gs.train(decoder_config(tmp_path, minutes=5))
    assert len(shown) == 6
    assert 0 < shown[-1] <= shown[0] <= 300
    gs.train(decoder_config(tmp_path, "free"))
    assert shown[-1] is None


def test_long_words_are_remarked_on(tmp_path: Path) -> None:
    """Sequences without a break: most rows hold two words."""
    (tmp_path / "text.txt").write_text("acgt" * 4000)
    notes = {}
    for masking in ("token", "whole-word", "n-gram"):
        changes = {"objective": {"kind": "masked-lm", "masking": masking}, "data": str(tmp_path / "text.txt")}
        notes[masking] = gs.train(encoder_config(tmp_path, masking, **changes))[1].notes
    assert notes["token"] == ()
    for masking in ("whole-word", "n-gram"):
        (note,) = notes[masking]
        assert note.startswith(f"objective.masking is '{masking}', and ")
        assert "% of the rows have no label, since the words of these data are long" in note


def test_epochs_are_steps_of_the_data(tmp_path: Path) -> None:
    fields = decoder_config(tmp_path, steps=None, epochs=0.5)
    expected = batches_of(TrainingConfig.read(fields)).steps(0.5)
    assert gs.train(fields)[1].steps == expected > 3


def test_a_model_that_is_handed_over(tmp_path: Path) -> None:
    config = TrainingConfig.read(
        decoder_config(tmp_path, threads=1, recompute="attention", train_only=["feed_forward"])
    )
    model = fresh_model(config, seed=5)
    model.tokenizer = byte_tokenizer()
    before = {name: one.clone() for name, one in model.state_dict().items()}
    architecture, threads = model.architecture, torch.get_num_threads()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    trained, receipt = gs.train(config, model=model)
    assert torch.equal(torch.rand(3), expected)
    assert trained is model
    assert model.architecture is architecture
    assert torch.get_num_threads() == threads
    changed = {name for name, one in model.state_dict().items() if not torch.equal(one, before[name])}
    assert changed == {name for name in before if name.startswith("feed_forward.")}
    assert receipt.trained == sum(one.numel() for name, one in before.items() if name.startswith("feed_forward."))


def test_naming_a_part_thaws_nothing_that_a_storage_freezes(tmp_path: Path) -> None:
    fields = decoder_config(tmp_path, train_only=["feed_forward.0"])
    model = fresh_model(TrainingConfig.read(fields))
    model.tokenizer = byte_tokenizer()
    model = store(model, {"feed_forward.0.up", "attention.0.query"}, LowRank(rank=2))
    estimated = estimate(fields, model=model)
    before = {name: one.clone() for name, one in model.state_dict().items()}
    trained, receipt = gs.train(fields, model=model)
    changed = {name for name, one in trained.state_dict().items() if not torch.equal(one, before[name])}
    frozen = {"feed_forward.0.up.weight", "feed_forward.0.up.bias"}
    assert changed == {name for name in before if name.startswith("feed_forward.0.")} - frozen
    assert receipt.trained == sum(before[name].numel() for name in changed)
    assert estimated.memory.optimizer == 8 * receipt.trained
    message = r"train_only\[0\] is 'feed_forward\.0\.up\.weight', which the storage of its map leaves as it is; name"
    with pytest.raises(gs.InputError, match=message):
        gs.train({**fields, "output": str(tmp_path / "no"), "train_only": ["feed_forward.0.up.weight"]}, model=model)


def test_a_checkpoint_gets_a_head_only_if_asked(tmp_path: Path) -> None:
    fields = encoder_config(tmp_path)
    del fields["model"]["architecture"]["head"]
    model = Model(Architecture.from_dict(fields["model"]["architecture"]), tokenizer=byte_tokenizer(mask=True))
    fields["model"] = str(gs.save(model, tmp_path / "bare"))
    message = r"objective\.kind is 'masked-lm', but the model in '.*bare' has no head for it; model\.new_head: true"
    with pytest.raises(gs.InputError, match=message):
        gs.train(fields)
    with pytest.raises(gs.InputError, match=r"has no head for it: take a decoder"):
        gs.train({**fields, "objective": "causal-lm"})
    fields["model"] = {"checkpoint": fields["model"], "new_head": True}
    first, receipt = gs.train(fields)
    assert receipt.source == "bare"
    assert isinstance(gs.load(tmp_path / "out" / "last").architecture.head, MaskedLM)
    second, _ = gs.train({**fields, "output": str(tmp_path / "again")})
    assert torch.equal(first.head.dense.weight, second.head.dense.weight)


def test_frozen_rows_stay_as_they_are_in_spite_of_weight_decay(tmp_path: Path) -> None:
    table = "embeddings.position.weight"
    fields = decoder_config(tmp_path, train_only=["embeddings.position"], frozen_rows={table: 20})
    fields["optimizer"] |= {"weight_decay": 0.5}
    model, _ = gs.train(fields)
    before = fresh_model(TrainingConfig.read(fields)).state_dict()
    after = model.state_dict()
    assert torch.equal(after[table][:20], before[table][:20])
    assert (after[table][20:] != before[table][20:]).all(dim=1).any()
    assert [name for name in before if not torch.equal(before[name], after[name])] == [table]
    norm = journal(tmp_path / "out")[0]["gradient_norm"]
    fields["output"], fields["frozen_rows"] = str(tmp_path / "free"), {}
    gs.train(fields)
    assert norm < journal(tmp_path / "free")[0]["gradient_norm"]


def test_two_runs_do_not_share_an_output(tmp_path: Path) -> None:
    config = TrainingConfig.read(decoder_config(tmp_path))

    def inside(text: str) -> None:
        raise AssertionError(text)

    with pytest.MonkeyPatch.context() as patch:

        def second(*_: object) -> None:
            patch.undo()
            train(config, remark=inside)

        patch.setattr(run_module.Run, "update", second)
        with pytest.raises(gs.InputError, match="another run is at work"):
            train(config)


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gs.train(decoder_config(tmp_path, "unbroken", steps=9))
    real, calls = state_module.save_file, []

    def full(content: dict[str, torch.Tensor], path: Path) -> None:
        calls.append(path)
        real(content, path)
        if len(calls) == 4:  # the optimizer's state of the second checkpoint
            path.write_bytes(path.read_bytes()[:100])
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(state_module, "save_file", full)
    config = decoder_config(tmp_path, "broken", steps=9, checkpoints={"every": 3, "keep": 1})
    message = r"step-6: could not be saved \(No space left on device\); .*step-3 is whole: free some space"
    with pytest.raises(gs.GossamerError, match=message):
        gs.train(config)
    assert checkpoints(tmp_path / "broken") == ["step-3"]
    monkeypatch.undo()
    gs.train(config, resume="must")
    assert checkpoints(tmp_path / "broken") == ["step-9"]
    assert_same_run(tmp_path / "unbroken", tmp_path / "broken", 9)
