"""Saving: in a public format where one can hold the model, whole or not at all."""

import errno
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from gossamer import __version__
from gossamer.checkpoints.card import CARD, model_card
from gossamer.checkpoints.compressed import compress
from gossamer.checkpoints.files import GENERATION, reason
from gossamer.checkpoints.replace import replacing
from gossamer.checkpoints.seal import SEAL, is_as_sealed, seal
from gossamer.checkpoints.sentence_transformers import write_sentence_files
from gossamer.errors import GossamerError, InputError, quote, remark
from gossamer.families import Family, family_for, get_family
from gossamer.models.heads import SentenceEmbedding
from gossamer.models.model import Model
from gossamer.models.model_argument import check_model
from gossamer.regular_files import open_regular
from gossamer.text import Tokenizer
from gossamer.text.encoding import fingerprint

__all__ = ["is_model_file", "save"]

# What a model directory is made of; anything else in it is the user's and is kept.
_VOCABULARY = {
    *("source.spm", "target.spm"),
    *("special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt"),
    *("tokenizer.model", "spiece.model", "sentencepiece.bpe.model"),
}
_OURS = {
    *("config.json", CARD, "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"),
    *(GENERATION, SEAL, "model.safetensors", "model.safetensors.index.json"),
    *("pytorch_model.bin", "pytorch_model.bin.index.json", "tokenizer.json", "tokenizer_config.json"),
    "target_tokenizer.json",
    *("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"),
    *_VOCABULARY,
}
# Settings that name code files, which are not copied; what is written is read without them.
_OF_CODE = ("auto_map", "custom_pipelines")
_LONGEST_NAME = 255  # bytes, of one part of a path
_MODULE = re.compile(r"\d{1,2}_(Pooling|Dense|Normalize)")  # a folder of sentence-transformers
_SHARD = re.compile(r"(model|pytorch_model)-\d{5}-of-\d{5}\.(safetensors|bin)")


def save(model: Model, directory: str | Path, family: str | None = None) -> Path:
    """Write a model as a directory that `load` and, in a public format, `transformers` read; returns the directory.

    family: "bert", "longformer", "gossamer" ...; unless given the model's own format if that can hold it, else another
    public one, else "gossamer", where weights that are mostly 0 are written compressed. A model directory that is there
    is replaced in one step. Files in it that are no part of a model are kept; so are the vocabulary's own files, where
    they are those of this model's tokenizer, and a README.md that is not as Gossamer wrote it, which is told (a
    `gossamer.errors.Remark`). Raises InputError for a family that cannot hold the model (naming what differs) and for a
    directory that holds something else, GossamerError where writing fails; then the old model is there, untouched.
    """
    check_model(model)
    form = _family(model, family)
    target = _target(directory)
    try:
        with replacing(target) as new:
            _keep_others(model, target, new)
            _write(model, form, new)
    except (OSError, SafetensorError) as problem:
        left = "what was there is untouched" if target.exists() else "nothing was left behind"
        raise GossamerError(f"{target}: could not be saved ({reason(problem)}); {left}") from problem
    if not is_as_sealed(target, CARD):
        remark(f"{target / CARD}: kept, since Gossamer did not write it so; it says nothing of this model")
    return target


def _family(model: Model, name: str | None) -> Family:
    if name is None:
        return family_for(model.architecture, model.family)
    family = get_family(name)
    obstacles = family.obstacles(model.architecture)
    if obstacles:
        listed = "; ".join(obstacles[:4]) + (f"; and {len(obstacles) - 4} more" if len(obstacles) > 4 else "")
        raise InputError(f"family is {quote(name)}, which cannot hold this model: {listed}; leave family out")
    return family


def _target(directory: str | Path) -> Path:
    """The directory as a path; InputError for one that cannot be or must not be written."""
    if not isinstance(directory, str | Path) or str(directory) == "" or "\0" in str(directory):
        raise InputError(f"directory is {quote(directory)}; name a directory to save in")
    try:
        target = Path(directory).expanduser()
        if max(map(len, map(os.fsencode, target.parts)), default=0) > _LONGEST_NAME:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        is_directory, is_there = target.is_dir(), target.exists()
    except (OSError, RuntimeError, ValueError) as problem:
        raise InputError(f"directory is {quote(directory)} ({reason(problem)}); name another to save in") from None
    if is_there and not is_directory:
        raise InputError(f"{target}: is a file; name a directory to save in")
    if is_directory:
        _check_is_model(target)
    return target


def _check_is_model(target: Path) -> None:
    if not (target / "config.json").is_file() and any(target.iterdir()):
        raise InputError(f"{target}: holds files but no model (no config.json); name a new or empty directory")


def _keep_others(model: Model, target: Path, new: Path) -> None:
    if target.is_dir():
        top = os.fspath(target)
        kept = (_VOCABULARY if _has_tokenizer(target, model) else set()) | ({CARD} if _has_own_card(target) else set())
        shutil.copytree(
            target,
            new,
            symlinks=True,
            dirs_exist_ok=True,
            copy_function=_link_or_copy,
            ignore=lambda folder, names: {
                name for name in names if folder == top and is_model_file(name) and name not in kept
            },
        )


def _has_tokenizer(target: Path, model: Model) -> bool:
    """Whether the directory's tokenizer is the model's, so that its other files stay true."""
    try:
        return model.tokenizer is not None and fingerprint(Tokenizer.load(target)) == fingerprint(model.tokenizer)
    except InputError:
        return False


def _has_own_card(target: Path) -> bool:
    """Whether the directory has a card that is not as Gossamer wrote it."""
    if not (target / CARD).is_file():
        return False
    as_written = is_as_sealed(target, CARD)
    # Before the seal told of cards, a line of theirs did.
    if as_written is not None:
        return not as_written
    with open_regular(target / CARD) as file:
        return b"\ntags: [gossamer]\n" not in file.read(1000)


def is_model_file(name: str) -> bool:
    """Whether a file or folder at the top of a model's directory is replaced when another model is written there."""
    return name in _OURS or any(form.fullmatch(name) for form in (_MODULE, _SHARD))


def _link_or_copy(source: str, destination: str) -> None:
    try:
        os.link(source, destination, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, destination, follow_symlinks=False)


def _write(model: Model, family: Family, new: Path) -> None:
    head = model.architecture.head
    sentence = head if family.public and isinstance(head, SentenceEmbedding) else None
    tensors = _tensors(model, family)
    of_vectors = {name: tensors.pop(name) for name in list(tensors) if sentence and name.startswith("head.")}
    # No other tool could read those.
    tensors, compressed = (tensors, {}) if family.public else compress(tensors)
    save_file(tensors, new / "model.safetensors", metadata={"format": "pt", **compressed})
    config = json.dumps(_config(model, family), indent=2, sort_keys=True, allow_nan=False)
    (new / "config.json").write_text(config + "\n", encoding="utf-8")
    shutil.copymode(new / "config.json", new / "model.safetensors")  # which safetensors leaves to its owner alone
    if model.generation_config:
        text = json.dumps(model.generation_config, indent=2, sort_keys=True, allow_nan=False)
        (new / GENERATION).write_text(text + "\n", encoding="utf-8")
    if model.tokenizer is not None:
        model.tokenizer.save(new, types=model.architecture.embeddings.token_types > 1)
    others = []
    if sentence is not None:
        size, length = model.architecture.hidden_size, model.reading_length()
        others = write_sentence_files(new, sentence, size, length, of_vectors)
    is_new_card = not (new / CARD).exists()  # else it is the user's
    if is_new_card:
        (new / CARD).write_text(model_card(model, family), encoding="utf-8")
    seal(new, __version__, {CARD: is_new_card, **{path.relative_to(new).as_posix(): True for path in others}})


def _tensors(model: Model, family: Family) -> dict[str, Tensor]:
    ours = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    spoilt = [name for name, tensor in ours.items() if not torch.isfinite(tensor).all()]
    if spoilt:
        raise InputError(
            f"the model's tensor {spoilt[0]!r} holds NaN or infinity; nothing was saved: go back to sound weights"
        )
    words = model.embeddings.word.weight
    idle = {name: words.new_zeros(len(words), device="cpu") for name in family.idle_names(model.architecture)}
    # Copies of one tensor get memory of their own: safetensors stores no shared memory.
    return idle | {
        family.file_name(theirs, model.architecture): stored.join(ours)
        for theirs, stored in family.stored(ours, model.architecture).items()
    }


def _config(model: Model, family: Family) -> dict[str, Any]:
    architecture = model.architecture
    fields = {
        "architectures": [family.architecture_name(architecture)],
        "model_type": family.model_type,
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        **family.write(architecture),
    }
    extra = {name: value for name, value in model.extra_config.items() if _may_keep(name, value, family)}
    return {**{name: value for name, value in extra.items() if name not in fields}, **fields}


def _may_keep(name: str, value: Any, family: Family) -> bool:
    """Whether a setting that came along says in this format what it said in its own, or nothing."""
    if name in _OF_CODE or name in family.aliases:
        return False
    return name not in family.required or value in family.required[name]
