"""The key tables against the names that `transformers` itself gives its tensors, none missing, none left over."""

import pytest
import torch
import transformers

from gossamer.families import FAMILIES, get_family
from gossamer.models import Model

SMALL = {
    "vocab_size": 11,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 6,
    "max_position_embeddings": 20,
}
CONTRACTS = [
    ("bert", "BertConfig", "BertModel", None),
    ("bert", "BertConfig", "BertForMaskedLM", "masked-lm"),
    ("longformer", "LongformerConfig", "LongformerModel", None),
    ("longformer", "LongformerConfig", "LongformerForMaskedLM", "masked-lm"),
]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("family", "config", "theirs", "head"), CONTRACTS)
def test_names_and_shapes_are_those_of_transformers(
    family: str, config: str, theirs: str, head: str | None, tied: bool
) -> None:
    settings = getattr(transformers, config)(**SMALL, tie_word_embeddings=tied)
    with torch.device("meta"):
        reference = getattr(transformers, theirs)(settings)
        form = get_family(family)
        model = Model(form.read(settings.to_dict(), head=head, pooler=head is None))
    ours = {name: tuple(one.shape) for name, one in model.state_dict().items()}
    written = {
        form.file_name(name, model.architecture): ours[own]
        for own, names in form.names(ours, model.architecture).items()
        for name in names
    }
    expected = {name: tuple(one.shape) for name, one in reference.state_dict().items()}
    tied_copies = set(form.tied_names(model.architecture))
    assert written == {name: shape for name, shape in expected.items() if form.canonical(name) not in tied_copies}


@pytest.mark.parametrize(("family", "config", "theirs", "head"), CONTRACTS)
def test_config_is_written_as_it_was_read(family: str, config: str, theirs: str, head: str | None) -> None:
    form, settings = get_family(family), getattr(transformers, config)(**SMALL).to_dict()
    architecture = form.read(settings, head=head, pooler=head is None)
    written = form.write(architecture)
    known = {name: settings[name] for name in written}
    if family == "longformer" and isinstance(known["attention_window"], list):
        known["attention_window"] = known["attention_window"][0]
    assert written == known
    assert form.architecture_name(architecture) == theirs
    assert form.head_of([theirs]) == head


@pytest.mark.parametrize(("family", "config"), [("bert", "BertConfig"), ("longformer", "LongformerConfig")])
def test_defaults_are_those_of_transformers(family: str, config: str) -> None:
    settings = getattr(transformers, config)().to_dict()
    assert get_family(family).read({}) == get_family(family).read(settings)


def test_every_place_has_one_name_and_every_name_one_place() -> None:
    for form in FAMILIES.values():
        for keys in (form.keys, *({**form.keys, **head.keys} for head in form.heads.values())):
            # A head on the first token takes the place of the pooler.
            replaced = {name for one in form.heads.values() for name in one.keys.values()} & {keys.get("pooler")}
            keys = {ours: value for ours, value in keys.items() if ours != "pooler" or value not in replaced}
            names = [name for value in keys.values() for name in ((value,) if isinstance(value, str) else value)]
            assert len(names) == len(set(names)), form.model_type
