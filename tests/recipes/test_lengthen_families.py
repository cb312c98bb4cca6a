"""Every family and head, lengthened: as the original where a window covers the text, as in `transformers` beyond."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from family_models import (
    LABELS,
    NAMES,
    PAIRS,
    SEPARATOR,
    batch,
    config,
    distance,
    in_transformers,
    models,
    ours,
    outputs,
    theirs,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification

import gossamer as gs
from gossamer.errors import InputError
from gossamer.models import Model

FEW = settings.default.max_examples // 8
WINDOWS = st.sampled_from([4, 8, 16])
GLOBAL_TOKENS = st.sampled_from(["first", "none"])


def is_longformer(model: Model) -> bool:
    """What Longformer's format holds, in words of its own."""
    head, first = model.architecture.head, model.architecture.layers[0]
    kind = getattr(head, "kind", None)
    return (
        not model.architecture.embeddings.projection
        and kind not in ("pre-training", "next-sentence", "replaced-token")
        and not (kind == "masked-lm" and head.activation != "gelu")
        and getattr(head, "pooler_activation", "tanh") == "tanh"
        and first.norm_place == "post"
    )


@pytest.mark.parametrize(("family", "head"), PAIRS)
@given(data=st.data())
@settings(max_examples=FEW)
def test_what_the_window_covers_reads_as_before(family: str, head: str, data: st.DataObject) -> None:
    model = data.draw(models(family, head))
    length = model.architecture.length
    to, which = length + data.draw(st.integers(0, 30)), data.draw(GLOBAL_TOKENS)
    new, receipt = gs.lengthen(model, to=to, window=data.draw(WINDOWS), global_tokens=which)
    covered = min(length, int(next(iter(receipt.measured)).split("_")[-2]))
    texts = batch(
        model, covered, data.draw(st.integers(0, 2**31)), separators=data.draw(st.sampled_from([(1,), (0, 1)]))
    )
    before, after = (outputs(texts.read(one), texts.mask) for one in (model, new))
    assert before.keys() == after.keys()
    for name, expected in before.items():
        assert distance(after[name], expected) <= 1e-5, name
    assert max(receipt.measured.values()) < 2
    assert next(iter(receipt.measured.values())) <= 1e-5


@pytest.mark.parametrize(("family", "head"), PAIRS)
@given(data=st.data())
@settings(max_examples=FEW)
def test_saved_it_reads_long_texts_as_here(family: str, head: str, data: st.DataObject) -> None:
    model = data.draw(models(family, head))
    length = model.architecture.length
    to, which = length + data.draw(st.integers(1, 40)), data.draw(GLOBAL_TOKENS)
    new, receipt = gs.lengthen(model, to=to, window=data.draw(WINDOWS), global_tokens=which)
    assert new.family == ("longformer" if is_longformer(model) else "gossamer")
    assert any(one.startswith("format gossamer; ") for one in receipt.changes) == (new.family == "gossamer")
    seed, long = data.draw(st.integers(0, 2**31)), data.draw(st.integers(length + 1, new.architecture.length))
    texts = batch(new, long, seed, separators=data.draw(st.sampled_from([(5, 6, 9), (5,)])))
    with tempfile.TemporaryDirectory() as directory:
        gs.save(new, directory)
        again = gs.load(directory, head=None if head != "embed" else head)
        longformer = in_transformers(Path(directory), head) if new.family == "longformer" else None
    assert (again.architecture, again.family) == (new.architecture, new.family)
    mine, stored = (outputs(texts.read(one), texts.mask) for one in (new, again))
    assert all(torch.equal(stored[name], one) for name, one in mine.items())
    if longformer is not None:
        check_like(longformer, new, head, texts)


def check_like(longformer: Any, new: Model, head: str, texts: Any) -> None:
    """The same logits and states in transformers, with its own default global tokens wherever they are all of ours."""
    places = torch.arange(texts.ids.shape[-1]).expand_as(texts.ids)
    is_global = (places == 0) & (new.architecture.global_tokens == "first")
    by_itself = not bool(is_global.any()) or head == "sequence-classification"
    if head in ("question-answering", "multiple-choice"):
        separators = int((texts.ids == SEPARATOR).sum(-1).min())
        by_itself = separators >= 3 and (by_itself or head == "question-answering")
        is_global |= places < 5 if head == "question-answering" else places > (5 if separators < 3 else 6)
    flags = {} if by_itself else {"global_attention_mask": is_global.long()}
    with torch.no_grad():
        expected = longformer(texts.ids, attention_mask=texts.mask.long(), output_hidden_states=True, **flags)
    found = texts.read(new)
    real = texts.mask.view(-1, texts.mask.shape[-1])
    assert distance(found.last_hidden_state[real], expected.hidden_states[-1][real]) <= 1e-5
    if head == "question-answering":
        logits = torch.stack([expected.start_logits, expected.end_logits], dim=-1)
        assert distance(found.logits[real], logits[real]) <= 1e-5
    elif found.logits is not None:
        a_token = found.logits.shape[:2] == real.shape
        each = [one[real] if a_token else one for one in (found.logits, expected.logits)]
        assert distance(*each) <= 1e-5


def counts(model: Model) -> int:
    return sum(one.numel() for one in model.parameters())


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("inner", [1, 2])
def test_weights_that_layers_share_stay_shared(groups: int, inner: int) -> None:
    settings = config("albert", num_hidden_layers=4, num_hidden_groups=groups, inner_group_num=inner)
    model = ours("albert", "none", settings)
    new, receipt = gs.lengthen(model, to=50, window=[4, 8] * 2 * inner)
    sets = groups * inner
    assert len(model.attention) == len(new.attention) == sets
    rows = (50 + 2 - 16) * 6  # the padding token is 1: two rows lie before position 0
    assert counts(new) == counts(model) + sets * 3 * (8 * 8 + 8) + rows
    assert [one.attention.weights for one in new.architecture.layers] == [
        one.attention.weights for one in model.architecture.layers
    ]
    (why,) = [one for one in receipt.changes if one.startswith("format gossamer")]
    assert "embeddings.size: 6 != 8" in why


def test_the_receipt_tells_every_change() -> None:
    """What an architecture differs in is said, and nothing else is."""
    new, receipt = gs.lengthen(ours("distilbert", "question-answering"), to=50, window=8)
    assert new.family == "longformer"
    assert new.architecture.separator_id == SEPARATOR
    assert receipt.changes[0].startswith("attention of 2 layers: full became window 4+4 | global")
    assert receipt.changes[3:] == (
        "the first token of a text is global, and so is the question, unless a global_mask is given",
        "rows of the table before position 0, for padding: 0 became 2",
        "positions count the tokens that are no padding, no longer all of them",
        "two token types, rows of zeros: Longformer's format has such a table",
        "the token between two texts, which ends a question: id 2",
        "while training: layers.attention.residual_dropout: 0.0 became 0.1",
        "while training: head.dropout: 0.1 became 0.0",
    )
    assert not new.embeddings.token_type.weight.any()
    # A tokenizer types the second of two texts, which DistilBERT does not read and a longer one need not refuse.
    ids = torch.tensor([[5, 6, SEPARATOR, 7, 8, SEPARATOR]])
    types = torch.tensor([[0, 0, 0, 1, 1, 1]])
    assert torch.equal(new(ids, token_type_ids=types).logits, new(ids).logits)
    _, plain = gs.lengthen(ours("roberta", "masked-lm"), to=50, window=8)
    assert not [one for one in plain.changes if "training" in one or "token type" in one or "padding" in one]


def test_what_longformer_cannot_hold_keeps_its_dropouts() -> None:
    model = ours("distilbert", "sequence-classification")
    new, receipt = gs.lengthen(model, to=50, window=8)
    assert new.family == "gossamer"
    assert new.architecture.head == model.architecture.head
    assert new.architecture.embeddings.token_types == 0
    assert not [one for one in receipt.changes if "training" in one]
    assert "head.pooler_activation: 'relu' != 'tanh'" in receipt.changes[-1]


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_classifier_keeps_its_labels_and_its_problem(family: str, tmp_path: Path) -> None:
    settings = config(family, labels=True, problem_type="multi_label_classification", classifier_dropout=0.3)
    with tempfile.TemporaryDirectory() as directory:
        theirs(family, "sequence-classification", settings).save_pretrained(directory)
        new, receipt = gs.lengthen(gs.load(directory), to=64, window=8)
    gs.save(new, tmp_path / "long")
    assert new.architecture.head.labels == ("no", "yes", "who knows")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "long")
    assert type(loaded).__name__ == "LongformerForSequenceClassification"
    assert loaded.config.id2label == LABELS
    assert loaded.config.problem_type == "multi_label_classification"
    assert receipt.conditions["global_tokens"] == "the first"
    assert any("head.dropout: 0.3 became 0.1" in one for one in receipt.changes)
    ids = torch.randint(4, 30, (2, 60))
    out = new(ids, labels=torch.tensor([[1.0, 0, 1], [0, 0, 1]]))
    assert out.loss.isfinite()


def test_the_first_token_of_a_classifier_sees_all_of_a_long_text() -> None:
    """The last token, far outside every window, reaches the logits through it, in one layer."""
    new, _ = gs.lengthen(ours("bert", "sequence-classification", config("bert", num_hidden_layers=1)), to=64, window=4)
    ids = torch.randint(4, 30, (1, 60), generator=torch.Generator().manual_seed(0))
    changed = ids.clone()
    changed[0, -1] = ids[0, -1] - 1 if ids[0, -1] > 4 else 5
    assert distance(new(changed).logits, new(ids).logits) > 1e-5
    none = torch.zeros_like(ids)
    assert torch.equal(new(changed, global_mask=none).logits, new(ids, global_mask=none).logits)


@pytest.mark.parametrize(("family", "head"), [("roberta", "question-answering"), ("albert", "multiple-choice")])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_other_types_of_numbers_are_kept(family: str, head: str, dtype: torch.dtype) -> None:
    model = ours(family, head, dtype=dtype)
    new, receipt = gs.lengthen(model, to=40, window=8)
    assert {one.dtype for one in new.parameters()} == {dtype}
    assert receipt.conditions["global_tokens"] == "the first"
    texts = batch(new, 30, seed=0)
    assert texts.read(new).logits.dtype == dtype


@pytest.mark.parametrize("family", list(NAMES))
def test_a_long_model_is_not_lengthened_again(family: str) -> None:
    new, _ = gs.lengthen(ours(family, "none"), to=40, window=8)
    with pytest.raises(
        InputError, match=r"layer 0 attends by 'window 4\+4 \| global'; lengthen replaces full attention"
    ):
        gs.lengthen(new, to=80, window=8)
    with pytest.raises(InputError, match=r"^to is 15; it must be a whole number of tokens from 16"):
        gs.lengthen(ours(family, "none"), to=15, window=8)


def test_without_a_separator_a_question_needs_a_mask() -> None:
    model = ours("bert", "question-answering")
    model.extra_config.clear()
    new, receipt = gs.lengthen(model, to=40, window=8)
    assert new.architecture.separator_id is None
    assert not [one for one in receipt.changes if "ends a question" in one]
    with pytest.raises(InputError, match="the model knows no separator: give a global_mask"):
        new(torch.ones(1, 20, dtype=torch.long))
    model.extra_config["sep_token_id"] = 30
    assert gs.lengthen(model, to=40, window=8)[0].architecture.separator_id is None
