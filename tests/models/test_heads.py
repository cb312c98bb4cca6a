"""Heads: the labels they take, the texts they refuse, the global tokens they choose; compiled and exported too."""

import copy
import dataclasses
from typing import Any

import pytest
import torch
from model_inputs import architecture, model, texts
from torch.utils.flop_counter import FlopCounterMode

from gossamer.errors import InputError
from gossamer.inspection.cost import cost
from gossamer.models import (
    Cache,
    Head,
    MaskedLM,
    Model,
    MultipleChoice,
    NextSentence,
    PreTraining,
    QuestionAnswering,
    ReplacedToken,
    SequenceClassification,
    TokenClassification,
)
from gossamer.models.decoders import decoder
from gossamer.patterns import Full

THREE = ("a", "b", "c")
LAST = SequenceClassification(labels=THREE, reads="last")
HEADS: list[Head] = [
    MaskedLM(),
    PreTraining(),
    NextSentence(),
    SequenceClassification(labels=THREE),
    LAST,
    TokenClassification(labels=THREE),
    QuestionAnswering(),
    MultipleChoice(),
    ReplacedToken(),
]
EACH = pytest.mark.parametrize("head", HEADS, ids=[f"{one.kind}{' of the last' * (one is LAST)}" for one in HEADS])
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
    (ReplacedToken(), whole(2, 21, value=2), "go from 0 to 1"),
    (ReplacedToken(), whole(2, 21, value=-1), "labels holds -1"),
    (ReplacedToken(), whole(2), "shaped [2, 21]"),
    (ReplacedToken(), torch.zeros(2, 21), "float32"),
    (ReplacedToken(), (whole(2, 21), whole(2)), "labels is tuple"),
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
        (ReplacedToken(), (6, 7, 20), []),
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


@EACH
def test_what_a_head_costs_is_what_it_is(head: Head) -> None:
    """Parameters and FLOPs as torch counts them: a head that is added cannot be told wrong in silence."""
    net, ids = model(architecture(head=head), torch.float32), ids_for(head)[:1]
    assert net.head is not None
    found = next(one for one in cost(net.architecture, ids.shape[-1]).parts if one.name == "head")
    assert found.parameters == sum(one.numel() for one in net.head.parameters())
    texts_read = ids.shape[1] if isinstance(head, MultipleChoice) else 1
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(ids)
    assert sum(counter.get_flop_counts()["Model.head"].values()) == found.flops * texts_read


@pytest.mark.parametrize("cached", [False, True])
def test_heads_that_are_switched_off_give_nothing(cached: bool) -> None:
    """As where their columns of the output map are 0; one row for all layers, or one for each."""
    net = Model(
        decoder(vocabulary_size=23, length=30, layers=3, hidden_size=16, heads=4, patterns=Full(causal=True))
    ).double()
    ids, mask = torch.randint(23, (2, 12)), torch.tensor([[1, 0, 1, 0.5], [0, 0, 0, 0], [1, 1, 1, 1]]).double()

    def read(model: Model, **options: Any) -> torch.Tensor:
        if not cached:
            return model(ids, **options).last_hidden_state
        cache = Cache(model.architecture)
        parts = [model(one, cache=cache, **options).last_hidden_state for one in ids.split([5, 1, 1, 5], 1)]
        return torch.cat(parts, 1)

    with torch.no_grad():
        net.eval()
        found, alike = read(net, head_mask=mask), read(net, head_mask=torch.tensor([True, False, True, True]))
        whole = read(net)
        torch.testing.assert_close(read(net, head_mask=torch.ones(4)), whole, rtol=0, atol=0)
        other = copy.deepcopy(net)
        for layer, row in zip(other.attention, mask, strict=True):
            layer.output.weight.mul_(row.repeat_interleave(4))
        torch.testing.assert_close(found, read(other), rtol=1e-12, atol=1e-12)
        other = copy.deepcopy(net)
        for layer in other.attention:
            layer.output.weight[:, 4:8] = 0
        torch.testing.assert_close(alike, read(other), rtol=1e-12, atol=1e-12)
    learns = mask.requires_grad_()
    net(ids, labels=ids, head_mask=learns).loss.backward()
    assert learns.grad is not None
    assert (learns.grad != 0).all()


@pytest.mark.parametrize("wrong", [torch.ones(3), torch.ones(2, 4), torch.ones(3, 4, 1), [1, 1, 1, 1]])
def test_head_masks_of_another_shape_are_refused(wrong: Any) -> None:
    net = Model(decoder(vocabulary_size=23, length=30, layers=3, hidden_size=16, heads=4, patterns=Full(causal=True)))
    with pytest.raises(InputError, match=r"head_mask is .*; it must be shaped \[4\] or \[3, 4\]: layers, heads"):
        net(torch.zeros(1, 4, dtype=torch.int64), head_mask=wrong)
