"""The triple loss against hand-written formulas, and runs that learn from a teacher."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from broken_runs import broken_off
from tiny_runs import assert_same_run, decoder_config
from tiny_teachers import decoder, distilling, encoder
from torch import Tensor
from torch.nn import functional as F

import gossamer as gs
from gossamer.errors import InputError
from gossamer.models import SequenceClassification, TokenClassification
from gossamer.models.next_token import next_tokens
from gossamer.text import byte_tokenizer
from gossamer.training.config import TrainingConfig
from gossamer.training.loop import train
from gossamer.training.material import check_model
from gossamer.training.objectives import DistillationObjective, Match
from gossamer.training.objectives.teachers import soft_targets
from gossamer.training.objectives.teachers.soft_targets import cosine_distance, soft_target_loss, vocabulary_losses
from gossamer.training.objectives.teachers.teacher import Teacher, teacher_of
from gossamer.training.stops import RunStopped

TERMS = ("soft_weight", "task_weight", "cosine_weight")


def padded(vocabulary: int = 256, rows: int = 3, length: int = 9) -> dict[str, Tensor]:
    """Token ids of texts of several lengths."""
    random = torch.Generator().manual_seed(1)
    ids = torch.randint(0, vocabulary, (rows, length), generator=random)
    mask = torch.arange(length)[None] < torch.tensor([9, 5, 7])[:rows, None]
    return {"input_ids": ids, "attention_mask": mask.long()}


def soft_by_hand(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 sum_i p_i (log p_i - log q_i), the mean over rows, in float64."""
    p, q = (torch.exp(one.double() / temperature) for one in (teacher, student))
    p, q = p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)
    return temperature**2 * (p * (p / q).log()).sum(-1).mean()


def cosine_by_hand(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    one, other = student[mask.bool()].double(), teacher[mask.bool()].double()
    return (1 - (one * other).sum(-1) / one.norm(dim=-1) / other.norm(dim=-1)).mean()


def test_soft_targets_are_torchs_divergence() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(7, 11), torch.randn(7, 11)
    found = soft_target_loss(student, teacher, 3.0)
    reduced = F.kl_div((student / 3).log_softmax(-1), (teacher / 3).softmax(-1), reduction="batchmean") * 9
    torch.testing.assert_close(found.mean(), reduced)
    torch.testing.assert_close(found.mean().double(), soft_by_hand(student, teacher, 3.0))


def test_the_cosine_is_over_real_tokens() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 2, 5, 6).unbind()
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    found = cosine_distance(student, teacher.where(mask[..., None] > 0, torch.nan), mask.bool())
    torch.testing.assert_close(found.double(), cosine_by_hand(student, teacher, mask))


@pytest.mark.parametrize("chunk", [1, 33, 10**6])
def test_chunks_of_the_vocabulary_change_nothing(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and gradients of both losses, whatever the chunks; no more scores at once than a chunk's."""
    monkeypatch.setattr(soft_targets, "CHUNK_SCORES", chunk)
    torch.manual_seed(0)
    states, table = torch.randn(7, 4, requires_grad=True), torch.randn(11, 4, requires_grad=True)
    theirs, other = torch.randn(7, 5), torch.randn(11, 5)
    labels = torch.randint(0, 11, (7,))
    sizes: list[int] = []

    def scores_of(some: Tensor) -> Tensor:
        sizes.append(some.shape[0] * 11)
        return some @ table.T

    hard, soft = vocabulary_losses(
        (states, scores_of), (theirs, lambda some: some @ other.T), labels, 2.0, vocabulary=11
    )
    assert max(sizes) <= max(chunk, 11)
    logits = states @ table.T
    wanted = F.cross_entropy(logits, labels), soft_by_hand(logits, theirs @ other.T, 2.0).float()
    torch.testing.assert_close((hard, soft), wanted)
    for mine, expected in zip((hard, soft), wanted, strict=True):
        found = torch.autograd.grad(mine, [states, table], retain_graph=True)
        torch.testing.assert_close(found, torch.autograd.grad(expected, [states, table], retain_graph=True))


@pytest.mark.parametrize("weights", [(5.0, 2.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 3.0), (0.0, 0.0, 1.0)])
@pytest.mark.parametrize("kind", ["masked-lm", "causal-lm", "classification", "tagging"])
def test_the_loss_is_its_formula(kind: str, weights: tuple[float, float, float], tmp_path: Path) -> None:
    """Term by term in float64, and its gradients; a term of weight 0 leaves nothing."""
    batch, models = padded(), []
    for seed in (1, 2):
        if kind == "causal-lm":
            models.append(decoder(seed))
        elif kind == "masked-lm":
            models.append(encoder(tmp_path, seed))
        else:
            labels = ("a", "b", "c")
            single = SequenceClassification(labels=labels, problem_type="single_label_classification")
            head = single if kind == "classification" else TokenClassification(labels=labels)
            models.append(encoder(tmp_path, seed, head=head))
    teacher, student = (one.double().eval() for one in models)
    text = batch["input_ids"].where(batch["attention_mask"] > 0, -100)
    labels_of = {
        "masked-lm": text.where(text % 3 == 0, -100),
        "causal-lm": text,
        "classification": torch.tensor([0, -100, 2]),
        "tagging": (batch["input_ids"] % 3).where(batch["attention_mask"] > 0, -100),
    }
    batch["labels"] = labels_of[kind]
    objective = DistillationObjective(
        task=TrainingConfig.read(
            {"data": "speeches", "output": str(tmp_path), "steps": 1, "objective": kind}
        ).objective,
        temperature=3.0,
        **dict(zip(TERMS, weights, strict=True)),
    )
    Teacher.of(teacher).give_to(student)
    objective.attach(student, 0, 1)
    loss = objective.loss(student, batch)
    ours, theirs = (one(**{name: x for name, x in batch.items() if name != "labels"}) for one in (student, teacher))
    targets = next_tokens(batch["labels"], None) if kind == "causal-lm" else batch["labels"]
    there = targets != -100
    terms = (
        soft_by_hand(ours.logits[there], theirs.logits[there], 3.0),
        F.cross_entropy(ours.logits[there], targets[there]),
        cosine_by_hand(ours.last_hidden_state, theirs.last_hidden_state, batch["attention_mask"]),
    )
    wanted = sum(weight * term for weight, term in zip(weights, terms, strict=True) if weight)
    torch.testing.assert_close(loss, wanted)
    parameters = list(student.parameters())
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    expected = torch.autograd.grad(wanted, parameters, allow_unused=True)
    for mine, other in zip(found, expected, strict=True):
        mine, other = (torch.zeros(1).double() if x is None or not x.any() else x for x in (mine, other))
        torch.testing.assert_close(mine, other)
    assert all(one.grad is None for one in teacher.parameters())
    objective.detach(student)
    assert teacher_of(student) is None


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
def test_other_problems_have_soft_targets_too(problem: Any, tmp_path: Path) -> None:
    head = SequenceClassification(labels=("a", "b"), problem_type=problem)
    teacher, student = (encoder(tmp_path, seed, head=head).double().eval() for seed in (1, 2))
    objective = DistillationObjective(
        task=TrainingConfig.read(
            {"data": "speeches", "output": "x", "steps": 1, "objective": "classification"}
        ).objective,
        soft_weight=1.0, task_weight=0.0, cosine_weight=0.0,
    )  # fmt: skip
    Teacher.of(teacher).give_to(student)
    objective.attach(student, 0, 1)
    batch = padded()
    ours, theirs = student(**batch).logits, teacher(**batch).logits
    found = objective.loss(student, {**batch, "labels": torch.zeros(3, 2).double().float()})
    if problem == "regression":
        wanted = (ours - theirs).square().mean()
    else:
        p, q = (theirs / 2).sigmoid(), (ours / 2).sigmoid()
        wanted = 4 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()
    torch.testing.assert_close(found, wanted)


def test_matched_layers_learn_through_projections(tmp_path: Path) -> None:
    """States behind layers, over real tokens; a narrower student's through a map that is left behind."""
    teacher = decoder(1).double().eval()
    student = decoder(2, hidden_size=8, layers=1).double().eval()
    matches = (Match(teacher=0, student=0, weight=2.0), Match(teacher=-1, student=-1, loss="cosine"))
    objective = DistillationObjective(
        task=TrainingConfig.read({"data": "speeches", "output": "x", "steps": 1}).objective,
        soft_weight=0.0, task_weight=0.0, cosine_weight=0.0, matches=matches,
    )  # fmt: skip
    Teacher.of(teacher).give_to(student)
    objective.attach(student, 0, 1)
    batch = padded()
    maps = student.get_submodule("distillation_projections")
    ours, theirs = (one(**batch, output_hidden_states=True).hidden_states for one in (student, teacher))
    real = batch["attention_mask"]
    first = maps.get_submodule("0")(ours[1]) - theirs[1]
    wanted = 2 * first[real.bool()].square().mean()
    wanted = wanted + cosine_by_hand(maps.get_submodule("1")(ours[1]), theirs[2], real)
    torch.testing.assert_close(objective.loss(student, {**batch, "labels": batch["input_ids"]}), wanted)
    with objective.alone(student):
        assert not hasattr(student, "distillation_projections")
    assert hasattr(student, "distillation_projections")
    objective.detach(student)
    assert not hasattr(student, "distillation_projections")


@pytest.mark.parametrize("kind", ["classification", "masked-lm", "causal-lm", "vectors"])
@pytest.mark.parametrize("how", [RunStopped, MemoryError])
def test_a_run_goes_on_to_the_same_bits(kind: str, how: type[BaseException], tmp_path: Path) -> None:
    settings = {"steps": 6, "checkpoints": {"every": 2}, "evaluation": {"held_out": 6, "every": 2}}
    train(distilling(tmp_path, kind, "unbroken", **settings))
    broken_off(distilling(tmp_path, kind, "broken", **settings), 4, how)
    train(distilling(tmp_path, kind, "broken", **settings), resume="must")
    assert_same_run(tmp_path / "unbroken", tmp_path / "broken", 6)


def test_another_teacher_is_refused(tmp_path: Path) -> None:
    settings = {"steps": 6, "checkpoints": {"every": 2}}
    broken_off(distilling(tmp_path, "causal-lm", **settings), 4, RunStopped)
    other = decoder(6)
    other.tokenizer = byte_tokenizer()
    gs.save(other, tmp_path / "teacher")
    with pytest.raises(InputError, match=r"^the teacher is not that of the run, which stands at step 4: put it back"):
        train(distilling(tmp_path, "causal-lm", **settings))


def test_what_does_not_fit_is_one_line(tmp_path: Path) -> None:
    task = {"kind": "causal-lm"}
    refused = [
        ({"kind": "distillation"}, r"^objective\.task is missing"),
        ({"kind": "distillation", "task": task}, r"^objective\.teacher is None; it must be a checkpoint"),
        ({"kind": "distillation", "task": task, "temperature": 0}, r"^objective\.temperature is 0"),
        ({"kind": "distillation", "task": task, "soft_weight": -1}, r"^objective\.soft_weight is -1"),
        ({"kind": "distillation", "task": {"kind": "replaced-token"}}, r"^objective\.task\.kind is 'replaced-token'"),
        (
            {"kind": "distillation", "task": task, "soft_weight": 0, "cosine_weight": 0},
            r"^objective\.soft_weight is 0; it must be above 0, or another term",
        ),
        (
            {"kind": "distillation", "task": task, "matches": [{"teacher": 0, "student": 0, "loss": "kl"}]},
            r"^objective\.matches\[0\]\.loss is 'kl'",
        ),
    ]
    for objective, message in refused:
        with pytest.raises(InputError, match=message):
            train(decoder_config(tmp_path, objective=objective))


@pytest.mark.parametrize(
    ("changes", "objective", "message"),
    [
        ({"vocabulary_size": 300}, {}, r"^teacher and student have different vocabularies \(300 tokens and 257\)"),
        ({"hidden_size": 8}, {}, r"^cosine_weight compares states 16 and 8 wide"),
        (
            {},
            {"matches": (Match(teacher=2, student=0),)},
            r"^objective\.matches\[0\]\.teacher is 2; the teacher has 2 layers, 0 to 1$",
        ),
    ],
)
def test_a_student_that_does_not_fit_is_one_line(changes: dict, objective: dict, message: str) -> None:
    student = decoder(2, **changes)
    Teacher.of(decoder(1)).give_to(student)
    task = TrainingConfig.read({"data": "speeches", "output": "x", "steps": 1}).objective
    with pytest.raises(InputError, match=message):
        DistillationObjective(task=task, **objective).attach(student, 0, 1)


def test_other_labels_are_one_line(tmp_path: Path) -> None:
    heads = [SequenceClassification(labels=names) for names in (("a", "b"), ("b", "a"))]
    teacher, student = (encoder(tmp_path, 1, head=head) for head in heads)
    Teacher.of(teacher).give_to(student)
    task = TrainingConfig.read({"data": "speeches", "output": "x", "steps": 1, "objective": "classification"}).objective
    with pytest.raises(InputError, match=r"^the teacher's labels are \['a', 'b'\] and the student's \['b', 'a'\]"):
        DistillationObjective(task=task).attach(student, 0, 1)
    student.architecture = dataclasses.replace(student.architecture, head=TokenClassification(labels=("a", "b")))
    with pytest.raises(InputError, match=r"^the teacher has the head 'sequence-classification' and the student"):
        DistillationObjective(task=task).attach(student, 0, 1)


@pytest.mark.parametrize("kind", ["causal-lm", "vectors"])
def test_fsdp2_is_one_line(kind: str, tmp_path: Path) -> None:
    config = TrainingConfig.read(distilling(tmp_path, kind, parallel="fsdp2"))
    with pytest.raises(InputError, match=r"^parallel is 'fsdp2', which cuts the model into pieces; "):
        check_model(config, gs.load(tmp_path / "teacher"), sharded=True)
