"""Which tokens are global where no mask is given: those of the head, and the first one of each text."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from model_inputs import SPARSE, architecture, model, texts

from gossamer.errors import InputError
from gossamer.models import (
    Architecture,
    CausalLM,
    Head,
    MaskedLM,
    Model,
    MultipleChoice,
    NextSentence,
    PreTraining,
    QuestionAnswering,
    ReplacedToken,
    SentenceEmbedding,
    SequenceClassification,
    TokenClassification,
)
from gossamer.patterns import Full, Global, PerHead, Window

LABELS = ("a", "b")
SEPARATOR = 2
OF_HEADS: list[tuple[Head | None, Any]] = [
    (None, []),
    (SentenceEmbedding(), []),
    (MaskedLM(), []),
    (TokenClassification(labels=LABELS), []),
    (PreTraining(), []),
    (ReplacedToken(), []),
    (SequenceClassification(labels=LABELS), [0]),
    (NextSentence(), [0]),
    (QuestionAnswering(), range(6)),
    (MultipleChoice(), range(7, 21)),
]


def with_first(head: Head | None = None, dtype: torch.dtype = torch.float64, **more: Any) -> Model:
    described = architecture(head=head, long=True, **more)
    return model(replace(described, global_tokens="first", separator_id=SEPARATOR), dtype)


def ids_of_two_texts(rows: int = 2) -> torch.Tensor:
    ids = texts(rows).masked_fill(texts(rows) == SEPARATOR, 3)
    ids[:, [6, 20]] = SEPARATOR
    return ids


@pytest.mark.parametrize(("head", "of_head"), OF_HEADS, ids=lambda value: getattr(value, "kind", ""))
def test_the_first_token_is_global_beside_those_of_the_head(head: Head | None, of_head: Any) -> None:
    net, ids = with_first(head), ids_of_two_texts()
    is_global = torch.zeros_like(ids, dtype=torch.bool)
    is_global[:, [0, *of_head]] = True
    if isinstance(head, MultipleChoice):
        ids, is_global = ids[None], is_global[None]
    expected = net(ids, global_mask=is_global).last_hidden_state
    assert torch.equal(net(ids).last_hidden_state, expected)
    assert not torch.equal(net(ids, global_mask=is_global & False).last_hidden_state, expected)
    net.architecture = replace(net.architecture, global_tokens="none")
    is_global[..., 0] = 0 in of_head
    assert torch.equal(net(ids).last_hidden_state, net(ids, global_mask=is_global).last_hidden_state)


def test_of_a_padded_text_it_is_the_first_real_token() -> None:
    net, ids = with_first(), texts(1, 13)
    alone = net(ids).last_hidden_state
    for left in (0, 3, 7):
        padded = torch.nn.functional.pad(ids, (left, 7 - left))
        mask = (torch.arange(20) >= left) & (torch.arange(20) < left + 13)
        together = net(padded, attention_mask=mask[None].int()).last_hidden_state[:, mask]
        torch.testing.assert_close(together, alone)


def test_a_row_of_padding_alone_has_none() -> None:
    net, ids = with_first(), texts()
    mask = torch.ones_like(ids)
    mask[1] = 0
    out = net(ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(out[:1], net(ids[:1]).last_hidden_state)
    assert out.isfinite().all()


def test_each_of_packed_texts_has_its_own() -> None:
    net, ids = with_first(), texts(1, 21)
    segments = torch.repeat_interleave(torch.tensor([7, 3, 5]), torch.tensor([8, 12, 1]))[None]
    packed = net(ids, segments=segments).last_hidden_state
    padding = torch.ones_like(ids, dtype=torch.bool)
    padding[0, [8, 19]] = False  # the second text begins and ends with padding
    masked = net(ids, segments=segments, attention_mask=padding).last_hidden_state
    for part in (slice(0, 8), slice(8, 20), slice(20, 21)):
        torch.testing.assert_close(packed[:, part], net(ids[:, part]).last_hidden_state)
        alone = net(ids[:, part], attention_mask=padding[:, part]).last_hidden_state
        torch.testing.assert_close(masked[:, part][padding[:, part]], alone[padding[:, part]])


def test_a_mask_that_is_given_is_all_there_is() -> None:
    net, ids = with_first(), texts()
    third = torch.zeros_like(ids)
    third[:, 2] = 1
    other = model(architecture(long=True))
    assert torch.equal(net(ids, global_mask=third).last_hidden_state, other(ids, global_mask=third).last_hidden_state)


def test_from_embeddings_too() -> None:
    net, ids = with_first(), texts()
    embedded = net(inputs_embeds=net.embeddings.word(ids)).last_hidden_state
    torch.testing.assert_close(embedded, net(ids).last_hidden_state)


def test_it_compiles_whole_and_exports() -> None:
    net, ids = with_first(MaskedLM(), torch.float32), texts()
    torch.compiler.reset()
    compiled = torch.compile(net, fullgraph=True, backend="eager", dynamic=True)
    torch.testing.assert_close(compiled(ids).logits, net(ids).logits, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        program = torch.export.export(net, (ids,)).module()
        torch.testing.assert_close(program(ids).logits, net(ids).logits, rtol=1e-4, atol=1e-5)


def test_the_field_goes_there_and_back() -> None:
    described = replace(architecture(long=True), global_tokens="first")
    plain = described.to_dict()
    assert plain["global_tokens"] == "first"
    assert Architecture.from_dict(plain) == described
    del plain["global_tokens"]
    assert Architecture.from_dict(plain).global_tokens == "none", "as files had it before there was the field"


@pytest.mark.parametrize("value", ["all", "First", "", None, 1, True, ["first"]])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(InputError, match=r"^global_tokens is .*; it must be one of 'first', 'none'$"):
        replace(architecture(long=True), global_tokens=value)


def test_it_needs_a_pattern_with_global_tokens() -> None:
    said = "^global_tokens is 'first'; it must be 'none' where no layer's pattern has global tokens$"
    for pattern in (Full(), Window(3, 3), PerHead((Window(3, 3), 1), (Full(), 1))):
        with pytest.raises(InputError, match=said):
            replace(architecture(pattern), global_tokens="first")
    causal = architecture(Window(3, 0), head=CausalLM())
    with pytest.raises(InputError, match=said):
        replace(causal, global_tokens="first")
    for pattern in (SPARSE, Global(), PerHead((SPARSE, 1), (Window(1, 1), 1))):
        assert replace(architecture(pattern), global_tokens="first").takes_global_tokens
