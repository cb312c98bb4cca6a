"""Which layer of an ALBERT uses which group: the rounding of `transformers`, float for float."""

from typing import Any

import pytest
from torch import nn
from transformers import AlbertConfig
from transformers.models.albert.modeling_albert import AlbertTransformer

from gossamer.families import get_family

MOST_LAYERS = 40
SIZES = {"hidden_size": 8, "embedding_size": 4, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 10}


def our_groups(layers: int, groups: int) -> list[int]:
    config = {**SIZES, "num_hidden_layers": layers, "num_hidden_groups": groups}
    return [one.attention.weights for one in get_family("albert").read(config).layers]


class Recorder(nn.Module):
    """A group that only tells that it was applied."""

    def __init__(self, number: int, applied: list[int]) -> None:
        super().__init__()
        self.number, self.applied = number, applied

    def forward(self, states: Any, *_: Any, **__: Any) -> Any:
        self.applied.append(self.number)
        return states


def their_groups(layers: int, groups: int) -> list[int]:
    """What the oracle's own loop applies."""
    applied: list[int] = []
    model = AlbertTransformer(AlbertConfig(**SIZES, num_hidden_layers=1, num_hidden_groups=1))
    model.config = AlbertConfig(**SIZES, num_hidden_layers=layers, num_hidden_groups=groups)
    model.embedding_hidden_mapping_in = nn.Identity()
    model.albert_layer_groups = nn.ModuleList([Recorder(i, applied) for i in range(groups)])
    model(None)
    return applied


def test_every_number_of_layers_and_groups() -> None:
    differ = []
    for layers in range(1, MOST_LAYERS + 1):
        for groups in range(1, layers + 1):
            found = our_groups(layers, groups)
            assert found == [int(i / (layers / groups)) for i in range(layers)], (layers, groups)
            if found != [i * groups // layers for i in range(layers)]:
                differ.append((layers, groups))
    assert differ[0] == (18, 14)  # where whole numbers would round otherwise


@pytest.mark.parametrize(("layers", "groups"), [(12, 1), (12, 5), (18, 14), (24, 24), (30, 22), (64, 63)])
def test_the_oracle_applies_the_same_groups(layers: int, groups: int) -> None:
    assert our_groups(layers, groups) == their_groups(layers, groups)


@pytest.mark.parametrize("inner", [1, 2])
def test_groups_survive_a_save(inner: int) -> None:
    """Read, written and read again the layers share the same weights, where the rounding differs too."""
    family = get_family("albert")
    for layers, groups in ((18, 14), (12, 5), (7, 3)):
        config = {**SIZES, "num_hidden_layers": layers, "num_hidden_groups": groups, "inner_group_num": inner}
        architecture = family.read(config)
        assert family.read(family.write(architecture)) == architecture
