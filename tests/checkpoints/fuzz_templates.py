"""Small whole checkpoints of every family, as other tools write them: the ground that the fuzz tests spoil."""

import contextlib
import io
import json
import os
import socket
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save
from torch import Tensor

import gossamer as gs
from gossamer.models import DenseLayer, Model, SentenceEmbedding

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "the", "##a", "##b", "##c", "##d"]
VOCABULARY = 16
IDS = torch.tensor([[2, 5, 6, 8, 3]])
TEXT = "a the bad cab"

SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 20,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
# Family: the class that transformers saves it as, settings of its own, how its weights are stored.
FAMILIES: dict[str, tuple[str, dict[str, Any], str]] = {
    "bert": ("BertForMaskedLM", SIZES, "safetensors"),
    "roberta": ("RobertaForSequenceClassification", SIZES | {"num_labels": 3}, "bin"),
    "xlm-roberta": ("XLMRobertaForTokenClassification", SIZES | {"num_labels": 3}, "sharded safetensors"),
    "camembert": ("CamembertForQuestionAnswering", SIZES, "old bin"),
    "distilbert": (
        "DistilBertForMaskedLM",
        {"vocab_size": VOCABULARY, "dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 12}
        | {"max_position_embeddings": 20, "pad_token_id": 0},
        "sharded bin",
    ),
    "albert": ("AlbertForPreTraining", SIZES | {"embedding_size": 4, "num_hidden_groups": 2}, "bin"),
    "electra": ("ElectraForPreTraining", SIZES | {"embedding_size": 4}, "old bin"),
    "longformer": ("LongformerForMaskedLM", SIZES | {"attention_window": [4, 8], "sep_token_id": 3}, "safetensors"),
    "gpt2": (
        "GPT2LMHeadModel",
        {"vocab_size": VOCABULARY, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_inner": 12, "n_positions": 20}
        | {"bos_token_id": 2, "eos_token_id": 3},
        "sharded safetensors",
    ),
    "llama": ("LlamaForCausalLM", SIZES | {"num_key_value_heads": 1}, "safetensors"),
    "modernbert": (
        "ModernBertForMaskedLM",
        SIZES | {"local_attention": 8, "global_attn_every_n_layers": 2, "cls_token_id": 2, "sep_token_id": 3},
        "sharded safetensors",
    ),
}
NAMES = (*FAMILIES, "sentence", "gossamer")

Files = dict[str, Any]
"""A checkpoint in memory: file name to bytes, to a file that is linked to, or to the word for what is no plain file."""


@dataclass(frozen=True)
class Template:
    """A sound checkpoint, and what it computes."""

    name: str
    files: Files
    model: Model
    outputs: dict[str, Tensor]


@cache
def template(name: str) -> Template:
    """The checkpoint of a family; "sentence" is a BERT with sentence-transformers' files."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place) / "model"
        if name in FAMILIES:
            from_transformers(name, directory, FAMILIES[name][2])
        else:
            base = template("bert").model
            head = SentenceEmbedding(dense=(DenseLayer(size=6),), normalized=True) if name == "sentence" else None
            write(template("bert").files, directory)
            gs.save(gs.load(directory, head=head) if head else base, directory, family="gossamer" if not head else None)
        (directory / "README.md").unlink(missing_ok=True)
        if name == "sentence":
            (directory / "gossamer.json").unlink()
        files = read(directory)
        model = gs.load(directory)
    return Template(name, files, model, outputs(model))


def outputs(model: Model) -> dict[str, Tensor]:
    """Everything that the model computes of a short input."""
    with torch.no_grad():
        out = model(IDS)
    found = {name: getattr(out, name) for name in ("last_hidden_state", "logits", "pair_logits", "pooled")}
    return {name: one for name, one in found.items() if one is not None}


def read(directory: Path) -> Files:
    return {str(one.relative_to(directory)): one.read_bytes() for one in sorted(directory.rglob("*")) if one.is_file()}


def write(files: Files, directory: Path) -> None:
    """Put files where `load` finds them; the odd ones are made as what they are named."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, Path):  # a large file that stays as it is
            path.symlink_to(content)
        else:
            make_odd(path, content)


def make_odd(path: Path, kind: str) -> None:
    """Something under a file's name that is no plain file."""

    match kind:
        case "directory":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "socket":
            with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as made:
                made.bind(path.name)  # a socket's path may have 107 bytes
        case "link to nowhere":
            path.symlink_to("not-there")
        case "link to itself":
            path.symlink_to(path.name)
        case "link to a directory":
            path.symlink_to("/")
        case device:
            path.symlink_to(device)


def from_transformers(name: str, directory: Path, storage: str) -> None:
    """A family's checkpoint as transformers saves it, its weights in one of the kinds of `store`."""
    kind, settings, _ = FAMILIES[name]
    config = transformers.AutoConfig.for_model(name, **settings)
    model = getattr(transformers, kind)(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    model.save_pretrained(directory)
    store(directory, storage)
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(WORDS[:5])
    (directory / "tokenizer.json").write_text(tokenizer.to_str(pretty=True))
    roles = {f"{one.strip('[]').lower()}_token": one for one in WORDS[:5]}
    (directory / "tokenizer_config.json").write_text(json.dumps({**roles, "model_max_length": 16}))
    (directory / "special_tokens_map.json").write_text(json.dumps(roles))


def store(directory: Path, storage: str) -> None:
    """Put model.safetensors into another kind of file."""
    if storage == "safetensors":
        return
    path = directory / "model.safetensors"
    tensors = load_file(path)
    path.unlink()
    kind = storage.split()[-1]
    single = "model.safetensors" if kind == "safetensors" else "pytorch_model.bin"
    if not storage.startswith("sharded"):
        (directory / single).write_bytes(serialised(tensors, storage))
        return
    stem, _, suffix = single.rpartition(".")
    shards = [f"{stem}-{i:05}-of-00002.{suffix}" for i in (1, 2)]
    weight_map = {name: shards[i % 2] for i, name in enumerate(tensors)}
    for shard in shards:
        held = {name: one for name, one in tensors.items() if weight_map[name] == shard}
        (directory / shard).write_bytes(serialised(held, kind))
    size = sum(one.numel() * one.element_size() for one in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (directory / f"{single}.index.json").write_text(json.dumps(index, indent=2))


def serialised(tensors: dict[str, Tensor], kind: str) -> bytes:
    """A weight file's content: "safetensors", "bin", or "old bin" as torch wrote it before 1.6."""
    if kind == "safetensors":
        return save(tensors, metadata={"format": "pt"})
    buffer = io.BytesIO()
    torch.save(tensors, buffer, _use_new_zipfile_serialization=kind == "bin")
    return buffer.getvalue()
