"""Matches of attention: rows of weights against dense formulas in float64, with gradients; runs that learn by them."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from broken_runs import broken_off
from tiny_runs import assert_same_run, decoder_config
from torch import Tensor

import gossamer as gs
from gossamer.errors import InputError
from gossamer.kernels.weights import on_demand
from gossamer.models import Architecture, Attention, Embeddings, FeedForward, Layer, MaskedLM, Model, Positions
from gossamer.models.decoders import decoder as decoder_of
from gossamer.patterns import Full, Global, Pattern, Window
from gossamer.text import byte_tokenizer
from gossamer.training.config import TrainingConfig
from gossamer.training.loop import train
from gossamer.training.objectives import DistillationObjective, Match
from gossamer.training.objectives.teachers.attention_loss import attention_loss, draw_rows
from gossamer.training.objectives.teachers.teacher import Teacher
from gossamer.training.stops import RunStopped

LENGTH = 11
FULL = Full()
LONG = Window(2, 2) | Global()


def encoder(
    seed: int,
    pattern: Pattern = FULL,
    *,
    heads: int = 2,
    sets: tuple[int, ...] = (0, 1),
    projections: bool = False,
    **of_layer: Any,
) -> Model:
    """Layers after which states are normalised, in float64, with weights at which nothing is trivial."""
    layers = tuple(
        Layer(
            attention=Attention(
                pattern=pattern, heads=heads, head_size=8 // heads, weights=i, dropout=0.0, residual_dropout=0.0,
                global_projections=projections,
            ),
            feed_forward=FeedForward(width=12, weights=i, residual_dropout=0.0),
            **of_layer,
        )
        for i in sets
    )  # fmt: skip
    embeddings = Embeddings(vocabulary_size=30, size=8, positions=Positions(length=LENGTH), dropout=0.0)
    torch.manual_seed(seed)
    first = "first" if pattern.sees_flags else "none"
    described = Architecture(
        hidden_size=8,
        embeddings=embeddings,
        layers=layers,
        head=MaskedLM(),
        global_tokens=first,  # type: ignore[arg-type]
    )
    model = Model(described).double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.4)
    return model


def batch_of(rows: int = 3) -> dict[str, Tensor]:
    ids = torch.randint(1, 30, (rows, LENGTH), generator=torch.Generator().manual_seed(3))
    mask = torch.arange(LENGTH)[None] < torch.tensor([LENGTH, 5, 8])[:rows, None]
    return {"input_ids": ids, "attention_mask": mask.long(), "labels": ids.where(mask & (ids % 3 == 0), -100)}


def dense_weights(model: Model, layer: int, batch: dict[str, Tensor]) -> Tensor:
    """[batch, heads, length, length], by hand from the states that the layer reads."""
    states = model(batch["input_ids"], batch["attention_mask"], output_hidden_states=True).hidden_states[layer]
    settings = model.architecture.layers[layer].attention
    maps: Any = model.attention[settings.weights]
    flags = torch.zeros(states.shape[:2], dtype=torch.bool)
    flags[:, 0] = settings.pattern.sees_flags
    real = batch["attention_mask"].bool()

    def weights(query: Any, key: Any, sees: Tensor) -> Tensor:
        q, k = (one(states).unflatten(-1, (-1, settings.head_size)).transpose(1, 2) for one in (query, key))
        scores = q @ k.mT / settings.head_size**0.5
        return scores.masked_fill(~(sees & real[:, None, None]), -torch.inf).softmax(-1)

    sees = torch.stack([settings.pattern.mask(LENGTH, flags=one) for one in flags])[:, None]
    found = weights(maps.query, maps.key, sees)
    if settings.global_projections:
        everything = torch.ones_like(sees)
        found = torch.where(flags[:, None, :, None], weights(maps.query_global, maps.key_global, everything), found)
    return found


def by_hand(told: Tensor, wanted: Tensor, batch: dict[str, Tensor], rows: Tensor, loss: str) -> Tensor:
    """Text by text, head by head, row by row, over real tokens."""
    total = []
    for text, real in enumerate(batch["attention_mask"].bool()):
        for row in rows[text].tolist():
            for s, t in zip(told[text, :, row, real], wanted[text, :, row, real], strict=True):
                sees = t > 0
                if loss == "kl":
                    total.append((t[sees] * (t[sees].log() - s[sees].log())).sum())
                elif loss == "cosine":
                    total.append(1 - (s @ t) / s.norm() / t.norm())
                elif loss == "mse":
                    total.append((s - t).square().mean())
                else:
                    total.append((s[sees].log() - t[sees].log()).square().sum() / len(s))
    return torch.stack(total).mean()


def objective_of(**changes: Any) -> DistillationObjective:
    settings = {"data": "speeches", "output": "x", "steps": 1, "objective": "masked-lm"}
    task = TrainingConfig.read(settings).objective
    return DistillationObjective(task=task, **{"soft_weight": 0.0, "task_weight": 0.0, "cosine_weight": 0.0, **changes})


def attached(student: Model, teacher: Model, *matches: Match, **changes: Any) -> DistillationObjective:
    objective = objective_of(matches=matches, **changes)
    Teacher.of(teacher.eval()).give_to(student)
    objective.attach(student, 0, 1)
    return objective


def assert_gradients(student: Model, found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted)
    parameters = list(student.parameters())
    mine, others = (torch.autograd.grad(one, parameters, allow_unused=True) for one in (found, wanted))
    for one, other in zip(mine, others, strict=True):
        one, other = (torch.zeros(1).double() if x is None or not x.any() else x for x in (one, other))
        torch.testing.assert_close(one, other)
    assert any(one is not None and bool(one.any()) for one in mine)


@pytest.mark.parametrize("loss", ["kl", "cosine", "mse", "log-mse"])
@pytest.mark.parametrize(
    ("pattern", "projections"),
    [(Full(), False), (Window(2, 2), False), (Window(2, 2), True), (LONG, False), (LONG, True)],
)
def test_attention_is_matched_as_by_its_formula(pattern: Pattern, projections: bool, loss: Any) -> None:
    """Of every real row, over real keys, with windows, global tokens and padding; gradients too."""
    teacher, student = encoder(1, pattern, projections=projections), encoder(2, pattern, projections=projections)
    objective = attached(student, teacher, Match(teacher=1, student=-1, of="attention", loss=loss, weight=3.0))
    batch = batch_of()
    with torch.no_grad():
        wanted = dense_weights(teacher, 1, batch)
    told = dense_weights(student, 1, batch)
    rows = torch.arange(LENGTH).expand(3, -1)
    real = [row[mask.bool()] for row, mask in zip(rows, batch["attention_mask"], strict=True)]
    expected = 3 * by_hand(told, wanted, batch, real, loss)  # type: ignore[arg-type]
    assert_gradients(student, objective.loss(student, batch), expected)
    assert all(one.grad is None for one in teacher.parameters())


def test_some_rows_are_drawn_and_no_more_are_computed() -> None:
    teacher, student = encoder(1), encoder(2)
    objective = attached(student, teacher, Match(teacher=0, student=1, of="attention", loss="kl", rows=4))
    batch = batch_of()
    shapes: list[tuple[int, ...]] = []
    rows_of = on_demand._rows

    def watched(*given: Any) -> Tensor:
        found = rows_of(*given)
        shapes.append(tuple(found.shape))
        return found

    torch.manual_seed(8)
    with patch.object(on_demand, "_rows", watched):
        found = objective.loss(student, batch)
    assert shapes == [(3, 2, 4, LENGTH)] * 2
    torch.manual_seed(8)
    rows, is_real = draw_rows(batch["attention_mask"].bool(), 4)
    assert bool(is_real.all())
    with torch.no_grad():
        wanted = dense_weights(teacher, 0, batch)
    assert_gradients(student, found, by_hand(dense_weights(student, 1, batch), wanted, batch, rows, "kl"))


def test_rows_are_real_different_and_drawn_anew() -> None:
    real = torch.arange(50)[None] < torch.tensor([50, 20, 3])[:, None]
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        rows, is_real = draw_rows(real, 8)
        assert is_real.sum(1).tolist() == [8, 8, 3]
        assert all(len(set(text.tolist())) == 8 for text in rows)
        assert bool((rows[is_real] < torch.tensor([50, 20, 3]).repeat_interleave(is_real.sum(1))).all())
        drawn.append(rows)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_heads_are_averaged_where_their_numbers_differ() -> None:
    teacher, student = encoder(1, heads=4), encoder(2, heads=2)
    match = {"teacher": 0, "student": 0, "of": "attention", "loss": "kl"}
    with pytest.raises(InputError, match=r"^objective\.matches\[0\]: the teacher's layer has 4 heads and the"):
        attached(student, teacher, Match(**match))
    objective = attached(student, teacher, Match(**match, average_heads=True))
    batch = batch_of(rows=1)
    with torch.no_grad():
        wanted = dense_weights(teacher, 0, batch).mean(1, keepdim=True)
    told = dense_weights(student, 0, batch).mean(1, keepdim=True)
    rows = torch.arange(LENGTH)[None]
    assert_gradients(student, objective.loss(student, batch), by_hand(told, wanted, batch, rows, "kl"))


def test_layers_that_share_weights_and_are_computed_again() -> None:
    """As their own layers do that are kept; beside a match of states."""
    teacher, batch = encoder(1, sets=(0, 0)), batch_of()
    losses, gradients = [], []
    for recompute in ("nothing", "both"):
        student = encoder(2, sets=(0, 0), recompute=recompute).train()
        matches = Match(teacher=0, student=1, of="attention", loss="kl"), Match(teacher=1, student=1)
        loss = attached(student, teacher, *matches, soft_weight=1.0).loss(student, batch)
        loss.backward()
        losses.append(loss)
        gradients.append([one.grad for one in student.parameters() if one.grad is not None])
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_weights_that_underflow_have_a_finite_loss() -> None:
    """In float32 a student's weight may be 0 where its teacher's is not."""
    scores = torch.tensor([[[[0.0, 200.0, 1.0]]]], requires_grad=True)
    teacher = torch.tensor([[[[0.5, 0.25, 0.25]]]])
    real = torch.ones(1, 1, dtype=torch.bool), torch.ones(1, 3, dtype=torch.bool)
    for loss in ("kl", "log-mse"):
        found = attention_loss(scores.softmax(-1), teacher, *real, loss)
        assert bool(found.isfinite())
        assert bool(torch.autograd.grad(found, scores)[0].isfinite().all())
    nothing = torch.zeros(1, 1, 1, 3)
    assert float(attention_loss(nothing, nothing, *real, "cosine")) == 0


def test_what_does_not_compare_is_one_line() -> None:
    one = Match(teacher=0, student=0, of="attention", loss="kl")
    with pytest.raises(
        InputError, match=r"^objective\.matches\[0\]: the teacher's layer attends by full and the student"
    ):
        attached(encoder(2, Window(2, 2)), encoder(1), one)
    with pytest.raises(InputError, match=r"^loss is 'kl'; it must be 'cosine' or 'mse' of states"):
        Match(teacher=0, student=0, loss="kl")
    with pytest.raises(InputError, match=r"^rows is 3; it must be left out"):
        Match(teacher=0, student=0, rows=3)
    with pytest.raises(InputError, match=r"^rows is 0; it must be a whole number"):
        Match(teacher=0, student=0, of="attention", rows=0)
    with pytest.raises(InputError, match=r"^of is 'values'"):
        Match(teacher=0, student=0, of="values")  # type: ignore[arg-type]


@pytest.mark.parametrize("how", [RunStopped, MemoryError])
def test_a_run_goes_on_to_the_same_bits(how: type[BaseException], tmp_path: Path) -> None:
    """The rows are drawn by seed and step."""
    torch.manual_seed(5)
    sizes = {"layers": 2, "hidden_size": 16, "heads": 2, "length": 32}
    teacher = Model(decoder_of(**sizes, vocabulary_size=257, patterns=[Full(causal=True)]), tokenizer=byte_tokenizer())
    gs.save(teacher, tmp_path / "teacher")
    objective = {"kind": "distillation", "task": {"kind": "causal-lm"}, "teacher": str(tmp_path / "teacher")}
    objective["matches"] = [{"teacher": 1, "student": 0, "of": "attention", "loss": "kl", "rows": 5}]  # type: ignore
    settings = {"steps": 6, "checkpoints": {"every": 2}, "evaluation": {"held_out": 6, "every": 2}}
    model = {"decoder": {**sizes, "layers": 1, "dropout": 0.1}}
    configs = [
        decoder_config(tmp_path, name, model=model, objective=objective, **settings) for name in ("unbroken", "broken")
    ]
    train(configs[0])
    broken_off(configs[1], 4, how)
    train(configs[1], resume="must")
    assert_same_run(tmp_path / "unbroken", tmp_path / "broken", 6)
