"""Every brick says what it costs: no module with a `forward` is without an `account`."""

import importlib
import inspect
import pkgutil
from types import ModuleType
from typing import Literal

import pytest
import torch
from kept_bytes import kept_bytes
from torch import nn

import gossamer.layers
import gossamer.models.heads
from gossamer.kernels.accounts import account_activation
from gossamer.kernels.activations import ACTIVATIONS
from gossamer.kernels.ledger import Ledger
from gossamer.layers import LayerNorm
from gossamer.models.heads import Head, HeadModule, ProblemType, SequenceClassification, Tokens
from gossamer.models.heads.pooled_head import PooledHead
from gossamer.models.output import Output


def bricks(package: ModuleType) -> list[type[nn.Module]]:
    """The modules that the files of a package define and that compute, by name."""
    files = [
        importlib.import_module(f"{package.__name__}.{one.name}") for one in pkgutil.iter_modules(package.__path__)
    ]
    found = {
        one
        for file in files
        for _, one in inspect.getmembers(file, inspect.isclass)
        if issubclass(one, nn.Module) and one.__module__ == file.__name__ and one.forward is not nn.Module.forward
    }
    return sorted(found, key=lambda one: one.__name__)


BRICKS = [*bricks(gossamer.layers), *bricks(gossamer.models.heads)]


def test_all_bricks_are_listed() -> None:
    names = {one.__name__ for one in BRICKS}
    assert {"Linear", "SelfAttention", "TokenEmbeddings", "RMSNorm", "MaskedLMHead", "LastTokenHead"} <= names


@pytest.mark.parametrize("brick", BRICKS, ids=lambda one: one.__name__)
def test_a_brick_that_computes_says_what_it_costs(brick: type[nn.Module]) -> None:
    owner = next(one for one in brick.__mro__ if "forward" in vars(one))
    teller = next((one for one in brick.__mro__ if "account" in vars(one)), None)
    assert teller is not None, f"{brick.__name__} has no method `account`"
    # One that computes in another way than its parent must not keep the parent's account.
    assert issubclass(teller, owner) or not owner.__module__.startswith("gossamer"), f"{owner} computes, {teller} tells"


def test_a_head_without_an_account_is_refused() -> None:
    class Silent(HeadModule):
        pass

    states = torch.empty(1, 2, 3, device="meta")
    with pytest.raises(NotImplementedError, match="Silent does not say what it costs: it needs a method `account`"):
        Silent().account(states, Tokens(word_table=states[0]), Ledger())


RECKONED = ("masked-lm", "pre-training", "sequence-classification", "token-classification")


def test_a_loss_that_is_not_reckoned_is_refused() -> None:
    for kind, settings in Head.kinds.items():
        reckons = "account_loss" in vars(settings)
        assert reckons == (kind in RECKONED), kind


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_keeps_what_it_says(name: str) -> None:
    x = torch.randn(50, 8, requires_grad=True)
    kept = kept_bytes(lambda: ACTIVATIONS[name](x * 1.0), nn.Identity())
    ledger = Ledger(training=True)
    with ledger.section("activation", name) as section:
        account_activation(name, torch.empty(50, 8, device="meta", requires_grad=True), ledger)
    assert section.kept == kept


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("has_norm", [False, True])
@pytest.mark.parametrize("reads", ["first", "first-real", "mean"])
def test_a_pooled_head_keeps_what_it_says(
    reads: Literal["first", "first-real", "mean"], has_norm: bool, dropout: float
) -> None:
    """A first token is a slice of the states, all of which are kept with it; a mean is a vector of its own."""
    made = []
    for device in ("cpu", "meta"):
        with torch.device(device):
            norm = LayerNorm(16, eps=1e-5, bias=False) if has_norm else None
            settings = {"activation": "gelu", "dropout": dropout, "input_dropout": dropout, "dense_bias": False}
            made.append(PooledHead(16, 3, reads=reads, norm=norm, **settings).train())  # type: ignore[arg-type]
    head, silent = made
    table = torch.empty(0, 16)
    x = torch.randn(4, 50, 16, requires_grad=True)
    kept = kept_bytes(lambda: head(x * 1.0, Tokens(word_table=table)).logits, head)
    ledger, states = Ledger(training=True), torch.empty(4, 50, 16, device="meta", requires_grad=True)
    with ledger.section("head", "head", states) as section:
        silent.account(states, Tokens(word_table=table), ledger)
    assert section.kept == kept


@pytest.mark.parametrize(
    "problem", ["regression", "single_label_classification", "multi_label_classification", None], ids=str
)
def test_a_loss_of_labels_keeps_what_it_says(problem: ProblemType | None) -> None:
    settings = SequenceClassification(labels=tuple(map(str, range(50))), problem_type=problem)
    scores = torch.randn(40, 50, requires_grad=True)
    is_single = problem in ("single_label_classification", None)
    labels = torch.zeros(40, dtype=torch.long) if is_single else torch.zeros(40, 50)
    kept = kept_bytes(lambda: settings.loss(Output(logits=scores * 1.0), labels), nn.Identity())
    ledger = Ledger(training=True)
    with ledger.section("loss", "head") as section:
        settings.account_loss(torch.empty(40, 50, device="meta", requires_grad=True), ledger)
    assert section.kept == pytest.approx(kept, rel=0.005)  # a number besides


def test_the_backward_pass_is_walked_through_by_hand() -> None:
    """Ten rows of 80, a map to 8, relu: what relu keeps is gone when the wide gradient of the input is made."""
    ledger = Ledger(training=True)
    x = torch.empty(10, 80, device="meta", requires_grad=True)
    with torch.device("meta"):
        narrow = gossamer.layers.Linear(80, 8)
    with ledger.section("part", "part", x) as section:
        narrow.account(x, ledger, "relu")
    assert section.kept == 3200 + 320
    assert section.backward == 3200 + 320 + 3200


def test_a_sum_hands_its_gradient_on_and_two_of_them_are_added() -> None:
    ledger = Ledger(training=True)
    x = torch.empty(10, 8, device="meta", requires_grad=True)
    with ledger.section("part", "part", x) as section:
        ledger.add(x, account_activation("relu", x, ledger))
    # At the fullest moment: relu's result, the sum's gradient, relu's own, and both added, for the sum's is shared.
    assert section.backward == 4 * 320
