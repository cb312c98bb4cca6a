"""Pruning by what a model does with some rows, without training: scores against their formulas, in float64."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import gossamer as gs
from gossamer.errors import InputError
from gossamer.families import get_family
from gossamer.models import Model
from gossamer.models.decoders import decoder
from gossamer.models.heads import SentenceEmbedding, SequenceClassification
from gossamer.text import byte_tokenizer, train_tokenizer
from gossamer.training.pruning.choice import keep_highest

THINGS = ["film", "song", "book"]
ROWS = [{"text": " ".join([THINGS[i % 3]] * (1 + i % 4)), "label": THINGS[i % 3]} for i in range(12)]
READ: dict[str, Any] = {"samples": 12, "batch": 4, "settings": {"threads": 1}}


def classifier() -> Model:
    torch.manual_seed(0)
    tokenizer = train_tokenizer(THINGS, family="bert", vocabulary_size=40, max_length=32)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_hidden_layers": 2}
    sizes |= {"vocab_size": tokenizer.vocabulary_size, "max_position_embeddings": 32}
    head = SequenceClassification(labels=tuple(THINGS), problem_type="single_label_classification")
    return Model(get_family("bert").read(sizes, head=head), family="bert", tokenizer=tokenizer).double().eval()


def batch(model: Model) -> dict[str, Any]:
    assert model.tokenizer is not None
    read = model.tokenizer([row["text"] for row in ROWS])
    return {**read, "labels": torch.tensor([THINGS.index(row["label"]) for row in ROWS])}


MAPS = [f"{part}" for part in ("attention.0.query", "attention.1.output", "feed_forward.0.up", "feed_forward.1.down")]


def test_gradient_times_weight_of_the_mean_loss() -> None:
    model = classifier()
    before = {name: one.clone() for name, one in model.state_dict().items()}
    new, receipt = gs.prune(model, ROWS, score="gradient", keep=0.4, **READ)
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    assert all(one.grad is None for one in model.parameters())
    model(**batch(model)).loss.backward()
    for name in MAPS:
        weight = model.get_parameter(f"{name}.weight")
        score = (weight.detach() * weight.grad).abs()
        kept = score >= score.flatten().sort(descending=True).values[round(0.4 * score.numel()) - 1]
        assert torch.equal(new.get_parameter(f"{name}.weight"), weight.where(kept, 0))
    assert receipt.settings["samples"] == 12
    for name, one in new.named_parameters():
        assert one.dim() != 1 or torch.equal(one, before[name]), name


@pytest.mark.parametrize("scope", ["row", "layer"])
def test_wanda_is_the_weight_times_the_norm_of_what_it_reads(scope: str) -> None:
    """Padding is not read."""
    model = classifier()
    new, _ = gs.prune(model, ROWS, score="wanda", keep=0.5, scope=scope, **READ)
    read: dict[str, Any] = {}
    given = batch(model)
    real = given["attention_mask"].bool()
    assert not real.all()
    for name in MAPS:
        model.get_submodule(name).register_forward_pre_hook(lambda _, x, name=name: read.update({name: x[0][real]}))
    model(**given)
    for name in MAPS:
        weight = model.get_parameter(f"{name}.weight").detach()
        score = weight.abs() * read[name].detach().square().sum(0).sqrt()
        kept = torch.zeros_like(score)
        if scope == "row":
            for i, row in enumerate(score):
                kept[i, row.argsort(descending=True)[: len(row) // 2]] = 1
        else:
            kept.view(-1)[score.flatten().argsort(descending=True)[: score.numel() // 2]] = 1
        assert torch.equal(new.get_parameter(f"{name}.weight"), weight * kept + 0.0), name


@pytest.mark.parametrize("score", ["gradient", "wanda"])
def test_texts_prune_a_decoder(tmp_path: Path, score: str) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"text {i} about nothing at all" for i in range(40)))
    sizes = {"layers": 2, "hidden_size": 16, "heads": 2, "length": 32, "vocabulary_size": 257}
    model = Model(decoder(**sizes, patterns=[gs.Full(causal=True)]), family="gpt2", tokenizer=byte_tokenizer())
    read = {**READ, "settings": {"threads": 1, "data.split": "lines"}}
    new, receipt = gs.prune(model, text, score=score, structure=["heads", "neurons"], keep=0.5, **read)
    assert receipt.changes == ("2 of 4 heads are left", "64 of 128 neurons are left")
    assert (new.family, new.architecture) == ("gpt2", model.architecture)
    assert list(tmp_path.iterdir()) == [text]


def test_rows_are_ranked_by_themselves() -> None:
    scores = [torch.tensor([[1.0, 2.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]])]
    assert keep_highest(scores, 0.5, "row")[0].tolist() == [[1, 1, 0, 0], [1, 1, 0, 0]]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"samples": 0}, r"^samples is 0; it must be a whole number of rows, 1 or more"),
    ({"train": None}, r"^score is 'wanda', which rows or texts tell; give some \(train\), or take magnitude or random"),
    ({"keep": 0.01, "scope": "row"}, r"of the 16 weight units of a row of attention\.0\.query that leaves none"),
    ({"train": [{"text": "a", "score": 0.5}] * 8, "head": "token-classification"}, r"the head 'token-classification'"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=lambda one: str(one)[:40])
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(gs.InputError, match=message):
        gs.prune(classifier(), **{"train": ROWS, "score": "wanda", **READ, **changes})


@pytest.mark.parametrize(("samples", "read"), [(1, 1), (5, 5), (12, 12), (100, 12)])
def test_so_many_rows_are_read_and_none_twice(samples: int, read: int) -> None:
    """Batches of 5, of which the last is cut."""
    _, receipt = gs.prune(classifier(), ROWS, score="wanda", **(READ | {"samples": samples, "batch": 5}))
    assert receipt.settings["samples"] == read


UNREAD: dict[str, Any] = {
    "evaluate": ROWS, "refine": False, "teacher": "nowhere", "epochs": 2, "output": "x", "learning_rate": 1e-3,
    "resume": "must",
}  # fmt: skip
OF_ROWS: dict[str, Any] = {
    "head": "embed", "columns": {"text": "review"}, "batch": 8, "length": 9, "settings": {"steps": 3}, "samples": 5,
}  # fmt: skip
OF_A_SCORE: dict[str, Any] = {
    "score": "magnitude", "structure": "heads", "keep": 0.5, "scope": "global", "block": (1, 2), "seed": 1,
}  # fmt: skip


@pytest.mark.parametrize("way", ["calibrated", "at once", "training", "named"])
def test_an_option_that_nothing_reads_is_refused(way: str) -> None:
    unread = {"calibrated": UNREAD, "at once": UNREAD | OF_ROWS, "training": {"samples": 5}}
    unread["named"] = UNREAD | OF_ROWS | OF_A_SCORE
    asked: dict[str, Any] = {
        "calibrated": {"train": ROWS, "score": "wanda"}, "at once": {"score": "magnitude"}, "training": {"train": ROWS},
        "named": {"layers": [0]},
    }[way]  # fmt: skip
    for name, value in unread[way].items():
        with pytest.raises(gs.InputError, match=rf"^{name} is .*; it must be left out: "):
            gs.prune(classifier(), **asked, **{name: value})


@pytest.mark.parametrize("score", ["zeros", ["magnitude"], None, "wand"])
def test_another_score_is_refused(score: Any) -> None:
    with pytest.raises(gs.InputError, match=r"^score is .*; it must be one of 'gradient', 'l0', 'magnitude', "):
        gs.prune(classifier(), ROWS, score=score)


def test_rows_that_round_one_by_one_are_no_penalty_too_weak() -> None:
    """6 of 16 weights of each row are 0.375 and 7 are 0.4375: more than the share of 0.41 is left, exactly so many."""
    _, receipt = gs.prune(classifier(), ROWS, score="wanda", scope="row", keep=0.41, **READ)
    assert not [note for note in receipt.notes if "penalty" in note]


@pytest.mark.parametrize("score", ["wanda", "gradient"])
def test_fewer_rows_than_a_batch_are_enough(score: str) -> None:
    """Nothing is trained that would want a whole step."""
    rows = [ROWS[i] for i in (0, 1, 2, 4, 5)]
    new, receipt = gs.prune(classifier(), rows, score=score, keep=0.5, samples=128, batch=16, settings={"threads": 1})
    wanted, _ = gs.prune(classifier(), rows, score=score, keep=0.5, samples=128, batch=5, settings={"threads": 1})
    assert receipt.settings["samples"] == 5
    for name, one in new.state_dict().items():
        assert torch.equal(one == 0, wanted.state_dict()[name] == 0), name


@pytest.mark.parametrize("score", ["gradient", "wanda"])
def test_pairs_that_are_told_from_one_another_are_enough(score: str) -> None:
    """Fewer than a batch; one alone has nothing that it is told from."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 260, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    read = get_family("bert").read({**sizes, "intermediate_size": 20, "max_position_embeddings": 48})
    encoder = Model(replace(read, head=SentenceEmbedding()), tokenizer=byte_tokenizer(pairs=True))
    rows = [{"query": f"{one} {other}", "positive": f"{other} {one}"} for one, other in zip("abcde", "fghij")]  # noqa: B905
    given = {"score": score, "keep": 0.5, "structure": "neurons", "settings": {"threads": 1}}
    _, receipt = gs.prune(encoder, rows, **given)
    assert receipt.settings["samples"] == 5
    with pytest.raises(InputError, match="2"):
        gs.prune(encoder, rows[:1], **given)


@pytest.mark.parametrize("batch", [{"batch": {"tokens": 64}}, {"batch.accumulation": 2}])
def test_rows_may_be_read_by_tokens_or_in_parts(batch: dict[str, Any]) -> None:
    asked = {"score": "gradient", "keep": 0.5, "settings": {"threads": 1, **batch}}
    new, receipt = gs.prune(classifier(), ROWS, **asked)  # type: ignore[arg-type]
    wanted, _ = gs.prune(classifier(), ROWS, **{**asked, **READ})  # type: ignore[arg-type]
    assert receipt.settings["samples"] == len(ROWS)
    for name in MAPS:
        assert torch.equal(new.get_parameter(f"{name}.weight") == 0, wanted.get_parameter(f"{name}.weight") == 0), name


@pytest.mark.parametrize(("batch_of", "samples", "read"), [(4, 128, 5), (16, 128, 5), (1, 128, 5), (4, 3, 3)])
def test_rows_of_texts_are_read_once(batch_of: int, samples: int, read: int, tmp_path: Path) -> None:
    """165 bytes and tokens around them are five rows of 32, and a part of a sixth that goes on with the first."""
    (tmp_path / "texts.txt").write_text("".join(f"{'a film ' * 4}{i:02d}\n" for i in range(5)))
    sizes = {"layers": 2, "hidden_size": 16, "heads": 2, "vocabulary_size": 257, "length": 32}
    model = Model(decoder(**sizes, patterns=[gs.Full(causal=True)]), family="gpt2", tokenizer=byte_tokenizer())  # type: ignore[arg-type]
    settings = {"threads": 1, "data.split": "lines"}
    asked = {"score": "wanda", "keep": 0.5, "settings": settings}
    _, receipt = gs.prune(model, tmp_path / "texts.txt", batch=batch_of, samples=samples, **asked)  # type: ignore[arg-type]
    assert receipt.settings["samples"] == read


@pytest.mark.parametrize("score", ["wanda", "gradient"])
def test_a_model_of_half_precision_is_read_in_float32(score: str) -> None:
    model = classifier().bfloat16()
    new, _ = gs.prune(model, ROWS, score=score, keep=0.5, **READ)
    wanted, _ = gs.prune(model.float(), ROWS, score=score, keep=0.5, **READ)
    for name in MAPS:
        assert new.get_parameter(f"{name}.weight").dtype == torch.bfloat16
        assert torch.equal(new.get_parameter(f"{name}.weight"), wanted.get_parameter(f"{name}.weight").bfloat16()), name
