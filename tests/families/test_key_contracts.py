"""The key tables against the names that `transformers` itself gives its tensors, none missing, none left over."""

import json
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoConfig

import gossamer as gs
from gossamer.families import FAMILIES, get_family
from gossamer.families.stored import Stored
from gossamer.models import Model

SMALL = {"vocab_size": 11, "max_position_embeddings": 20}
WIDE = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 6}
TWO_TEXTS = {
    "d_model": 8, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 2, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 6, "decoder_ffn_dim": 5,
}  # fmt: skip
OWN = {
    "longformer": {**WIDE, "attention_window": [4, 6]},
    "distilbert": {"dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 6},
    "albert": {**WIDE, "num_hidden_layers": 3, "num_hidden_groups": 2, "inner_group_num": 2, "embedding_size": 5},
    "electra": {**WIDE, "embedding_size": 5},
    "gpt2": {"n_embd": 8, "n_layer": 2, "n_head": 2, "n_inner": 6},
    "modernbert": {**WIDE, "pad_token_id": 3, "norm_bias": True, "attention_bias": True, "mlp_bias": True},
    "llama": {**WIDE, "num_key_value_heads": 1, "attention_bias": True, "mlp_bias": True},
    "deberta-v2": {
        **WIDE, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 6,
        "embedding_size": 5, "share_att_key": False, "max_relative_positions": 15, "norm_rel_ebd": "layer_norm",
        "type_vocab_size": 2,
    },
    "bart": TWO_TEXTS,
    "led": {**TWO_TEXTS, "attention_window": [4, 6], "max_encoder_position_embeddings": 20},
    "marian": {**TWO_TEXTS, "pad_token_id": 1, "decoder_start_token_id": 1},
    "t5": {
        "d_model": 8, "d_kv": 3, "d_ff": 6, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 2,
        "decoder_start_token_id": 0,
    },
    "reformer": {
        "hidden_size": 8, "attn_layers": ["local", "lsh"], "num_attention_heads": 2, "attention_head_size": 3,
        "feed_forward_size": 6, "axial_pos_shape": [4, 5], "axial_pos_embds_dim": [3, 5], "num_buckets": [2, 4],
    },
}  # fmt: skip
OLD_ALIASES = {"gpt2": {"n_ctx": "n_positions"}}
HEADS_THERE = {
    "masked-lm": "ForMaskedLM",
    "pre-training": "ForPreTraining",
    "next-sentence": "ForNextSentencePrediction",
    "sequence-classification": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
    "question-answering": "ForQuestionAnswering",
    "multiple-choice": "ForMultipleChoice",
}
DECODER_HEADS = {"causal-lm": "LMHeadModel"} | {
    head: HEADS_THERE[head] for head in ("sequence-classification", "token-classification", "question-answering")
}
LLAMA_HEADS = DECODER_HEADS | {"causal-lm": "ForCausalLM"}
# What it is trained to tell before anything else: which tokens were replaced.
DISCRIMINATOR_HEADS = {"replaced-token" if head == "pre-training" else head: end for head, end in HEADS_THERE.items()}
ENDS = {"gpt2": DECODER_HEADS, "electra": DISCRIMINATOR_HEADS, "llama": LLAMA_HEADS}
# T5's tags are its encoder's alone, which is no model of two texts.
SEQ2SEQ_HEADS = {"seq2seq-lm": "ForConditionalGeneration"} | {
    head: HEADS_THERE[head] for head in ("sequence-classification", "question-answering")
}
ENDS |= {"bart": SEQ2SEQ_HEADS, "t5": SEQ2SEQ_HEADS, "led": SEQ2SEQ_HEADS, "marian": {"seq2seq-lm": "MTModel"}}
ENDS["reformer"] = {"causal-lm": "ModelWithLMHead", **HEADS_THERE}
PUBLIC = [form.model_type for form in FAMILIES.values() if form.public]
CONTRACTS = [(family, head) for family in PUBLIC for head in (None, *get_family(family).heads)]
EACH = pytest.mark.parametrize(("family", "head"), CONTRACTS)
LABELLED = [(family, head) for family, head in CONTRACTS if head in ("sequence-classification", "token-classification")]
ENCODERS = [family for family, head in CONTRACTS if head == "sequence-classification" and family != "gpt2"]


def small(family: str, head: str | None = None, **changes: Any) -> Any:
    return AutoConfig.for_model(family, **SMALL, **OWN.get(family, WIDE), **of_head(family, head), **changes)


def of_head(family: str, head: str | None) -> dict[str, Any]:
    """What a config.json says for a head besides: Reformer's language model is a decoder."""
    return {"is_decoder": True} if (family, head) == ("reformer", "causal-lm") else {}


def their_name(family: str, head: str | None) -> str:
    form = get_family(family)
    return form.bare if head is None else form.heads[head].architectures[0]


@pytest.mark.parametrize("family", PUBLIC)
def test_heads_are_those_of_transformers(family: str) -> None:
    stem = type(AutoConfig.for_model(family)).__name__.removesuffix("Config")
    ends = ENDS.get(family, HEADS_THERE)
    there = {head: f"{stem}{end}" for head, end in ends.items() if hasattr(transformers, f"{stem}{end}")}
    assert {head: form.architectures[0] for head, form in get_family(family).heads.items()} == there
    assert get_family(family).bare == f"{stem}Model"
    assert [get_family(family).head_of([name]) for name in there.values()] == list(there)
    assert get_family(family).head_of([f"{stem}Model"]) is None
    with pytest.raises(gs.InputError, match=r"ForSomethingElse.*head='none'"):
        get_family(family).head_of([f"{stem}ForSomethingElse"])


@pytest.mark.parametrize("family", PUBLIC)
def test_aliases_are_those_of_transformers(family: str) -> None:
    there = AutoConfig.for_model(family).attribute_map
    assert get_family(family).aliases == {**there, **OLD_ALIASES.get(family, {})}


@pytest.mark.parametrize("tied", [True, False])
@EACH
def test_names_and_shapes_are_those_of_transformers(family: str, head: str | None, tied: bool) -> None:
    # transformers sizes question answering by num_labels too, and reads nothing but 2 there.
    labels = {"num_labels": 3} if (family, head) in LABELLED else {}
    settings = small(family, head, tie_word_embeddings=tied, **labels)
    if family == "reformer" and tied:  # whose states are twice as wide as its table
        with pytest.raises(gs.InputError, match="tie_word_embeddings is True"):
            get_family(family).read(settings.to_dict(), head=head)
        return
    with torch.device("meta"):
        reference = getattr(transformers, their_name(family, head))(settings)
        form = get_family(family)
        pooler = head is None and "pooler" in form.keys
        model = Model(form.read(settings.to_dict(), head=head, pooler=pooler))
    ours = {name: tuple(one.shape) for name, one in model.state_dict().items()}
    written = {
        form.file_name(name, model.architecture): stored.shape(ours)
        for name, stored in form.stored(ours, model.architecture).items()
    }
    written |= dict.fromkeys(form.idle_names(model.architecture), (SMALL["vocab_size"],))
    expected = {name: tuple(one.shape) for name, one in reference.state_dict().items()}
    tied_copies = set(form.tied_names(model.architecture))
    tied_copies -= set(form.copies)
    is_tied = tied or family == "t5"  # transformers 5 ties it all the same, and says so in the config
    assert bool(tied_copies) == (is_tied and head in ("masked-lm", "pre-training", "causal-lm", "seq2seq-lm"))
    tied_copies |= set(form.copies)
    tables = {"encoder.embed_positions.weight", "decoder.embed_positions.weight"} & set(form.ignored)  # sinusoids
    left_out = tied_copies | tables
    assert written == {name: shape for name, shape in expected.items() if form.canonical(name) not in left_out}


@EACH
def test_config_is_written_as_it_was_read(family: str, head: str | None) -> None:
    form, settings = get_family(family), json.loads(json.dumps(small(family, head, num_labels=3).to_dict()))
    architecture = form.read(settings, head=head, pooler=head is None and "pooler" in form.keys)
    written = form.write(architecture)
    known = {name: settings[name] for name in written}
    assert written == known
    assert ("id2label" in written) == (head in ("sequence-classification", "token-classification"))
    assert form.architecture_name(architecture) == their_name(family, head)


@EACH
def test_defaults_are_those_of_transformers(family: str, head: str | None) -> None:
    said = of_head(family, head)
    settings = json.loads(json.dumps(AutoConfig.for_model(family, **said).to_dict()))
    assert get_family(family).read(said, head=head) == get_family(family).read(settings, head=head)


@pytest.mark.parametrize("labels", [("good",), ("no", "yes"), ("LABEL_0", "LABEL_1"), ("a", "b", "ü"), None])
@pytest.mark.parametrize(("family", "head"), LABELLED)
def test_labels_go_to_transformers_and_back(family: str, head: str, labels: tuple[str, ...] | None) -> None:
    form = get_family(family)
    named = {} if labels is None else {"id2label": dict(enumerate(labels))}
    settings = small(family, **named)
    architecture = form.read(json.loads(json.dumps(settings.to_dict())), head=head)
    expected = labels or tuple(AutoConfig.for_model(family).id2label.values())
    assert architecture.head.labels == expected  # type: ignore[union-attr]
    again = AutoConfig.for_model(family, **form.write(architecture))
    assert again.id2label == dict(enumerate(expected))
    assert again.label2id == {name: i for i, name in enumerate(expected)}
    assert again.num_labels == len(expected)
    assert form.read(json.loads(json.dumps(again.to_dict())), head=head) == architecture


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("family", ENCODERS)
def test_labels_may_be_a_number_alone(family: str, count: int) -> None:
    """Old files of two labels say nothing at all, others `num_labels`."""
    form = get_family(family)
    config = {} if count == 2 else {"num_labels": count}
    read = form.read(config, head="sequence-classification").head
    assert read.labels == tuple(AutoConfig.for_model(family, **config).id2label.values())  # type: ignore[union-attr]


@pytest.mark.parametrize("problem", ["regression", "single_label_classification", "multi_label_classification", None])
@pytest.mark.parametrize("family", ENCODERS)
def test_problem_type_is_kept(family: str, problem: str | None) -> None:
    form = get_family(family)
    settings = json.loads(json.dumps(small(family, num_labels=3, problem_type=problem).to_dict()))
    architecture = form.read(settings, head="sequence-classification")
    assert architecture.head.problem_type == problem  # type: ignore[union-attr]
    assert form.write(architecture)["problem_type"] == problem


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"id2label": {"0": "a", "2": "b"}}, "id2label"),
        ({"id2label": {}}, "id2label"),
        ({"id2label": ["a", "b"]}, "id2label"),
        ({"num_labels": 0}, "num_labels is 0"),
        ({"problem_type": "ranking"}, "problem_type is 'ranking'"),
        ({"problem_type": "single_label_classification", "num_labels": 1}, "two or more"),
    ],
)
def test_bad_labels_are_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(gs.InputError, match=said):
        get_family("roberta").read(config, head="sequence-classification")


def test_every_place_has_one_name_and_every_name_one_place() -> None:
    for form in FAMILIES.values():
        for keys in (form.keys, *({**form.keys, **head.keys} for head in form.heads.values())):
            # A head on the first token takes the place of the pooler.
            replaced = {name for one in form.heads.values() for name in one.keys.values()} & {keys.get("pooler")}
            keys = {ours: value for ours, value in keys.items() if ours != "pooler" or value not in replaced}
            several = [one for value in keys.values() for one in (value if isinstance(value, tuple) else (value,))]
            stored = [Stored(name=one) if isinstance(one, str) else one for one in several]
            parts: dict[str, list[Stored]] = {}
            for one in stored:
                parts.setdefault(one.name, []).append(one)
            for name, held in parts.items():
                assert sorted(one.part for one in held) == list(range(len(held))), (form.model_type, name)
                assert len({one.transposed for one in held}) == 1, (form.model_type, name)
