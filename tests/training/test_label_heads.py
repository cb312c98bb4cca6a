"""The head that is learnt: drawn as the checkpoint's format has it, or the checkpoint's own; what rows tell of it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_labels import labels_config, save_encoder, sentences, texts, write_rows

import gossamer as gs
from gossamer.errors import InputError, Remark
from gossamer.families import get_family
from gossamer.models import Model, SequenceClassification, TokenClassification
from gossamer.models.heads import MaskedLM

NAMES = ("film", "song", "book")
WIDE = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
PUBLIC: dict[str, dict[str, Any]] = {
    "bert": {**WIDE, "hidden_dropout_prob": 0.3, "hidden_act": "relu"},
    "electra": {**WIDE, "embedding_size": 4, "hidden_act": "silu", "classifier_dropout": 0.2},
    "gpt2": {"n_embd": 8, "n_layer": 2, "n_head": 2},
    "llama": {**WIDE, "classifier_dropout": 0.5},
    "modernbert": {**WIDE, "classifier_dropout": 0.4, "classifier_pooling": "mean", "pad_token_id": 0},
}
USUAL = {
    "bert": "masked-lm",
    "electra": "replaced-token",
    "gpt2": "causal-lm",
    "llama": "causal-lm",
    "modernbert": "masked-lm",
}


def save_public(folder: Path, family: str) -> str:
    """A checkpoint of this family with the head that its weights were first trained with."""
    tokenizer = gs.load(save_encoder(folder)).tokenizer
    assert tokenizer is not None
    length = "n_positions" if family == "gpt2" else "max_position_embeddings"
    config = {**PUBLIC[family], "vocab_size": tokenizer.vocabulary_size, length: 32}
    torch.manual_seed(0)
    architecture = get_family(family).read(config, head=USUAL.get(family, "masked-lm"))
    model = Model(architecture, family=family, tokenizer=tokenizer)
    model.extra_config = {name: one for name, one in config.items() if name.startswith("classifier_")}
    gs.save(model, folder / family)
    return str(folder / family)


@pytest.mark.parametrize("kind", ["classification", "tagging"])
@pytest.mark.parametrize("family", PUBLIC)
def test_a_new_head_is_that_of_the_format(tmp_path: Path, family: str, kind: str) -> None:
    """With the settings of the checkpoint, so that it is saved as its format's; a decoder's reads the last token."""
    model = {"checkpoint": save_public(tmp_path, family), "new_head": True}
    trained, _ = gs.train(labels_config(tmp_path, model=model, objective=kind, steps=2))
    again = gs.load(tmp_path / "out" / "last")
    head = again.architecture.head
    assert (again.family, again.architecture) == (family, trained.architecture)
    if kind == "tagging":
        assert isinstance(head, TokenClassification)
        assert head.dropout == {"bert": 0.3, "electra": 0.2, "gpt2": 0.1, "llama": 0.5, "modernbert": 0.4}[family]
        return
    assert isinstance(head, SequenceClassification)
    assert (head.labels, head.problem_type) == (("book", "film", "song"), "single_label_classification")
    assert head.reads == {"gpt2": "last", "llama": "last", "modernbert": "mean"}.get(family, "first")
    assert head.pooler_activation == ("gelu" if family in ("electra", "modernbert") else "tanh")


def test_a_new_head_of_causal_layers_in_the_own_format_reads_the_last_token(tmp_path: Path) -> None:
    gs.save(gs.load(save_public(tmp_path, "gpt2")), tmp_path / "own", family="gossamer")
    model = {"checkpoint": str(tmp_path / "own"), "new_head": True}
    trained, _ = gs.train(labels_config(tmp_path, model=model, steps=2))
    assert isinstance(trained.architecture.head, SequenceClassification)
    assert trained.architecture.head.reads == "last"


def test_a_new_masked_lm_has_the_activation_of_its_format(tmp_path: Path) -> None:
    tokenizer = gs.load(save_encoder(tmp_path)).tokenizer
    assert tokenizer is not None
    bare = get_family("bert").read({**PUBLIC["bert"], "vocab_size": tokenizer.vocabulary_size})
    gs.save(Model(bare, family="bert", tokenizer=tokenizer), tmp_path / "bare")
    (tmp_path / "text.txt").write_text("film song book soup day Ann Bo " * 200, encoding="utf-8")
    model = {"checkpoint": str(tmp_path / "bare"), "new_head": True}
    more = {"evaluation": {}, "batch": {"rows": 2, "length": 16}}
    data = str(tmp_path / "text.txt")
    gs.train(labels_config(tmp_path, model=model, data=data, objective="masked-lm", steps=2, **more))
    again = gs.load(tmp_path / "out" / "last")
    assert (again.family, again.architecture.head) == ("bert", MaskedLM(activation="relu"))


def save_head(folder: Path, **settings: Any) -> dict[str, Any]:
    """An encoder with a classifier of drawn weights."""
    torch.manual_seed(0)
    head = SequenceClassification(**{"labels": NAMES, **settings})
    gs.save(gs.load(save_encoder(folder), head=head), folder / "classifier")
    return {"checkpoint": str(folder / "classifier")}


@pytest.mark.parametrize(
    ("settings", "objective", "label", "problem", "score"),
    [
        ({}, {}, "film", "single_label_classification", "accuracy"),
        ({}, {}, ["film", "book"], "multi_label_classification", "f1"),
        ({}, {}, [1.5, 3.0, 2.0], "regression", "mean_absolute_error"),
        ({}, {"problem": "regression"}, [1, 3, 2], "regression", "mean_absolute_error"),
        ({}, {"problem": "multi_label_classification"}, [0, 2], "multi_label_classification", "f1"),
        ({"labels": ("film",)}, {}, 2, "regression", "mean_absolute_error"),
        (
            {"labels": ("film",)}, {"problem": "multi_label_classification"}, ["film"], "multi_label_classification",
            "f1",
        ),
    ],
)  # fmt: skip
def test_a_head_that_says_no_problem_learns_that_of_the_rows(
    tmp_path: Path, settings: dict[str, Any], objective: dict[str, Any], label: Any, problem: str, score: str
) -> None:
    """It is written into the model, since the loss follows it."""
    data = str(write_rows(tmp_path / "rows.jsonl", [{"text": "soup", "label": label}] * 20))
    config = labels_config(
        tmp_path, model=save_head(tmp_path, **settings), data=data, objective={"kind": "classification", **objective}
    )
    _, receipt = gs.train(config)
    head = gs.load(tmp_path / "out" / "last").architecture.head
    assert isinstance(head, SequenceClassification)
    assert head.problem_type == problem
    assert receipt.evaluation is not None
    assert score in receipt.evaluation
    assert receipt.loss is not None
    assert receipt.loss >= 0


def test_a_head_for_another_problem_is_refused(tmp_path: Path) -> None:
    model = save_head(tmp_path, problem_type="single_label_classification")
    objective = {"kind": "classification", "problem": "multi_label_classification"}
    with pytest.raises(InputError, match=r"^objective\.problem is 'multi_.*, but the model's head is for single_label"):
        gs.train(labels_config(tmp_path, model=model, objective=objective))


def test_a_new_head_for_other_labels_is_drawn_where_one_is_there(tmp_path: Path) -> None:
    """Another number of them is drawn; the same ones stay in the checkpoint's order, with its weights."""
    model = {**save_head(tmp_path), "new_head": True}
    rate = {"optimizer": {"learning_rate": 1e-12}}
    trained, _ = gs.train(labels_config(tmp_path, "same", model=model, **rate))
    assert trained.architecture.head.labels == NAMES  # type: ignore[union-attr]
    before = gs.load(tmp_path / "classifier").state_dict()
    torch.testing.assert_close(trained.state_dict(), before)
    two = str(
        write_rows(
            tmp_path / "two.jsonl", [{**row, "label": "y" if row["label"] == "film" else "n"} for row in texts()]
        )
    )
    with pytest.warns(Remark, match=r"2 tensors of a head that is not read: head\.output\.bias, head\.output\.weight$"):
        trained, _ = gs.train(labels_config(tmp_path, "two", model=model, data=two, **rate))
    assert trained.architecture.head.labels == ("n", "y")  # type: ignore[union-attr]
    after = trained.state_dict()
    assert after["head.output.weight"].shape == (2, 16)
    torch.testing.assert_close(after["head.dense.weight"], before["head.dense.weight"])


@pytest.mark.parametrize("other", ["names", "problem"])
def test_a_new_head_of_as_many_outputs_for_something_else_is_drawn(tmp_path: Path, other: str) -> None:
    """Of the head that is there its dense map stays; what its outputs meant is no start for what new ones mean."""
    model = {**save_head(tmp_path, problem_type="single_label_classification"), "new_head": True}
    label: Any = {"film": "x", "book": "y", "song": "z"}.get if other == "names" else lambda name: [name]
    rows = [{**row, "label": label(row["label"])} for row in texts()]
    data = str(write_rows(tmp_path / "other.jsonl", rows))
    trained, _ = gs.train(labels_config(tmp_path, model=model, data=data, optimizer={"learning_rate": 1e-12}))
    before, after = gs.load(tmp_path / "classifier").state_dict(), trained.state_dict()
    assert trained.architecture.head.outputs == 3  # type: ignore[union-attr]
    torch.testing.assert_close(after["head.dense.weight"], before["head.dense.weight"])
    assert not torch.allclose(after["head.output.weight"], before["head.output.weight"], atol=1e-3)


@pytest.mark.parametrize("kind", ["classification", "tagging"])
def test_a_number_and_its_digits_are_one_label(tmp_path: Path, kind: str) -> None:
    one, other = ({"label": 1}, {"label": "1"}) if kind == "classification" else ({"tags": [1]}, {"tags": ["1"]})
    rows = [{"text": "soup", "tokens": ["soup"], **(other if i % 2 else one)} for i in range(20)]
    data = str(write_rows(tmp_path / "rows.jsonl", rows))
    with pytest.raises(InputError, match=r"^all (rows|words) have the label '1'; there is nothing to tell apart$"):
        gs.train(labels_config(tmp_path, data=data, objective=kind))
    rows += [{"text": "day", "tokens": ["day"], "label": 2, "tags": ["2"]}]
    data = str(write_rows(tmp_path / "rows.jsonl", rows))
    trained, _ = gs.train(labels_config(tmp_path, data=data, objective=kind))
    assert trained.architecture.head.labels == ("1", "2")  # type: ignore[union-attr]


def test_numbers_of_a_table_are_read_where_they_are_to_be_predicted(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\n" + "soup,1.5\nday,-2\n" * 8)
    objective = {"kind": "classification", "problem": "regression"}
    _, receipt = gs.train(labels_config(tmp_path, data=str(tmp_path / "rows.csv"), objective=objective))
    assert receipt.evaluation is not None
    assert receipt.evaluation.keys() == {"loss", "mean_absolute_error", "pearson", "spearman"}


@pytest.mark.parametrize(
    ("kind", "row", "message"),
    [
        ("classification", {"text": "a", "label": 1e300}, r"jsonl:2: its label is 1e\+300; it must be a number that f"),
        ("classification", {"text": "a\ud800", "label": 1.5}, r"jsonl:2: the field 'text' is 'a.*; it must be a text"),
        ("classification", {"text": "a", "label": "\udcff"}, r"jsonl:2: the field 'label' is "),
        ("tagging", {"tokens": ["\ud800", "a"], "tags": ["x", "y"]}, r"jsonl:2: the field 'tokens' is "),
        ("tagging", {"tokens": ["a"], "tags": ["\ud800"]}, r"jsonl:2: the field 'tags' is "),
        ("tagging", {"text": "a\ud800", "entities": []}, r"jsonl:2: its text is "),
    ],
)  # fmt: skip
def test_what_no_file_and_no_float_holds_names_its_row(
    tmp_path: Path, kind: str, row: dict[str, Any], message: str
) -> None:
    sound = {"text": "a", "label": 1.5} if kind == "classification" else {"tokens": ["a", "b"], "tags": ["x", "y"]}
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(json.dumps(one) for one in [sound, row, *[sound] * 20]))
    with pytest.raises(InputError, match=message):
        gs.train(labels_config(tmp_path, data=str(data), objective=kind))


def test_rows_cut_before_their_first_label_are_refused(tmp_path: Path) -> None:
    data = str(write_rows(tmp_path / "rows.jsonl", sentences()))
    with pytest.raises(InputError, match=r"^no row has a label within 2 tokens, so there is nothing to learn; give"):
        gs.train(labels_config(tmp_path, data=data, objective="tagging", batch={"rows": 4, "length": 2}))


def test_labels_are_named_once(tmp_path: Path) -> None:
    objective = {"kind": "classification", "labels": ["a", "b", "a"]}
    with pytest.raises(
        InputError, match=r"^objective\.labels is \('a', 'b', 'a'\); it must be names, each of them once$"
    ):
        gs.train(labels_config(tmp_path, objective=objective))
