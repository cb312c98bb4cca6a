"""In training the two libraries draw different numbers, so the rates that they ask for are compared, one by one."""

from typing import Any

import pytest
import torch
from drawn_cases import EVERY
from oracle import their_class
from transformers import AutoConfig

import gossamer as gs
from gossamer.families import get_family
from gossamer.kernels import attend
from gossamer.layers import attention
from gossamer.models import Model

RATES = {"hidden_dropout_prob": 0.11, "attention_probs_dropout_prob": 0.12, "classifier_dropout": 0.13}
OWN = {
    "distilbert": {"dropout": 0.11, "attention_dropout": 0.12, "qa_dropout": 0.14, "seq_classif_dropout": 0.15},
    "albert": {"classifier_dropout_prob": 0.13, "hidden_dropout_prob": 0.11, "attention_probs_dropout_prob": 0.12},
    "electra": {**RATES, "summary_last_dropout": 0.14},
    "gpt2": {"embd_pdrop": 0.11, "attn_pdrop": 0.12, "resid_pdrop": 0.14},
    "llama": {"attention_dropout": 0.12},
    "deberta-v2": {
        **RATES,
        "pooler_dropout": 0.0,
        "embedding_size": 4,
        "cls_dropout": 0.14,
        "relative_attention": True,
        "pos_att_type": "c2p|p2c",
    },
    "modernbert": {"embedding_dropout": 0.11, "attention_dropout": 0.12, "mlp_dropout": 0.14, "pad_token_id": 1},
}
WIDE = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 6}
SMALL = {
    "distilbert": {"dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 6},
    "albert": {**WIDE, "embedding_size": 4},
    "electra": {**WIDE, "embedding_size": 4},
    "gpt2": {"n_embd": 8, "n_layer": 2, "n_head": 2, "n_inner": 6},
    "llama": {**WIDE, "num_hidden_layers": 5},
    "modernbert": {**WIDE, "num_hidden_layers": 3},
}


def config_of(family: str, **changes: Any) -> Any:
    fields = {"vocab_size": 20, "max_position_embeddings": 30, **SMALL.get(family, WIDE), **OWN.get(family, RATES)}
    if family == "longformer":
        fields |= {"attention_window": 4}
    config = AutoConfig.for_model(family, **{**fields, **changes})
    if family != "longformer":
        config._attn_implementation = "eager"
    return config


def ids_for(head: str | None) -> torch.Tensor:
    ids = torch.tensor([[0, 5, 6, 2, 2, 7, 8, 2]])
    return ids[:, None].expand(-1, 2, -1).contiguous() if head == "multiple-choice" else ids


def rates_of(run: Any, patch: pytest.MonkeyPatch) -> list[float]:
    """Every rate above 0 that is asked for, in the order of the calls; those of attention weights too."""
    rates: list[float] = []
    plain = torch.nn.functional.dropout

    def dropout(x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
        rates.extend([p] if training and p > 0 else [])
        return plain(x, 0.0, training, inplace)

    def attending(*given: Any, dropout: float = 0.0, **named: Any) -> Any:
        rates.extend([dropout] if dropout > 0 else [])
        return attend(*given, dropout=0.0, **named)

    with patch.context() as inner:
        inner.setattr(torch.nn.functional, "dropout", dropout)
        inner.setattr(attention, "attend", attending)
        run()
    return rates


@pytest.mark.parametrize("classifier", [0.13, None])
@pytest.mark.parametrize(("family", "head"), EVERY)
def test_rates_are_those_of_transformers_in_order(
    family: str, head: str | None, classifier: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # ModernBERT's is a rate, never null.
    named = "classifier_dropout" in _names(family) and (classifier is not None or family != "modernbert")
    changes = {"classifier_dropout": classifier} if named else {}
    config = config_of(family, **changes)
    theirs = their_class(family, head)(config).train()
    ours = Model(get_family(family).read(config.to_dict(), head=head)).train()
    ids = ids_for(head)
    expected = rates_of(lambda: theirs(ids), monkeypatch)
    found = rates_of(lambda: ours(ids), monkeypatch)
    assert found == expected
    assert len(found) >= 5
    assert rates_of(lambda: ours.eval()(ids), monkeypatch) == []


def _names(family: str) -> set[str]:
    return {one.name for one in get_family(family).fields}


def test_a_rate_of_its_own_survives_saving(tmp_path: Any) -> None:
    form = get_family("bert")
    config = config_of("bert").to_dict()
    model = Model(form.read(config, head="sequence-classification"), family="bert")
    gs.save(model, tmp_path / "model")
    assert gs.load(tmp_path / "model").architecture == model.architecture
    assert model.architecture.head.dropout == 0.13  # type: ignore[union-attr]
