"""Tiny models of every family with trained tokenizers, to be trimmed."""

import functools
import json
from typing import Any

import tokenizers
import torch
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers

from gossamer.families import get_family
from gossamer.models import Model
from gossamer.text import Tokenizer, speeches, train_tokenizer
from gossamer.text.trimming.trimmable import _renumber

WORDS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
OTHER_WORDS = {
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64},
    "albert": {**WORDS, "embedding_size": 8},
    "electra": {**WORDS, "embedding_size": 8},
    "longformer": {**WORDS, "attention_window": [8, 8]},
    "deberta-v2": {
        **WORDS,
        "relative_attention": True,
        "pos_att_type": "c2p|p2c",
        "position_buckets": 8,
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
    },
}
TOKENIZERS = {"distilbert": "bert", "electra": "bert", "longformer": "roberta", "modernbert": "bert"}
"""Whose tokenizer a family has that has none of its own here."""
LENGTH = 64
BERTS = ("max_position_embeddings", "pad_token_id")


@functools.cache
def texts() -> tuple[str, ...]:
    """Sentences of two speeches."""
    return tuple(text for one in speeches()[20:22] for text in one.text.split(". "))[:60]


@functools.cache
def trained(family: str) -> Tokenizer:
    """A tokenizer of a few hundred tokens as the family has it."""
    lines = [one.text[:20_000] for one in speeches()[20:24]]
    family = TOKENIZERS.get(family, family)
    if family == "llama":
        return _like_llama(lines)
    tokenizer = train_tokenizer(lines, family=family, vocabulary_size=900, max_length=LENGTH)
    return _with_special_last(tokenizer) if family in ("bert", "gpt2") else tokenizer


def _with_special_last(tokenizer: Tokenizer) -> Tokenizer:
    """As GPT-2's is published; those that are trained here have special tokens first, whose ids trimming leaves."""
    data = json.loads(tokenizer._backend.to_str())
    special = [token["content"] for token in data["added_tokens"]]
    old = data["model"]["vocab"]
    new = {token: i for i, token in enumerate([*(one for one in old if one not in special), *special])}
    changed = {old[token]: number for token, number in new.items()}
    data["model"]["vocab"] = new
    data["added_tokens"] = [{**token, "id": new[token["content"]]} for token in data["added_tokens"]]
    data["post_processor"] = _renumber(data["post_processor"], changed.__getitem__)
    return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(data)), tokenizer._settings)


def tiny(family: str, head: str | None = None, *, tied: bool = True, filling: int = 0, **more: Any) -> Model:
    """A model whose weights are nowhere trivial; `filling` rows of its tables have no token."""
    tokenizer = trained(family)
    rows = tokenizer.vocabulary_size + filling
    positions = LENGTH + (tokenizer.pad_id + 1 if family in KIN else 0)
    config: dict[str, Any] = {"vocab_size": rows, "max_position_embeddings": positions, "tie_word_embeddings": tied}
    config |= {"pad_token_id": tokenizer.pad_id} | OTHER_WORDS.get(family, WORDS) | more
    if family == "gpt2":
        config = {name: value for name, value in config.items() if name not in BERTS}
    torch.manual_seed(0)
    model = Model(get_family(family).read(config, head=head), family=family, tokenizer=tokenizer).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    roles = {role: tokenizer.token_id(name) for role, name in tokenizer._settings.items() if _is_role(role, name)}
    model.extra_config = {f"{role}_id": number for role, number in roles.items() if role != "pad_token"}
    return model


def of_words(*words: str) -> Model:
    """A masked LM whose vocabulary is special tokens, small letters, as words begin and go on, and these words."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *words]
    backend = tokenizers.Tokenizer(models.WordPiece({one: i for i, one in enumerate(tokens)}, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    model = tiny("bert", "masked-lm", vocab_size=len(tokens), pad_token_id=0)
    model.tokenizer, model.extra_config = Tokenizer(backend, {"model_max_length": LENGTH}), {}
    return model


SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
KIN = ("roberta", "xlm-roberta", "camembert", "longformer")
"""Families that count positions from padding."""


def _is_role(role: str, name: object) -> bool:
    return role in ("bos_token", "eos_token", "pad_token", "cls_token", "sep_token") and isinstance(name, str)


def _like_llama(lines: list[str]) -> Tokenizer:
    """Llama 2's form: a mark for spaces, merges of characters, and bytes for what is none."""
    special = ["<unk>", "<s>", "</s>"]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    backend = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=[*special, *bytes_], show_progress=False)
    backend.train_from_iterator((word for line in lines for word in line.split()), trainer)
    data = json.loads(backend.to_str()) | {"added_tokens": []}
    backend = tokenizers.Tokenizer.from_str(json.dumps(data))
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    roles = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": ["input_ids", "attention_mask"]}
    return Tokenizer(backend, {**roles, **names, "model_max_length": LENGTH})
