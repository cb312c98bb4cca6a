"""Drawn configurations of every family and head, and batches and labels for them."""

from dataclasses import dataclass, field
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoConfig, PreTrainedConfig

from gossamer.families import FAMILIES

TWO_TEXTS = ("bart", "led", "marian", "t5")
COMMON = [form for form in FAMILIES.values() if form.public and form.model_type not in ("reformer", *TWO_TEXTS)]
"""Reformer has a file of its own: it computes gradients only while training, of certain lengths; so have models of two
texts."""
EVERY = [(form.model_type, head) for form in COMMON for head in (None, *form.heads)]
DECODERS = ("gpt2", "llama")
DEBERTA = "deberta-v2"
"""Its padding reads other tokens' mean in transformers, so that real tokens alone are compared."""
FROM_PADDING = ("roberta", "xlm-roberta", "camembert", "longformer", "mpnet")
SEPARATOR = 2
IGNORED = -100
PROBLEMS = ("regression", "single_label_classification", "multi_label_classification")
OWN_NAMES = {
    "distilbert": ("dim", "n_heads", "n_layers", "hidden_dim", "activation"),
    "gpt2": ("n_embd", "n_head", "n_layer", "n_inner", "activation_function"),
}
"""What the sizes of a layer are called, in the order of `_config`, where BERT's names are not used."""


@dataclass
class Case:
    """One drawn model and batch.

    `batch`: what both libraries take under one name. `labels`: as Gossamer takes them. `embedded`: rows of the word
    table are handed over instead of ids.
    """

    family: str
    head: str | None
    config: PreTrainedConfig
    batch: dict[str, Tensor]
    seed: int
    labels: Any = None
    global_mask: Tensor | None = None
    embedded: bool = False
    random: torch.Generator = field(default_factory=torch.Generator)


@st.composite
def cases(draw: st.DrawFn, family: str, head: str | None) -> Case:
    length, rows = draw(st.integers(1, 45) | st.sampled_from([4, 16, 32, 48])), draw(st.integers(1, 3))
    seed = draw(st.integers(0, 2**31))
    config = _config(draw, family, head, length)
    case = Case(family, head, config, {}, seed, random=torch.Generator().manual_seed(seed))
    shape = (rows, draw(st.integers(1, 3)), length) if head == "multiple-choice" else (rows, length)
    _fill(draw, case, shape)
    if family == "longformer":
        _choose_global_tokens(draw, case, shape)
    case.embedded = draw(st.sampled_from([False, False, True])) and not _needs_ids(case)
    case.labels = _labels(draw, case, shape)
    return case


def _config(draw: st.DrawFn, family: str, head: str | None, length: int) -> PreTrainedConfig:
    heads, layers = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    least = -(-8 // heads)
    pad = 1 if family == "mpnet" else draw(st.integers(0, 3))  # transformers' MPNet knows no other
    rows = length + draw(st.integers(0, 3)) + (pad + 1 if family in FROM_PADDING else 0)
    wide = {
        "hidden_size": heads * max(least, draw(st.sampled_from([3, 4, 8, 16]))),
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "intermediate_size": draw(st.integers(1, 40)),
        "hidden_act": draw(st.sampled_from(["gelu", "gelu_new", "relu", "silu"])),
    }
    fields = {
        "vocab_size": draw(st.integers(6, 60)),
        "max_position_embeddings": rows,
        "pad_token_id": pad if family in FROM_PADDING or draw(st.booleans()) else None,
        "tie_word_embeddings": draw(st.booleans()),
        **_label_fields(draw, family, head),
    }
    if family in OWN_NAMES:
        fields |= dict(zip(OWN_NAMES[family], wide.values(), strict=True))
    elif family in ("llama", "modernbert"):
        fields |= wide
    else:
        fields |= wide
        if family != "mpnet":
            fields["type_vocab_size"] = draw(st.integers(0 if family == DEBERTA else 1, 3))
        fields["layer_norm_eps"] = draw(st.sampled_from([1e-12, 1e-5]))
    if family == DEBERTA:
        fields["pad_token_id"] = pad  # transformers' takes no null
    if family in DECODERS and head == "sequence-classification":
        fields["pad_token_id"] = pad  # by which transformers finds the last token
    if family == "modernbert" and wide["hidden_size"] // heads % 2:
        fields["hidden_size"] += heads  # rotary positions turn pairs of columns
    own = _own_fields(draw, family, layers, heads, wide["hidden_size"])
    config = AutoConfig.for_model(family, **{**fields, **own})
    if family != "longformer":
        config._attn_implementation = "eager"
    return config


def _own_fields(draw: st.DrawFn, family: str, layers: int, heads: int, width: int) -> dict[str, Any]:
    if family == "longformer":
        # transformers pads to the largest window and needs every other one to divide it; 2 it cannot compute.
        windows = draw(st.lists(st.sampled_from([4, 8, 16]), min_size=layers, max_size=layers))
        return {"attention_window": windows, "sep_token_id": SEPARATOR}
    if family == "albert":
        return {
            "embedding_size": draw(st.integers(3, 12)),
            "num_hidden_groups": draw(st.integers(1, layers)),
            "inner_group_num": draw(st.integers(1, 3)),
        }
    if family == "electra":
        return {
            "embedding_size": width if draw(st.booleans()) else draw(st.integers(3, 12)),
            "summary_activation": draw(st.sampled_from(["gelu", "gelu_new", "relu", "tanh"])),
        }
    if family == "gpt2":
        own = {
            "layer_norm_epsilon": draw(st.sampled_from([1e-5, 1e-12])),
            "scale_attn_weights": draw(st.booleans()),
            "scale_attn_by_inverse_layer_idx": draw(st.booleans()),
        }
        own |= {"n_inner": None} if draw(st.booleans()) else {}
        return own | ({"activation_function": "quick_gelu"} if draw(st.booleans()) else {})
    if family == "llama":
        return {
            "head_dim": draw(st.sampled_from([2, 4, 6, 16])),
            "num_key_value_heads": draw(st.sampled_from([one for one in range(1, heads + 1) if heads % one == 0])),
            "attention_bias": draw(st.booleans()),
            "mlp_bias": draw(st.booleans()),
            "rms_norm_eps": draw(st.sampled_from([1e-6, 1e-3])),
            "rope_parameters": {"rope_type": "default", "rope_theta": draw(st.sampled_from([10.0, 1e4, 5e5]))},
        }
    if family == "modernbert":
        return _modernbert_fields(draw, layers)
    return _deberta_fields(draw, width) if family == DEBERTA else {}


def _deberta_fields(draw: st.DrawFn, width: int) -> dict[str, Any]:
    own = {
        "embedding_size": width if draw(st.booleans()) else draw(st.integers(3, 12)),
        "position_biased_input": draw(st.booleans()),
        "pooler_hidden_act": draw(st.sampled_from(["gelu", "gelu_new", "relu", "tanh"])),
        "relative_attention": draw(st.sampled_from([True, True, True, False])),
    }
    if not own["relative_attention"]:
        return own
    ranges = draw(st.sampled_from([-1, 2, 3, 4, 5, 8, 16]))
    return own | {
        "pos_att_type": draw(st.sampled_from(["c2p|p2c", "p2c|c2p", "c2p", "p2c", ["p2c", "c2p"]])),
        "position_buckets": ranges,
        "max_relative_positions": draw(st.integers(max(ranges // 2 + 2, 1), 60)),
        "share_att_key": draw(st.booleans()),
        "norm_rel_ebd": draw(st.sampled_from(["none", "layer_norm"])),
    }


def _modernbert_fields(draw: st.DrawFn, layers: int) -> dict[str, Any]:
    kinds = ("full_attention", "sliding_attention")
    bases = st.sampled_from([10.0, 1e4, 1.6e5])
    flags = ("norm_bias", "attention_bias", "mlp_bias", "decoder_bias", "classifier_bias")
    listed = st.lists(st.sampled_from(kinds), min_size=layers, max_size=layers)
    return {
        "layer_types": draw(st.none() | listed),
        "global_attn_every_n_layers": draw(st.integers(1, 4)),
        "local_attention": draw(st.integers(1, 60)),
        "rope_parameters": {kind: {"rope_type": "default", "rope_theta": draw(bases)} for kind in kinds},
        "hidden_activation": draw(st.sampled_from(["gelu", "gelu_new", "relu", "silu"])),
        "classifier_activation": draw(st.sampled_from(["gelu", "gelu_new", "relu", "silu"])),
        "classifier_pooling": draw(st.sampled_from(["cls", "mean"])),
        "norm_eps": draw(st.sampled_from([1e-5, 1e-3])),
        **{flag: draw(st.booleans()) for flag in flags},
        **dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")),
    }


def _label_fields(draw: st.DrawFn, family: str, head: str | None) -> dict[str, Any]:
    if head == "token-classification":
        return {"num_labels": draw(st.integers(1, 4))}
    if head != "sequence-classification":
        return {}
    count = draw(st.integers(1, 4))
    allowed = [one for one in (None, *PROBLEMS) if count > 1 or one != "single_label_classification"]
    if family == DEBERTA:
        # Unsaid, transformers' takes it in float32, or of one label leaves logits without their dimension.
        allowed.remove(None)
    return {"num_labels": count, "problem_type": draw(st.sampled_from(allowed))}


def _fill(draw: st.DrawFn, case: Case, shape: tuple[int, ...]) -> None:
    config, random, length = case.config, case.random, shape[-1]
    batch = case.batch
    batch["input_ids"] = torch.randint(config.vocab_size, shape, generator=random)
    if getattr(config, "type_vocab_size", 0) and draw(st.booleans()):
        batch["token_type_ids"] = torch.randint(config.type_vocab_size, shape, generator=random)
    # transformers' DistilBERT does not flatten the positions of choices.
    if draw(st.sampled_from([False, False, True])) and (case.family != "distilbert" or len(shape) == 2):
        batch["position_ids"] = _position_ids(case, shape)
    padding = draw(st.sampled_from(_paddings(case)))
    if padding == "none":
        if case.family == "modernbert" and case.head == "multiple-choice":
            batch["attention_mask"] = torch.ones(shape, dtype=torch.long)  # transformers takes no mean without it
        return
    least = 1
    if case.family == "modernbert":
        # What sees nothing within its window is zeros here; transformers takes a mean over padding, in float64 NaN.
        least = max(1, length - config.local_attention // 2)
    kept = torch.randint(least, length + 1, (*shape[:-1], 1), generator=random)
    order = torch.arange(length).expand(shape)
    order = order.flip(-1) if padding == "left" else order
    order = torch.rand(shape, generator=random).argsort(-1) if padding == "anywhere" else order
    batch["attention_mask"] = (order < kept).long()
    if draw(st.booleans()) or _reads_last(case):
        batch["input_ids"] = batch["input_ids"].where(batch["attention_mask"].bool(), config.pad_token_id or 0)


def _paddings(case: Case) -> list[str]:
    """Where padding may lie: for DeBERTa where no head reads it, a loss neither."""
    if case.family == DEBERTA and case.head == "question-answering":
        return ["none"]
    of_text = case.family == DEBERTA and case.head in ("sequence-classification", "multiple-choice")
    return ["none", "right"] if case.family in DECODERS or of_text else ["none", "right", "left", "anywhere"]


def real_tokens(case: Case) -> Tensor | None:
    """Which are compared, [rows, length]; None for all."""
    mask = case.batch.get("attention_mask")
    return None if mask is None or case.family != DEBERTA else mask.view(-1, mask.shape[-1]) == 1


def _reads_last(case: Case) -> bool:
    """Whether transformers finds a text's last token by the padding's id, which then must be that of all padding."""
    return case.family in DECODERS and case.head == "sequence-classification"


def _position_ids(case: Case, shape: tuple[int, ...]) -> Tensor:
    """Any rows of the table; for a decoder a run of them: where rows jump, transformers takes them for another text."""
    rows = case.config.max_position_embeddings
    if case.family not in DECODERS:
        return torch.randint(rows, shape, generator=case.random)
    start = int(torch.randint(rows - shape[-1] + 1, (), generator=case.random))
    return torch.arange(start, start + shape[-1]).expand(shape).contiguous()


def _choose_global_tokens(draw: st.DrawFn, case: Case, shape: tuple[int, ...]) -> None:
    """A drawn mask, or none: then the texts get the three separators that transformers' own choice asks for."""
    by_separator = case.head in ("question-answering", "multiple-choice")
    if draw(st.booleans()) or (by_separator and shape[-1] < 4):
        share = draw(st.sampled_from([0.0, 0.05, 0.3, 1.0]))
        case.global_mask = torch.rand(shape, generator=case.random) < share
    elif by_separator:
        ids = case.batch["input_ids"]
        other = 3 if case.config.pad_token_id != 3 else 4
        ids[ids == SEPARATOR] = other
        for row in ids.view(-1, shape[-1]):
            first = int(torch.randint(shape[-1] - 2, (), generator=case.random))
            last = int(torch.randint(first + 2, shape[-1], (), generator=case.random))
            row[[first, first + 1, last]] = SEPARATOR


def _needs_ids(case: Case) -> bool:
    """transformers' Longformer chooses global tokens by ids alone, and positions of given states run past the table.

    So does a decoder that scores a text's last token.
    """
    if _reads_last(case) and "attention_mask" in case.batch:
        return True
    return case.family == "longformer" and (case.global_mask is None or "position_ids" not in case.batch)


def _labels(draw: st.DrawFn, case: Case, shape: tuple[int, ...]) -> Any:
    config, rows = case.config, shape[:1]
    match case.head:
        case None:
            return None
        case "masked-lm":
            return _classes(case, shape, config.vocab_size)
        case "causal-lm":
            # None for one token, which has no next one; else the second token, which comes after the first, counts.
            labels = _classes(case, shape, config.vocab_size)
            labels.view(-1)[1:2] %= config.vocab_size
            return labels if shape[-1] > 1 else None
        case "pre-training":
            return _classes(case, shape, config.vocab_size), _classes(case, rows, 2)
        case "replaced-token":
            # transformers knows no label that is ignored here, and leaves padding out by itself.
            return torch.randint(2, shape, generator=case.random)
        case "next-sentence":
            return _classes(case, rows, 2)
        case "token-classification":
            return _classes(case, shape, config.num_labels)
        case "multiple-choice":
            return _classes(case, rows, shape[1])
        case "question-answering":
            places = torch.randint(-1, shape[-1] + 3, (*rows, 2), generator=case.random)
            places[0] %= shape[-1]
            return places
        case _:
            return _sequence_labels(draw, case, rows)


def _classes(case: Case, shape: tuple[int, ...], count: int) -> Tensor:
    """Labels, about a third of them ignored, but not the first: the mean over none is NaN on both sides."""
    labels = torch.randint(count, shape, generator=case.random)
    left_out = torch.rand(shape, generator=case.random) < 0.3
    left_out.view(-1)[0] = False
    real = real_tokens(case)
    if real is not None and shape == real.shape:
        left_out = left_out & (real.cumsum(1) > 1) | ~real
    return labels.masked_fill(left_out, IGNORED)


def _sequence_labels(draw: st.DrawFn, case: Case, rows: tuple[int, ...]) -> Tensor:
    count, problem = case.config.num_labels, case.config.problem_type
    if problem is None:
        problem = "regression" if count == 1 else draw(st.sampled_from(PROBLEMS[1:]))
    if problem == "single_label_classification":
        return _classes(case, rows, count)
    shape = rows if problem == "regression" and count == 1 and draw(st.booleans()) else (*rows, count)
    numbers = torch.randn(shape, generator=case.random, dtype=torch.float64)
    return numbers if problem == "regression" else (numbers > 0).double()
