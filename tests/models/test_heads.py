"""Heads: the labels they take, the texts they refuse, the global tokens they choose; compiled and exported too."""

import dataclasses
from typing import Any

import pytest
import torch
from model_inputs import architecture, model, texts

from gossamer.errors import InputError
from gossamer.models import (
    Head,
    MaskedLM,
    Model,
    MultipleChoice,
    NextSentence,
    PreTraining,
    QuestionAnswering,
    SequenceClassification,
    TokenClassification,
)

THREE = ("a", "b", "c")
HEADS: list[Head] = [
    MaskedLM(),
    PreTraining(),
    NextSentence(),
    SequenceClassification(labels=THREE),
    TokenClassification(labels=THREE),
    QuestionAnswering(),
    MultipleChoice(),
]
EACH = pytest.mark.parametrize("head", HEADS, ids=[one.kind for one in HEADS])
REGRESSION = SequenceClassification(labels=THREE, problem_type="regression")
SEVERAL = SequenceClassification(labels=THREE, problem_type="multi_label_classification")
CHOICES = texts(4, 21).view(2, 2, 21)


def ids_for(head: Head) -> torch.Tensor:
    return CHOICES if isinstance(head, MultipleChoice) else texts()


def whole(*shape: int, value: int = 0) -> torch.Tensor:
    return torch.full(shape, value)


BAD: list[tuple[Head, Any, str]] = [
    (PreTraining(), (whole(2, 21), whole(2), whole(2)), "tuple of 3"),
    (PreTraining(), (whole(2, 21), whole(2, value=2)), "labels[1] holds 2"),
    (PreTraining(), (whole(2, 21), whole(2, 1)), "labels[1] is int64 shaped [2, 1]"),
    (NextSentence(), whole(2, value=2), "go from 0 to 1"),
    (NextSentence(), whole(2, 21), "shaped [2]"),
    (SequenceClassification(labels=THREE), whole(2, value=3), "labels holds 3 at [0]"),
    (SequenceClassification(labels=THREE), torch.zeros(2), "labels is float32 shaped [2]; it must be shaped [2, 3]"),
    (SequenceClassification(labels=THREE), [0, 1], "labels is list"),
    (SEVERAL, whole(2), "shaped [2, 3]: one number for each label"),
    (REGRESSION, torch.zeros(2), "shaped [2, 3]: the numbers to predict"),
    (REGRESSION, torch.zeros(2, 3, dtype=torch.complex64), "complex64"),
    (TokenClassification(labels=THREE), whole(2), "shaped [2, 21]"),
    (TokenClassification(labels=THREE), whole(2, 21, value=-1), "labels holds -1"),
    (QuestionAnswering(), whole(2, 3), "shaped [2, 2]: the first and last token"),
    (QuestionAnswering(), torch.zeros(2, 2), "float32"),
    (MultipleChoice(), whole(2, value=2), "go from 0 to 1"),
    (MultipleChoice(), whole(4), "shaped [2]"),
]


@pytest.mark.parametrize(("head", "labels", "said"), BAD)
def test_bad_labels_are_refused(head: Head, labels: Any, said: str) -> None:
    with pytest.raises(InputError) as caught:
        model(architecture(head=head))(ids_for(head), labels=labels)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"input_ids": texts()}, "reads [batch, choices, length]"),
        ({"input_ids": CHOICES[:, :0]}, "reads [batch, choices, length]"),
        ({"input_ids": CHOICES, "attention_mask": CHOICES[:, :1]}, "1 and 2 choices"),
        ({}, "no choices"),
        ({"inputs_embeds": torch.zeros(2, 21, 8)}, "reads [batch, choices, length]"),
    ],
)
def test_choices_must_agree(inputs: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        model(architecture(head=MultipleChoice()))(**inputs)
    assert said in str(caught.value)


@pytest.mark.parametrize("head", [NextSentence(), SequenceClassification(labels=THREE), MultipleChoice()])
def test_heads_of_whole_texts_refuse_packed_rows(head: Head) -> None:
    ids = ids_for(head)
    with pytest.raises(InputError, match=r"packed texts \(segments\) in rows of their own"):
        model(architecture(head=head))(ids, segments=torch.zeros_like(ids))


def test_packed_rows_have_no_pair() -> None:
    net, ids = model(architecture(head=PreTraining())), texts()
    assert net(ids, segments=torch.zeros_like(ids)).pair_logits is None
    with pytest.raises(InputError, match="labels of pairs"):
        net(ids, segments=torch.zeros_like(ids), labels=(ids, whole(2)))


@EACH
def test_given_states_read_as_their_ids(head: Head) -> None:
    net, ids = model(architecture(head=head)), ids_for(head)
    expected, found = net(ids), net(inputs_embeds=net.embeddings.word(ids))
    torch.testing.assert_close(found.logits, expected.logits)


def long(head: Head) -> Model:
    return model(dataclasses.replace(architecture(head=head, long=True), separator_id=2))


def parted(*seps: int) -> torch.Tensor:
    ids = texts(1).masked_fill(texts(1) == 2, 3)
    ids[0, list(seps)] = 2
    return ids


@pytest.mark.parametrize(
    ("head", "seps", "marked"),
    [
        (SequenceClassification(labels=THREE), (), [0]),
        (NextSentence(), (), [0]),
        (QuestionAnswering(), (6, 7, 20), range(6)),
        (MultipleChoice(), (6, 7, 20), range(8, 21)),
        (MultipleChoice(), (6, 20), range(7, 21)),
        (TokenClassification(labels=THREE), (6, 7, 20), []),
        (MaskedLM(), (6, 7, 20), []),
    ],
)
def test_global_tokens_are_chosen_for_the_task(head: Head, seps: tuple[int, ...], marked: Any) -> None:
    net, ids = long(head), parted(*seps)
    mask = torch.zeros(1, 21, dtype=torch.bool)
    mask[0, list(marked)] = True
    if isinstance(head, MultipleChoice):
        ids, mask = ids[None], mask[None]
    assert torch.equal(net(ids).logits, net(ids, global_mask=mask).logits)
    assert bool(mask.any()) == (not torch.equal(net(ids).logits, net(ids, global_mask=mask & False).logits))


@pytest.mark.parametrize(("head", "part"), [(QuestionAnswering(), "question"), (MultipleChoice(), "context")])
def test_a_missing_separator_is_named(head: Head, part: str) -> None:
    ids = parted() if part == "question" else parted()[None]
    with pytest.raises(InputError, match=rf"row 0 has no separator \(id 2\) that ends the {part}"):
        long(head)(ids)
    without = model(architecture(head=head, long=True))
    with pytest.raises(InputError, match="the model knows no separator: give a global_mask"):
        without(ids)
    with pytest.raises(InputError, match="there are no input_ids: give a global_mask"):
        without(inputs_embeds=without.embeddings.word(ids))


@EACH
def test_every_head_compiles_whole(head: Head) -> None:
    net, ids = model(architecture(head=head), torch.float32), ids_for(head)
    torch.compiler.reset()
    compiled = torch.compile(net, fullgraph=True, backend="eager", dynamic=True)
    torch.testing.assert_close(compiled(ids).logits, net(ids).logits, rtol=1e-4, atol=1e-5)


@EACH
def test_every_head_exports_with_a_dynamic_length(head: Head) -> None:
    net, ids = model(architecture(head=head), torch.float32), ids_for(head)
    length = torch.export.Dim("length", min=2, max=40)
    with torch.no_grad():
        program = torch.export.export(net, (ids,), dynamic_shapes={"input_ids": {ids.dim() - 1: length}}).module()
    longer = torch.nn.functional.pad(ids, (0, 9), value=4)
    torch.testing.assert_close(program(longer).logits, net(longer).logits, rtol=1e-4, atol=1e-5)
