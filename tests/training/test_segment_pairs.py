"""Pairs of segments: what rows hold, that losses are those of `transformers`, and that runs go on exactly."""

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from broken_runs import broken_off
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import assert_same_run, write_text
from transformers import AlbertConfig, AlbertForPreTraining, BertConfig, BertForPreTraining

import gossamer as gs
from gossamer.errors import InputError
from gossamer.families import get_family
from gossamer.models import Model
from gossamer.text import Document, TokenFile, Tokenizer, byte_tokenizer, tokenize
from gossamer.training.data.segment_pairs import pair_frame_of
from gossamer.training.data.token_batches import Batches
from gossamer.training.evaluation import evaluate
from gossamer.training.objectives import NextSentenceObjective, Objective, SentenceOrderObjective
from gossamer.training.processes import Processes
from gossamer.training.stops import RunStopped

BYTES = byte_tokenizer(pairs=True)
KINDS = ("sentence-order", "next-sentence")
END, MASK, FIRST, SEPARATOR = 256, 257, 258, 259


def documents(*texts: str) -> TokenFile:
    return tokenize([Document(source="made", number=i, parts=[text]) for i, text in enumerate(texts)], BYTES)


def some_documents(count: int = 6, sentences: int = 30) -> TokenFile:
    """Every sentence is of its own document's letters, and none is like another."""
    return documents(
        *(
            "".join(f"{chr(97 + i)}{j} {'xyz'[j % 3] * (1 + (7 * j) % 11)}." for j in range(sentences))
            for i in range(count)
        )
    )


def batches(kind: str, file: TokenFile, **settings: Any) -> Batches:
    objective = Objective(kind=kind, **{name: settings.pop(name) for name in ("shorter", "share") if name in settings})
    return Batches(**{"file": file, "tokenizer": BYTES, "objective": objective, "length": 48, "batch": 4, **settings})


def parts(batch: dict[str, torch.Tensor], row: int) -> tuple[list[int], list[int], int]:
    """The two texts of a row, without what is masked in them, and their label."""
    ids = torch.where(batch["labels"][row] != -100, batch["labels"][row], batch["input_ids"][row]).tolist()
    first, second = [place for place, number in enumerate(ids) if number == SEPARATOR]
    assert ids[0] == FIRST
    types = batch["token_type_ids"][row].tolist()
    assert types[: first + 1] == [0] * (first + 1)
    assert types[first + 1 : second + 1] == [1] * (second - first)
    if "attention_mask" in batch:
        assert batch["attention_mask"][row].tolist() == [1] * (second + 1) + [0] * (len(ids) - second - 1)
    assert ids[second + 1 :] == [END] * (len(ids) - second - 1)
    return ids[1:first], ids[first + 1 : second], int(batch["pair_labels"][row])


def text(numbers: list[int]) -> str:
    return bytes(numbers).decode()


@pytest.mark.parametrize("kind", KINDS)
@given(
    sizes=st.lists(st.integers(0, 90), min_size=2, max_size=5).filter(
        lambda sizes: sum(size > 2 for size in sizes) > 1
    ),
    length=st.integers(6, 40),
    seed=st.integers(0, 9),
)
def test_a_row_is_two_segments_of_documents(kind: str, sizes: list[int], length: int, seed: int) -> None:
    """Whole, in their order or exchanged or from two documents, in a row's room."""
    random = np.random.default_rng(seed)
    texts = ["a.b." + "".join(random.choice(list("abc .?"), size=size)) for size in sizes]
    made = batches(kind, documents(*texts), length=length, batch=1, seed=seed)
    for step in range(20):
        first, second, label = (text(one) if isinstance(one, list) else one for one in parts(made.at(step), 0))
        assert first
        assert second
        assert len(first) + len(second) <= length - 3
        assert any(first in one for one in texts)
        assert any(second in one for one in texts)
        assert label == -100 or first.strip() == first
        assert label == -100 or second.strip() == second
        if kind == "sentence-order" and label >= 0:
            before, behind = (second, first) if label else (first, second)
            assert any(behind in one.partition(before)[2] for one in texts)


@pytest.mark.parametrize("kind", KINDS)
def test_half_of_the_seconds_do_not_follow(kind: str) -> None:
    made = batches(kind, some_documents(), length=64)
    labels = []
    for step in range(100):
        batch = made.at(step)
        for row in range(4):
            first, second, label = parts(batch, row)
            labels.extend([label] if label >= 0 else [])
            of_first, of_second = ({letter for letter in text(one) if letter in "abcdef"} for one in (first, second))
            if of_first and of_second:
                assert (of_first != of_second) == (label == 1 and kind == "next-sentence")
    assert sum(labels) / len(labels) == pytest.approx(0.5, abs=0.1)


def test_segments_end_with_sentences_and_fill_rows() -> None:
    """Where nothing was cut off; and each row but a document's last is full, but for white space at its cuts."""
    made = batches("sentence-order", some_documents(), shorter=0.0, length=64)
    full = []
    for step in range(50):
        batch = made.at(step)
        for row in range(4):
            first, second, label = (one if isinstance(one, int) else text(one) for one in parts(batch, row))
            if label < 0:
                continue
            before, behind = (second, first) if label else (first, second)
            full.append(len(first) + len(second) >= 61 - 4)
            if not full[-1]:
                assert before.endswith(".")
                assert behind.endswith(".")
    assert sum(full) / len(full) > 0.7


def test_every_token_is_read_once_an_epoch() -> None:
    """Where no row is shorter, none is from elsewhere and none has to be cut."""
    texts = [f"Document {i} is short. It has two sentences." for i in range(12)]
    made = batches("sentence-order", documents(*texts), shorter=0.0, length=64, batch=4)
    assert made.steps_per_epoch == 3
    for epoch in range(2):
        read = [parts(made.at(3 * epoch + step), row) for step in range(3) for row in range(4)]
        ordered = sorted(
            " ".join(map(text, (second, first) if label else (first, second))) for first, second, label in read
        )
        assert ordered == sorted(texts)


def test_one_row_in_ten_is_shorter() -> None:
    file = documents("".join(f"{i}." for i in range(4000)))
    counts = {}
    for shorter in (0.0, 0.1, 0.5):
        made = batches("sentence-order", file, shorter=shorter, length=128, batch=20)
        counts[shorter] = float((made._training.rows(np.arange(400)).real.sum(1) < 120).mean())
    assert counts[0.0] < 0.02
    assert counts[0.1] == pytest.approx(0.1, abs=0.04)
    assert counts[0.5] == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_without_sentences_is_read_whole_and_has_no_labels(kind: str) -> None:
    made = batches(kind, documents("acgt" * 500, "ac. gt." + "acgt" * 500 + ". ac. gt."), shorter=0.0, batch=90)
    assert made._training.count == 90
    read = [parts(made.at(0), row) for row in range(90)]
    cut = [label for first, second, label in read if not ({46, 32} & {*first, *second})]
    assert len(cut) > 80
    assert set(cut) == {-100}
    assert any(label >= 0 for _, _, label in read)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_a_function_of_seed_and_step(kind: str) -> None:
    file = some_documents()
    one, other = batches(kind, file, seed=3), batches(kind, file, seed=3)
    other.at(1)
    for name, tensor in one.at(7).items():
        assert torch.equal(tensor, other.at(7)[name])
    assert parts(one.at(7), 0) != parts(batches(kind, file, seed=4).at(7), 0)
    for rank in range(2):
        mine = batches(kind, file, seed=3, rank=rank, world=2).at(7)
        for name, tensor in one.at(7).items():
            assert torch.equal(tensor[rank::2], mine.get(name, torch.ones(2, 48)))


def test_held_out_pairs_do_not_depend_on_the_seed() -> None:
    file = some_documents()
    held = [list(batches("next-sentence", file, seed=seed, held_out=2).evaluation()) for seed in (0, 1)]
    assert len(held[0]) == len(held[1]) > 1
    for one, other in zip(*held, strict=True):
        assert torch.equal(one["input_ids"], other["input_ids"])
        assert torch.equal(one["pair_labels"], other["pair_labels"])
    shares = [list(batches("next-sentence", file, held_out=2, rank=rank, world=2).evaluation()) for rank in range(2)]
    counted = sum(int((batch["pair_labels"] != -100).sum()) for share in shares for batch in share)
    assert counted == sum(int((batch["pair_labels"] != -100).sum()) for batch in held[0])


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_the_frame_is_that_of_a_tokenizer_for_two_texts(family: str, minilm: Path) -> None:
    tokenizer = gs.load(minilm).tokenizer if family == "bert" else BYTES
    frame = pair_frame_of(tokenizer, "exchanged", 0.1)
    batch = tokenizer("a", text_pair="b")
    types = batch["token_type_ids"][0].tolist()
    own = tokenizer.encode_plain("a")[0] + tokenizer.encode_plain("b")[0]
    assert [*frame.before, own[0], *frame.between, own[1], *frame.after] == batch["input_ids"][0].tolist()
    assert list(frame.types) == types == [0, 0, 0, 1, 1]
    assert len(frame) == 3


SIZES = {
    "vocab_size": 260,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 20,
}
SIZES |= {
    "max_position_embeddings": 48,
    "pad_token_id": END,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
CASES: dict[str, tuple[str, Any, Any, str, dict[str, Any]]] = {
    "sentence-order": ("albert", AlbertForPreTraining, AlbertConfig, "sentence_order_label", {"embedding_size": 8}),
    "next-sentence": ("bert", BertForPreTraining, BertConfig, "next_sentence_label", {}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_scores_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    family, model_class, config_class, label, more = CASES[kind]
    torch.manual_seed(0)
    theirs = model_class(config_class(**SIZES, **more, classifier_dropout_prob=0.0)).eval()
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    theirs.save_pretrained(tmp_path)
    model = gs.load(tmp_path)
    assert (model.family, model.architecture.head.kind) == (family, "pre-training")
    batch = batches(kind, some_documents(), shorter=0.5).at(3)
    objective = Objective(kind=kind)
    loss = objective.loss(model, batch)
    inputs = {name: batch[name] for name in ("input_ids", "token_type_ids", "attention_mask")}
    with torch.no_grad():
        out = theirs(**inputs, labels=batch["labels"], **{label: batch["pair_labels"]})
        told = model(**inputs)
    torch.testing.assert_close(loss, out.loss)
    torch.testing.assert_close(told.logits, out.prediction_logits, rtol=1e-4, atol=1e-5)
    pair_logits = out.sop_logits if kind == "sentence-order" else out.seq_relationship_logits
    torch.testing.assert_close(told.pair_logits, pair_logits, rtol=1e-4, atol=1e-5)
    loss.backward()
    assert model.head.pair.output.weight.grad.abs().sum() > 0
    assert model.embeddings.word.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_rows_without_a_pair_are_learnt_from_by_their_tokens_alone(kind: str) -> None:
    """Some of them count for nothing in the pairs' mean, and where all of them are so it is 0."""
    torch.manual_seed(0)
    model = Model(get_family("bert").read(SIZES, head="pre-training"), family="bert").eval()
    batch, objective = batches(kind, some_documents(), length=48).at(1), Objective(kind=kind)
    batch["pair_labels"] = torch.tensor([1, -100, 0, -100])
    loss, sums = objective.measure(model, batch)
    inputs = {name: batch[name] for name in ("input_ids", "token_type_ids", "attention_mask") if name in batch}
    out = model(**inputs)
    of_tokens = torch.nn.functional.cross_entropy(out.logits.flatten(0, 1), batch["labels"].flatten())
    of_pairs = torch.nn.functional.cross_entropy(out.pair_logits[[0, 2]], torch.tensor([1, 0]))
    torch.testing.assert_close(loss, of_tokens + of_pairs)
    assert sums["pairs"] == 2
    assert sums["pairs_right"] == (out.pair_logits.argmax(-1) == batch["pair_labels"]).sum()
    batch["pair_labels"] = torch.full((4,), -100)
    loss, sums = objective.measure(model, batch)
    torch.testing.assert_close(loss, of_tokens)
    loss.backward()
    assert model.head.pair.output.weight.grad.abs().sum() == 0
    assert all(one.grad.isfinite().all() for one in model.parameters() if one.grad is not None)
    assert sums["pairs"] == 0
    assert objective.scores(model, float(loss.detach()), 1, sums)[objective.score] is None


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_held_out_is_scored(kind: str) -> None:
    torch.manual_seed(0)
    model = Model(get_family("bert").read(SIZES, head="pre-training"), family="bert").eval()
    made = batches(kind, some_documents(), held_out=2)
    objective = Objective(kind=kind)
    told = evaluate(objective, model, model, made.evaluation(), Processes(device="cpu"), "float32")
    masked, right, lost, pairs, pairs_right = 0, 0, 0.0, 0, 0
    for batch in made.evaluation():
        inputs = {name: batch[name] for name in ("input_ids", "token_type_ids", "attention_mask") if name in batch}
        with torch.no_grad():
            out = model(**inputs)
        is_masked = batch["labels"] != -100
        logits, labels = out.logits[is_masked], batch["labels"][is_masked]
        masked += len(labels)
        right += int((logits.argmax(-1) == labels).sum())
        lost += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
        pairs += int((batch["pair_labels"] != -100).sum())
        pairs_right += int((out.pair_logits.argmax(-1) == batch["pair_labels"]).sum())
    score = "order_accuracy" if kind == "sentence-order" else "next_sentence_accuracy"
    expected = {"perplexity": np.exp(lost / masked), "masked_accuracy": right / masked, score: pairs_right / pairs}
    assert told.scores == pytest.approx(expected, rel=1e-4)
    assert objective.directions().keys() == expected.keys()


def config(folder: Path, name: str, kind: str, **changes: Any) -> dict[str, Any]:
    text = folder / "text.txt"
    if not text.exists():
        lines = write_text(text).read_text().splitlines()
        text.write_text("\n".join(f"{one} {other}" for one, other in pairwise(lines)))
    described = SIZES | {"embedding_size": 8, "hidden_dropout_prob": 0.1, "model_type": "albert"}
    return {
        "model": {"config": described | {"architectures": ["AlbertForPreTraining"]}},
        "data": {"train": str(text), "split": "lines", "tokenizer": "bytes"},
        "objective": kind,
        "batch": {"rows": 6, "length": 48},
        "optimizer": {"name": "lamb", "learning_rate": 0.01},
        "steps": 4,
        "checkpoints": {"every": 2},
        "evaluation": {"held_out": 10, "every": 2},
        "journal": {"live": False},
        "threads": 1,
        "output": str(folder / name),
        **changes,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_goes_on_to_the_same_bits(kind: str, tmp_path: Path) -> None:
    model, receipt = gs.train(config(tmp_path, "whole", kind))
    score = "order_accuracy" if kind == "sentence-order" else "next_sentence_accuracy"
    assert receipt.evaluation.keys() >= {"loss", "perplexity", "masked_accuracy", score}
    assert model.tokenizer("a", text_pair="b")["token_type_ids"].tolist() == [[0, 0, 0, 1, 1]]
    for how in (RunStopped, ZeroDivisionError):
        broken = config(tmp_path, how.__name__, kind)
        broken_off(broken, 3, how)
        gs.train(broken, resume="must")
        assert_same_run(tmp_path / "whole", tmp_path / how.__name__, step=4)
    reloaded = gs.load(tmp_path / "whole" / "last")
    assert (reloaded.family, reloaded.architecture.head.kind) == ("albert", "pre-training")


def test_a_step_in_parts_learns_from_all_pairs(tmp_path: Path) -> None:
    """Pairs of parts with as many masked tokens count alike; here they nearly do."""
    whole, _ = gs.train(config(tmp_path, "whole", "sentence-order", steps=1, checkpoints={"every": 1}))
    cut = config(tmp_path, "parts", "sentence-order", steps=1, checkpoints={"every": 1})
    cut["batch"] = {"rows": 6, "length": 48, "accumulation": 2}
    in_parts, _ = gs.train(cut)
    difference = [(one - other).norm() for one, other in zip(whole.parameters(), in_parts.parameters(), strict=True)]
    assert torch.stack(difference).norm() < 0.5


REFUSED: list[tuple[str, Callable[[], object], str]] = [
    (
        "one document",
        lambda: batches("next-sentence", documents("a. b. c." * 40)),
        r"takes segments from other documents",
    ),
    ("rows", lambda: batches("sentence-order", some_documents(), length=4), r"^length is 4; it must be at least 5"),
    (
        "pack",
        lambda: batches("sentence-order", some_documents(), pack=False),
        r"^pack is False; it must be left out: two",
    ),
    (
        "sentences",
        lambda: batches("sentence-order", documents("a and b", "c and d."), batch=1),
        r"^no document has two sentences of which the first fits in a row of 48 tokens",
    ),
    ("empty", lambda: batches("sentence-order", documents("a", "b"), batch=1), r"^no document has two tokens"),
    ("shorter", lambda: SentenceOrderObjective(shorter=1.0), r"^shorter is 1\.0; it must be a rate from 0"),
]


@pytest.mark.parametrize(("make", "message"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_cannot_be_is_refused_in_a_line(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("tokenizer", [byte_tokenizer(mask=True), byte_tokenizer()], ids=["no pairs", "no mask"])
def test_a_tokenizer_without_its_tokens_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match=r"no tokens before and between two texts|no token for what is taken out"):
        NextSentenceObjective().check_tokenizer(tokenizer)


def test_a_model_of_one_type_is_given_none() -> None:
    assert "token_type_ids" not in batches("sentence-order", some_documents(), token_types=1).at(0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "brt"}, r"^model\.config\.model_type is 'brt'; Gossamer reads"),
        ({"hiden_size": 8}, r"^model\.config\.hiden_size is no field of 'albert'; the nearest is 'hidden_size'$"),
        ({"architectures": ["AlbertForAll"]}, r"^model\.config\.architectures is 'AlbertForAll', a head that Gossamer"),
        ({"hidden_size": 17}, r"^model\.config\.hidden_size is 17; it must be a multiple of num_attention_heads, 2"),
        ({"architectures": None}, r"^model\.config\.architectures is None; it must be a list of class names"),
        ({"architectures": 5}, r"^model\.config\.architectures is 5; it must be a list of class names, such as"),
        ({"architectures": [5]}, r"^model\.config\.architectures is \[5\]; it must be a list of class names"),
        (
            {"architectures": "AlbertForPreTraining"},
            r"^model\.config\.architectures is 'AlbertForPreTraining'; it must",
        ),
        ({"architectures": ["AlbertModel"]}, r"^objective\.kind is 'sentence-order', but the model has no head"),
    ],
)
def test_a_family_s_config_is_read_field_by_field(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    settings = config(tmp_path, "out", "sentence-order")
    settings["model"]["config"] |= changes
    with pytest.raises(InputError, match=message):
        gs.train(settings)


def test_order_is_learnt_where_it_can_be_told(tmp_path: Path) -> None:
    """A document's first sentence has other letters than its second; the fresh weights are wide ones (docs/LOG.md)."""
    draw = random.Random(0)

    def sentence(letters: str) -> str:
        return " ".join("".join(draw.choices(letters, k=draw.randint(2, 4))) for _ in range(3)) + "."

    sizes = SIZES | {"hidden_size": 32, "embedding_size": 16, "initializer_range": 0.1, "model_type": "albert"}
    settings = config(
        tmp_path, "out", "sentence-order", data={"tokenizer": "bytes"}, batch={"rows": 16, "length": 48}, steps=200,
        model={"config": sizes | {"architectures": ["AlbertForPreTraining"]}}, evaluation={"held_out": 40},
        optimizer={"name": "adamw", "learning_rate": 0.003}, checkpoints={"every": 1000},
    )  # fmt: skip
    _, receipt = gs.train(settings, rows=[{"text": f"{sentence('abcdef')} {sentence('uvwxyz')}"} for _ in range(400)])
    assert receipt.evaluation["order_accuracy"] > 0.95
