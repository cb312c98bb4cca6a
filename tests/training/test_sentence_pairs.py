"""Sentence encoders on pairs, triplets, scores, labels: losses and scores of sentence-transformers, parts, refusals."""

import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from broken_runs import broken_off
from tiny_labels import NAMES, THINGS, write_rows
from tiny_pairs import pairs, pairs_config, save_dense_encoder, scored
from tiny_runs import assert_same_run, journal, tensors
from torch import Tensor
from torch.nn import functional as F

import gossamer as gs
from gossamer.errors import InputError
from gossamer.families import get_family
from gossamer.models import DenseLayer, Model, SentenceEmbedding
from gossamer.text import Document, train_tokenizer
from gossamer.training.config import TrainingConfig
from gossamer.training.gradient_cache import learn_in_parts
from gossamer.training.loop import train
from gossamer.training.micro_batches import cut, draw
from gossamer.training.objectives import SentencePairsObjective
from gossamer.training.objectives.pairs.pair_losses import same_texts
from gossamer.training.objectives.pairs.pair_scores import likeness_scores, retrieval_scores, triplet_accuracy
from gossamer.training.processes import Processes
from gossamer.training.stops import RunStopped


def batch_of(objective: SentencePairsObjective, model: Model, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    assert model.tokenizer is not None
    assert model.architecture.head is not None
    documents = [Document(source="rows", number=i + 1, parts=[], fields=row) for i, row in enumerate(rows)]
    read = [objective.read_row(one, "text") for one in documents]
    examples = objective.encode(read, model.tokenizer, 32, model.architecture.head, control_tokens=True)
    return objective.collate(examples, model.tokenizer.pad_id or 0)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Any]:
    """A tiny BERT of normalised means in float64, and what sentence-transformers reads from its files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its imports
        from sentence_transformers import SentenceTransformer
    tokenizer = train_tokenizer(THINGS + NAMES, family="bert", vocabulary_size=40, max_length=32)
    fields = {"vocab_size": tokenizer.vocabulary_size, "hidden_size": 16, "num_attention_heads": 2}
    fields |= {"num_hidden_layers": 2, "intermediate_size": 24, "max_position_embeddings": 32}
    torch.manual_seed(0)
    head = SentenceEmbedding(normalized=True)
    model = Model(get_family("bert").read({**fields, "model_type": "bert", "initializer_range": 0.5}, head=head))
    model.tokenizer = tokenizer
    folder = tmp_path_factory.mktemp("bert")
    gs.save(model, folder, family="bert")
    return gs.load(folder).double().eval(), SentenceTransformer(str(folder), device="cpu").double().eval()


@pytest.mark.parametrize("normalized", [False, True])
def test_dense_modules_go_there_and_back(bert: tuple[Model, Any], tmp_path: Path, normalized: bool) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    torch.manual_seed(1)
    maps = [modules.Dense(16, 24), modules.Dense(24, 5, bias=False, activation_function=torch.nn.Identity())]
    parts = [bert[1][0], bert[1][1], *maps, *([modules.Normalize()] if normalized else [])]
    theirs = SentenceTransformer(modules=parts, device="cpu").double().eval()
    texts = ["film song", "Ann", "book soup day film"]
    expected = theirs.encode(texts, convert_to_tensor=True)
    theirs.save_pretrained(str(tmp_path / "theirs"))
    model = gs.load(tmp_path / "theirs")
    layers = (DenseLayer(size=24), DenseLayer(size=5, bias=False, activation="identity"))
    head = model.architecture.head
    assert isinstance(head, SentenceEmbedding)
    assert (head.dense, head.normalized) == (layers, normalized)
    embed = gs.task("embed", model)
    assert embed.get_sentence_embedding_dimension() == 5
    torch.testing.assert_close(embed(texts).vectors.double(), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(model(**model.tokenizer(texts)).pooled, expected, rtol=0, atol=1e-9)
    gs.save(model, tmp_path / "ours")
    again = SentenceTransformer(str(tmp_path / "ours"), device="cpu").double().eval()
    assert [type(one).__name__ for one in again] == [type(one).__name__ for one in theirs]
    torch.testing.assert_close(again.encode(texts, convert_to_tensor=True), expected, rtol=0, atol=1e-9)


def distinct(count: int, negatives: int = 0) -> list[dict[str, Any]]:
    """Pairs without two equal anchors, so that no text is left out of the negatives."""
    return list({row["query"]: row for row in pairs(3 * count, negatives)}.values())[:count]


def labelled(label: int) -> dict[str, Any]:
    return {"sentence1": "film song", "sentence2": "song book" if label else "Ann soup", "label": label}


CASES: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "pairs": ({}, distinct(6)),
    "negatives": ({"scale": 7.0}, distinct(6, negatives=2)),
    "symmetric": ({"symmetric": True}, distinct(6, negatives=1)),
    "euclidean": ({"criterion": "triplet"}, distinct(6, negatives=1)),
    "cosine triplets": ({"criterion": "triplet", "distance": "cosine", "margin": 0.3}, distinct(6, negatives=1)),
    "scores": ({}, scored(6)),
    "labels": ({}, [labelled(i % 2) for i in range(6)]),
    "sizes": ({"dimensions": (16, 8, 3), "dimension_weights": (1.0, 0.5, 0.25)}, distinct(6, negatives=1)),
    "sizes of triplets": ({"criterion": "triplet", "dimensions": (16, 4)}, distinct(6, negatives=1)),
    "sizes of scores": ({"dimensions": (8,)}, scored(6)),
}


def their_loss(name: str, settings: dict[str, Any], theirs: Any) -> Any:
    from sentence_transformers.sentence_transformer import losses

    if name == "labels":
        return losses.ContrastiveLoss(theirs)
    if "scores" in name:
        loss: Any = losses.CosineSimilarityLoss(theirs)
    elif settings.get("criterion") == "triplet":
        metrics = losses.TripletDistanceMetric
        metric = metrics.COSINE if settings.get("distance") == "cosine" else metrics.EUCLIDEAN
        loss = losses.TripletLoss(theirs, distance_metric=metric, triplet_margin=settings.get("margin", 5))
    elif settings.get("symmetric"):
        directions = ("query_to_doc", "doc_to_query")
        loss = losses.MultipleNegativesRankingLoss(theirs, directions=directions, partition_mode="per_direction")
    else:
        loss = losses.MultipleNegativesRankingLoss(theirs, scale=settings.get("scale", 20.0))
    if "dimensions" not in settings:
        return loss
    weights = list(settings.get("dimension_weights", ())) or None
    return losses.MatryoshkaLoss(theirs, loss, list(settings["dimensions"]), weights)


@pytest.mark.parametrize("name", CASES)
def test_losses_and_gradients_are_those_of_sentence_transformers(bert: tuple[Model, Any], name: str) -> None:
    model, theirs = bert
    settings, rows = CASES[name]
    loss = SentencePairsObjective(**settings).loss(model, batch_of(SentencePairsObjective(**settings), model, rows))
    columns = [name for name in rows[0] if name not in ("score", "label")]
    features = [theirs.tokenize([row[column] for row in rows]) for column in columns]
    wanted = torch.tensor([float(row.get("score", row.get("label", 0))) for row in rows], dtype=torch.float64)
    expected = their_loss(name, settings, theirs)(features, wanted)
    assert float(expected.detach()) > 1e-3
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-6 if "scores" in name or name == "labels" else 1e-12)
    ours = torch.autograd.grad(loss, model.embeddings.word.weight)[0]
    encoder = theirs[0].auto_model
    assert ours.abs().max() > 1e-4
    table = torch.autograd.grad(expected, encoder.embeddings.word_embeddings.weight)[0]
    torch.testing.assert_close(ours, table, rtol=0, atol=1e-7 if "scores" in name or name == "labels" else 1e-12)


def test_texts_that_are_right_too_are_no_negatives() -> None:
    texts = torch.tensor([[1, 2, 3], [1, 4, 2], [5, 2, 6], [7, 8, 9]])
    assert same_texts(texts).int().tolist() == [
        [0, 1, 1, 0, 0, 1, 0, 0],
        [1, 0, 0, 0, 0, 0, 0, 0],
        [1, 0, 0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ]


@pytest.mark.parametrize("settings", [{}, {"dimensions": (16, 8)}, {"criterion": "triplet"}])
def test_parts_learn_what_the_whole_does_dropout_too(bert: tuple[Model, Any], settings: dict[str, Any]) -> None:
    model = bert[0].train()
    objective, processes = SentencePairsObjective(**settings), Processes()
    batch = batch_of(objective, model, pairs(10, negatives=1))
    parts, _ = cut(batch, 4)
    passes = [one for part in parts for one in objective.passes(part)]
    vectors = []
    for i, inputs in enumerate(passes):
        torch.manual_seed(draw(5, 2, i, 0))
        vectors.append(objective.vectors(model, inputs))
    whole = objective.vectors_loss([torch.cat(vectors[i::3]) for i in range(3)], objective.targets(batch))
    expected = torch.autograd.grad(whole, list(model.parameters()), allow_unused=True)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    loss, rows = learn_in_parts(objective, model, parts, (5, 2), processes, scaler, "float32")
    found = [one.grad for one in model.parameters()]
    model.zero_grad(set_to_none=True)
    model.eval()
    assert rows == 10
    assert loss == pytest.approx(float(whole.detach()), abs=1e-12)
    assert sum(one is not None for one in found) > 20
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_accumulation_changes_nothing(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"optimizer": {"learning_rate": 0.01, "eps": 1e-3}, "steps": 3}
    for name, accumulation in (("whole", 1), ("parts", 4)):
        batch = {"rows": 8, "accumulation": accumulation}
        train(pairs_config(tmp_path, name, **settings, batch=batch), rows=pairs(negatives=1))
    one, other = tensors(tmp_path / "whole", 3), tensors(tmp_path / "parts", 3)
    assert all(torch.allclose(one[name], other[name], rtol=0, atol=1e-6) for name in one)
    for left, right in zip(journal(tmp_path / "whole"), journal(tmp_path / "parts"), strict=True):
        assert left["loss"] == pytest.approx(right["loss"], abs=1e-5)


def test_an_encoder_learns_to_find(tmp_path: Path) -> None:
    config = pairs_config(tmp_path, steps=30, evaluation={"held_out": 0.3, "every": 10})
    _, receipt = train(config, rows=pairs())
    assert receipt.evaluation is not None
    assert receipt.evaluation.keys() == {"loss", "ndcg_at_10", "mrr_at_10", "recall_at_1", "recall_at_10"}
    assert receipt.evaluation["mrr_at_10"] == pytest.approx(1, abs=0.1)
    held = [one for one in journal(tmp_path / "out") if one["split"] == "held-out"]
    assert held[-1]["loss"] < held[0]["loss"]
    embed = gs.task("embed", gs.load(tmp_path / "out" / "last"))
    anchor, right, wrong = embed(["film song", "song film film", "Ann soup Ann"]).vectors
    assert F.cosine_similarity(anchor, right, dim=0) > F.cosine_similarity(anchor, wrong, dim=0)


def test_maps_of_vectors_are_learnt_with_the_rest(tmp_path: Path) -> None:
    before = gs.load(save_dense_encoder(tmp_path)).state_dict()
    objective: dict[str, Any] = {"kind": "sentence-pairs", "dimensions": [6, 2]}
    model, _ = train(pairs_config(tmp_path, model=str(tmp_path / "dense"), objective=objective), rows=pairs())
    after = gs.load(tmp_path / "out" / "last").state_dict()
    for name, one in model.state_dict().items():
        torch.testing.assert_close(after[name], one, rtol=0, atol=0)
    maps = [name for name in after if name.startswith("head.dense.")]
    assert [tuple(after[name].shape) for name in maps] == [(12, 16), (12,), (6, 12)]
    assert all((after[name] - before[name]).abs().max() > 1e-3 for name in maps)
    objective["dimensions"] = [8]
    config = pairs_config(tmp_path, "wide", model=str(tmp_path / "dense"), objective=objective)
    with pytest.raises(InputError, match=r"dimensions is \[8\]; it must be at most the vectors' size, 6"):
        train(config, rows=pairs())


def test_scores_are_learnt(tmp_path: Path) -> None:
    _, receipt = train(pairs_config(tmp_path, steps=20), rows=scored())
    assert receipt.evaluation is not None
    assert receipt.evaluation.keys() == {"loss", "spearman"}
    assert (receipt.evaluation["spearman"] or 0) > 0.7


@pytest.mark.parametrize(("how", "is_dense"), [(RunStopped, False), (KeyError, True)])
def test_a_broken_run_goes_on_to_the_same_bits(tmp_path: Path, how: type[BaseException], is_dense: bool) -> None:
    changes: dict[str, Any] = {"batch": {"rows": 8, "accumulation": 2}, "evaluation": {"held_out": 0.2, "every": 2}}
    changes |= {"model": str(save_dense_encoder(tmp_path))} if is_dense else {}
    rows = pairs(negatives=1)
    train(pairs_config(tmp_path, "whole", **changes), rows=rows)
    broken_off(pairs_config(tmp_path, "broken", **changes), 5, how, rows=rows)
    train(pairs_config(tmp_path, "broken", **changes), rows=rows, resume="must")
    assert_same_run(tmp_path / "whole", tmp_path / "broken", 6)


def test_scores_are_those_of_the_evaluators(bert: tuple[Model, Any]) -> None:
    from sentence_transformers.sentence_transformer.evaluation import (
        EmbeddingSimilarityEvaluator,
        InformationRetrievalEvaluator,
        TripletEvaluator,
    )

    model, theirs = bert
    rows = [*pairs(40, negatives=1), {"query": "film song", "positive": "soup", "negative_1": "day day"}]
    queries = {row["query"]: row["query"] for row in rows}
    corpus = {row[name]: row[name] for row in rows for name in ("positive", "negative_1")}
    right: dict[str, set[str]] = {}
    for row in rows:
        right.setdefault(row["query"], set()).add(row["positive"])
    found = InformationRetrievalEvaluator(queries, corpus, right, write_csv=False)(theirs)
    objective = SentencePairsObjective()
    batch = batch_of(objective, model, rows)
    with torch.no_grad():
        vectors = [objective.vectors(model, inputs) for inputs in objective.passes(batch)]
    ours = retrieval_scores(vectors, batch["texts"])
    for name, key in {"ndcg_at_10": "ndcg@10", "mrr_at_10": "mrr@10", "recall_at_1": "recall@1"}.items():
        assert ours[name] == pytest.approx(found[f"cosine_{key}"], abs=1e-9)
    assert ours["recall_at_10"] == pytest.approx(found["cosine_recall@10"], abs=1e-9)
    assert 0.1 < (ours["ndcg_at_10"] or 0) < 0.99
    triplets = [[row[name] for row in rows] for name in ("query", "positive", "negative_1")]
    share = TripletEvaluator(*triplets, write_csv=False)(theirs)["cosine_accuracy"]
    assert triplet_accuracy(vectors)["triplet_accuracy"] == pytest.approx(share, abs=1e-7)
    alike = scored(30)
    with torch.no_grad():
        first, second = (objective.vectors(model, one) for one in objective.passes(batch_of(objective, model, alike)))
    columns = [[row[name] for row in alike] for name in ("sentence1", "sentence2", "score")]
    told = EmbeddingSimilarityEvaluator(*columns, write_csv=False, main_similarity="cosine")(theirs)
    mine = likeness_scores(first, second, torch.tensor(columns[2]))["spearman"]
    assert mine == pytest.approx(told["spearman_cosine"], abs=1e-9)
    assert likeness_scores(first, second, torch.ones(30))["spearman"] is None


def test_a_wrong_text_that_scores_as_high_stands_before() -> None:
    same = torch.ones(5, 4)
    scores = retrieval_scores([same, same], torch.tensor([[i, 10 + i] for i in range(5)]))
    assert scores["recall_at_1"] == 0
    assert scores["mrr_at_10"] == pytest.approx(1 / 5)
    assert scores["ndcg_at_10"] == pytest.approx(1 / math.log2(6))


PAIR = {"query": "film song", "positive": "song"}


@pytest.mark.parametrize(
    ("changes", "rows", "message"),
    [
        ({}, [{"query": "film"}], r"rows:1: has no column 'positive' or .* \(it has: query\); name it"),
        ({}, [PAIR, {**PAIR, "positive": ""}], r"rows:2: the field 'positive' is ''; it must be a text"),
        ({}, [PAIR, {**PAIR, "positive": " \n"}], r"rows:2: the field 'positive' is ' \\n'; it must be a text"),
        ({}, [{**PAIR, "score": 4.5}], r"rows:1: score is 4\.5; .* from -1 to 1"),
        ({}, [{**PAIR, "label": 2}], r"rows:1: label is 2; it must be 1 .* 0"),
        ({}, [{**PAIR, "label": 1, "score": 1.0}], r"rows:1: has a score and a label"),
        ({}, [PAIR, {**PAIR, "negative": "soup"}], r"rows:2 has .*1 negative, rows:1 .*0 negatives"),
        ({}, [PAIR, {**PAIR, "score": 1.0}], r"rows:2 has a score .*, rows:1 neither score nor label"),
        ({}, [{**PAIR, "negative": "soup", "score": 1.0}] * 9, r"rows:1 has a score and 1 negative; leave"),
        ({"objective": {"kind": "sentence-pairs", "criterion": "triplet"}}, [PAIR] * 9, r"'triplet', but rows:1 has"),
        ({"objective": {"kind": "sentence-pairs", "criterion": "cosine"}}, [PAIR] * 9, r"'cosine', but rows:1 has"),
        ({"objective": {"kind": "sentence-pairs", "dimensions": [32]}}, [PAIR] * 20, r"dimensions is \[32\]; .* 16"),
        ({"objective": {"kind": "sentence-pairs", "dimensions": [8, 8]}}, [PAIR] * 9, r"dimensions is \[8, 8\]"),
        ({"batch": {"tokens": 64}}, [PAIR] * 9, r"batch\.tokens is 64; .* give batch\.rows"),
        ({"batch": {"rows": 1}}, [PAIR] * 9, r"batch\.rows is 1; .* give 2 or more"),
    ],
)  # fmt: skip
def test_what_cannot_be_learnt_is_refused(
    tmp_path: Path, changes: dict[str, Any], rows: list[dict[str, Any]], message: str
) -> None:
    config = pairs_config(tmp_path, evaluation={}, **changes)
    with pytest.raises(InputError, match=message) as problem:
        train(config, rows=rows)
    assert "\n" not in str(problem.value)


def test_which_columns_it_takes() -> None:
    assert SentencePairsObjective.takes(["query", "positive", "negative"])
    assert SentencePairsObjective.takes(["sentence1", "sentence2", "score"])
    assert not SentencePairsObjective.takes(["question", "context", "answers"])
    assert not SentencePairsObjective.takes(["text", "label"])


def test_the_example_is_a_config(tmp_path: Path) -> None:
    config = TrainingConfig.read(
        Path(__file__).parents[2] / "examples" / "sentence-pairs.yaml",
        {"data.train": str(write_rows(tmp_path / "pairs.jsonl", pairs()))},
    )
    assert config.objective == SentencePairsObjective(dimensions=(384, 128))
    assert config.batch.rows // config.batch.accumulation == 32
