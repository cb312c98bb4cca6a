"""The files sentence-transformers keeps beside a checkpoint: where the encoder lies and how one vector is made."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from gossamer.checkpoints.dense import DenseFiles, read_dense, write_dense
from gossamer.checkpoints.files import check_inside, is_there, naming, read_json, tell_unread, write_json
from gossamer.errors import InputError, quote
from gossamer.models.heads import Pooling, SentenceEmbedding

__all__ = ["SentenceFiles", "find_encoder", "read_sentence_files", "write_sentence_files"]

_POOLING: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
}
_MODULES = re.compile(r"Transformer( Pooling( Dense)*( Normalize)?)?")
_NONE = "load the encoder alone with head='none'"
_OF_ALL = "config_sentence_transformers.json"
_HEAD_FIELDS = ("prompts", "default_prompt_name", "truncate_dim", "similarity_fn_name")
# What says nothing about vectors: versions, the classes' own bookkeeping, and speed.
_SILENT = {
    *("__version__", "model_type", "requirements", "activation_fn", "keep_in_fp32_modules"),
    *("max_seq_length", "do_lower_case", "transformer_task", "modality_config", "module_output_name", "unpad_inputs"),
}
_SETTINGS = [f"sentence_{one}_config.json" for one in ("bert", "roberta", "xlm-roberta", "camembert", "distilbert")]
_SETTINGS += ["sentence_albert_config.json"]


@dataclass(frozen=True)
class SentenceFiles:
    """What the files say: where the encoder lies, how one vector is made, how many tokens a text may have at most.

    `head` is None for a cross-encoder, whose head is that of its config.json; `activation` is what it makes of its
    scores, by the name of a class. `lowers`: `settings` asks for small
    letters before the tokenizer. dense: the folders of the head's maps.
    """

    encoder: Path
    head: SentenceEmbedding | None
    longest: int | None = None
    settings: Path | None = None
    lowers: bool = False
    activation: Any = None
    dense: tuple[DenseFiles, ...] = ()


def find_encoder(directory: Path) -> Path:
    """The encoder's directory, of modules.json if that names one and this directory has no model of its own.

    What else modules.json says, or that it is damaged, does not matter to the encoder alone.
    """
    path = directory / "modules.json"
    try:
        modules = read_json(path, list) if is_there(path) else []
        if modules and _kind(modules[0], path) == "Transformer":
            return check_inside(directory, modules[0].get("path", ""), path)
    except InputError:
        if not is_there(directory / "config.json"):
            raise
    return directory


def read_sentence_files(directory: Path) -> SentenceFiles | None:
    """What modules.json and the files it leads to describe; None where there is none.

    Raises InputError for a module, a pooling mode or a setting that Gossamer does not have, and where the other files
    are there without modules.json.
    """
    path = directory / "modules.json"
    if not is_there(path):
        for name in ("1_Pooling", _OF_ALL):
            if is_there(directory / name) and (name != _OF_ALL or _read_of_all(directory) != SentenceEmbedding()):
                raise InputError(
                    f"{path}: no such file, but there is {name}; restore it, or say how vectors are made, "
                    f"head=gossamer.models.SentenceEmbedding(...), or {_NONE}"
                )
        return None
    modules = read_json(path, list)
    kinds = [_kind(module, path) for module in modules]
    head = _read_of_all(directory)
    if not _MODULES.fullmatch(" ".join(kinds)) or (head is None and "Dense" in kinds):
        raise InputError(
            f"{path}: its modules are {quote(kinds)}; Gossamer reads Transformer, Pooling, Normalize, in this order, "
            f"with Dense ones before Normalize: {_NONE}"
        )
    encoder, *others = (check_inside(directory, module.get("path", ""), path) for module in modules)
    activation = read_json(directory / _OF_ALL).get("activation_fn") if head is None else None
    dense = tuple(read_dense(folder) for kind, folder in zip(kinds[1:], others, strict=True) if kind == "Dense")
    if head is not None and others:
        pooled = _read_pooling(others[0] / "config.json")
        layers = tuple(module.layer for module in dense)
        head = replace(head, normalized=kinds[-1] == "Normalize", dense=layers, **pooled)
    settings = next((encoder / name for name in _SETTINGS if is_there(encoder / name)), None)
    if settings is None:
        return SentenceFiles(encoder, head, activation=activation, dense=dense)
    longest, lowers = _read_settings(settings)
    return SentenceFiles(encoder, head, longest, settings, lowers, activation, dense)


def _read_of_all(directory: Path) -> SentenceEmbedding | None:
    """What belongs to all vectors of a model: prompts, size, comparison; None for a cross-encoder."""
    path = directory / _OF_ALL
    config = read_json(path) if is_there(path) else {}
    kind = config.get("model_type", "SentenceTransformer")
    if kind not in ("SentenceTransformer", "CrossEncoder"):
        raise InputError(
            f"{path}: model_type is {quote(kind)}; Gossamer reads SentenceTransformer and CrossEncoder: {_NONE}"
        )
    tell_unread(path, config, {*_SILENT, *_HEAD_FIELDS})
    if kind == "CrossEncoder":
        return None
    fields = {name: config[name] for name in _HEAD_FIELDS if config.get(name) is not None}
    if isinstance(fields.get("prompts"), dict):  # null: a name that the class keeps free
        fields["prompts"] = {name: "" if text is None else text for name, text in fields["prompts"].items()}
    with naming(path):
        return SentenceEmbedding(**fields)


def _read_settings(path: Path) -> tuple[int | None, bool]:
    config = read_json(path)
    longest, lowers = config.get("max_seq_length"), config.get("do_lower_case", False)
    if longest is not None and (type(longest) is not int or longest < 1):
        raise InputError(f"{path}: max_seq_length is {quote(longest)}; it must be a whole number from 1, or null")
    if not isinstance(lowers, bool):
        raise InputError(f"{path}: do_lower_case is {quote(lowers)}; it must be true or false")
    tell_unread(path, config, _SILENT)
    return longest, lowers


def write_sentence_files(
    directory: Path, head: SentenceEmbedding, size: int, length: int, tensors: Mapping[str, Tensor]
) -> list[Path]:
    """Write the files that make sentence-transformers read `directory`, whose weights are there, as the same model.

    size: that of the states; tensors: those of the head's maps. Gives the files that these are in.
    """
    dense = ["Dense"] * len(head.dense)
    kinds = ["Transformer", "Pooling", *dense, *(["Normalize"] if head.normalized else [])]
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": "" if i == 0 else _folder(i, kind),
            "type": f"sentence_transformers.models.{kind}",
        }
        for i, kind in enumerate(kinds)
    ]
    pooling = {name: mode == head.pooling for name, mode in _POOLING.items()}
    of_all = {"model_type": "SentenceTransformer", **{name: getattr(head, name) for name in _HEAD_FIELDS}}
    of_all["prompts"] = dict(head.prompts)
    write_json(directory / "modules.json", modules)
    write_json(directory / "sentence_bert_config.json", {"max_seq_length": length, "do_lower_case": False})
    (directory / "1_Pooling").mkdir()
    pooling["include_prompt"] = head.include_prompt
    write_json(directory / "1_Pooling" / "config.json", {"word_embedding_dimension": size, **pooling})
    write_json(directory / _OF_ALL, of_all)
    folders = [directory / _folder(i, kind) for i, kind in enumerate(kinds) if kind == "Dense"]
    return write_dense(folders, head.dense, size, tensors, like=directory / "config.json")


def _folder(number: int, kind: str) -> str:
    return f"{number}_{kind}"


def _kind(module: Any, path: Path) -> str:
    kind = module.get("type") if isinstance(module, dict) else None
    if not isinstance(kind, str):
        raise InputError(f"{path}: a module is {quote(module)}; it must be an object with a type")
    return kind.rpartition(".")[2]


def _read_pooling(path: Path) -> dict[str, Any]:
    """`pooling` and `include_prompt` of a head."""
    config = read_json(path)
    named = config.get("pooling_mode")
    if isinstance(named, str):
        modes = [named]
    else:
        modes = [name for name, value in config.items() if name.startswith("pooling_mode_") and value is True]
        modes = [_POOLING.get(name, name) for name in modes]
    if len(modes) != 1 or modes[0] not in _POOLING.values():
        raise InputError(f"{path}: pools by {quote(modes)}; Gossamer has mean, cls and max, one of them: {_NONE}")
    include = config.get("include_prompt", True)
    if not isinstance(include, bool):
        raise InputError(f"{path}: include_prompt is {quote(include)}; it must be true or false")
    return {"pooling": modes[0], "include_prompt": include}
