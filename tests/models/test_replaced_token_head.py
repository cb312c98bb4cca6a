"""The loss of the head that tells replaced tokens: whom it counts, what it is, and what gets no gradient."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from model_inputs import architecture, model, texts

from gossamer.errors import InputError
from gossamer.models import Output, ReplacedToken, TokenClassification

HEAD = ReplacedToken()
LABELS = st.lists(st.sampled_from([-100, 0, 1]), min_size=21, max_size=21)


def by_hand(logits: torch.Tensor, labels: list[int], real: list[bool]) -> float:
    """Clark et al. 2020, section 2: -log sigmoid(s) of a replaced token, -log(1 - sigmoid(s)) of an original one."""
    chances = logits.double().sigmoid().tolist()
    counted = [(chance, label) for chance, label, one in zip(chances, labels, real, strict=True) if one and label >= 0]
    each = [chance if label else 1 - chance for chance, label in counted]
    return -sum(torch.tensor(each, dtype=torch.float64).log().tolist()) / len(each)


@given(labels=LABELS, real=st.none() | st.lists(st.booleans(), min_size=21, max_size=21))
def test_it_is_the_mean_over_real_tokens_with_a_label(labels: list[int], real: list[bool] | None) -> None:
    net, ids = model(architecture(head=HEAD)), texts(1)
    mask = None if real is None else torch.tensor([real])
    kept = [True] * 21 if real is None else real
    out = net(ids, attention_mask=mask, labels=torch.tensor([labels], dtype=torch.int32))
    assert out.logits.shape == ids.shape
    if not any(one and label >= 0 for one, label in zip(kept, labels, strict=True)):
        assert out.loss.isnan()
    else:
        assert out.loss.item() == pytest.approx(by_hand(out.logits[0], labels, kept), rel=1e-12)


def test_of_all_heads_it_alone_leaves_padding_out() -> None:
    """As in `transformers`, where a tagger's labels of padding count."""
    ids, labels, mask = texts(), torch.zeros(2, 21, dtype=torch.int64), torch.ones(2, 21, dtype=torch.int64)
    mask[:, 15:] = 0
    changed = labels.clone()
    changed[:, 15:] = 1
    for head, counts_padding in ((HEAD, False), (TokenClassification(labels=("a", "b")), True)):
        net = model(architecture(head=head))
        before, after = (net(ids, attention_mask=mask, labels=one).loss for one in (labels, changed))
        assert torch.equal(before, after) != counts_padding


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_score_without_a_label_moves_nothing(bad: float) -> None:
    labels = torch.tensor([[1, -100, 0]])
    logits = torch.tensor([[0.3, bad, -0.2]], requires_grad=True)
    loss = HEAD.loss(Output(logits=logits), labels)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient[0, 1] == 0
    alone = torch.tensor([[0.3, -0.2]], requires_grad=True)
    expected = HEAD.loss(Output(logits=alone), torch.tensor([[1, 0]]))
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient[:, ::2], torch.autograd.grad(expected, alone)[0])


def test_many_tokens_in_half_precision_do_not_overflow() -> None:
    logits = torch.zeros(8, 16384, dtype=torch.float16)
    loss = HEAD.loss(Output(logits=logits), torch.ones(logits.shape, dtype=torch.int64))
    assert loss.dtype == torch.float16
    assert float(loss) == pytest.approx(0.6931, rel=1e-3)


def test_its_loss_compiles_whole() -> None:
    net, ids = model(architecture(head=HEAD), torch.float32), texts()
    labels, mask = (ids % 3).clamp(max=1), torch.ones_like(ids)
    labels[0, :4], mask[1, 9:] = -100, 0
    torch.compiler.reset()
    compiled = torch.compile(net, fullgraph=True, backend="eager", dynamic=True)
    found, expected = (one(ids, attention_mask=mask, labels=labels).loss for one in (compiled, net))
    torch.testing.assert_close(found, expected)


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(InputError, match=r"^activation is 'tanh'; it must be one of 'gelu', "):
        ReplacedToken(activation="tanh")  # type: ignore[arg-type]
