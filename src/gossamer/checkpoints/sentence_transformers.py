"""The files sentence-transformers keeps beside a checkpoint: where the encoder lies and how one vector is made."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossamer.checkpoints.files import check_inside, is_there, read_json
from gossamer.errors import InputError, quote
from gossamer.models.head_settings import Pooling, SentenceEmbedding

__all__ = ["SentenceFiles", "find_encoder", "read_sentence_files", "write_sentence_files"]

_POOLING: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
}
_NONE = "load the encoder alone with head='none'"
_SETTINGS = [f"sentence_{one}_config.json" for one in ("bert", "roberta", "xlm-roberta", "camembert", "distilbert")]
_SETTINGS += ["sentence_albert_config.json"]


@dataclass(frozen=True)
class SentenceFiles:
    """What the files say: where the encoder lies, how one vector is made, how many tokens a text may have at most.

    `lowers` names the file that asks for small letters before the tokenizer.
    """

    encoder: Path
    head: SentenceEmbedding
    longest: int | None = None
    settings: Path | None = None
    lowers: bool = False


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
        if is_there(directory / "1_Pooling"):
            raise InputError(
                f"{path}: no such file, but there is 1_Pooling; restore it, or say how vectors are made, "
                f"head=gossamer.models.SentenceEmbedding(...), or {_NONE}"
            )
        return None
    modules = read_json(path, list)
    kinds = [_kind(one, path) for one in modules]
    if kinds not in (["Transformer"], ["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise InputError(
            f"{path}: its modules are {quote(kinds)}; Gossamer reads Transformer, Pooling, Normalize: {_NONE}"
        )
    encoder = check_inside(directory, modules[0].get("path", ""), path)
    head = SentenceEmbedding()
    if len(kinds) > 1:
        pooling = _read_pooling(check_inside(directory, modules[1].get("path", ""), path) / "config.json")
        head = SentenceEmbedding(pooling=pooling, normalized=kinds[-1] == "Normalize")
    settings = next((encoder / one for one in _SETTINGS if is_there(encoder / one)), None)
    if settings is None:
        return SentenceFiles(encoder, head)
    longest, lowers = _read_settings(settings)
    return SentenceFiles(encoder, head, longest, settings, lowers)


def _read_settings(path: Path) -> tuple[int | None, bool]:
    config = read_json(path)
    longest, lowers = config.get("max_seq_length"), config.get("do_lower_case", False)
    if longest is not None and (type(longest) is not int or longest < 1):
        raise InputError(f"{path}: max_seq_length is {quote(longest)}; it must be a whole number from 1, or null")
    if not isinstance(lowers, bool):
        raise InputError(f"{path}: do_lower_case is {quote(lowers)}; it must be true or false")
    return longest, lowers


def write_sentence_files(directory: Path, head: SentenceEmbedding, size: int, length: int) -> None:
    """Write the files that make sentence-transformers read `directory` as the same embedding model."""
    kinds = ["Transformer", "Pooling", *(["Normalize"] if head.normalized else [])]
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": "" if i == 0 else f"{i}_{kind}",
            "type": f"sentence_transformers.models.{kind}",
        }
        for i, kind in enumerate(kinds)
    ]
    pooling = {name: mode == head.pooling for name, mode in _POOLING.items()}
    _write(directory / "modules.json", modules)
    _write(directory / "sentence_bert_config.json", {"max_seq_length": length, "do_lower_case": False})
    (directory / "1_Pooling").mkdir()
    _write(directory / "1_Pooling" / "config.json", {"word_embedding_dimension": size, **pooling})


def _write(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def _kind(module: Any, path: Path) -> str:
    kind = module.get("type") if isinstance(module, dict) else None
    if not isinstance(kind, str):
        raise InputError(f"{path}: a module is {quote(module)}; it must be an object with a type")
    return kind.rpartition(".")[2]


def _read_pooling(path: Path) -> Pooling:
    config = read_json(path)
    named = config.get("pooling_mode")
    if isinstance(named, str):
        modes = [named]
    else:
        modes = [name for name, value in config.items() if name.startswith("pooling_mode_") and value is True]
        modes = [_POOLING.get(name, name) for name in modes]
    if len(modes) != 1 or modes[0] not in _POOLING.values():
        raise InputError(f"{path}: pools by {quote(modes)}; Gossamer has mean, cls and max, one of them: {_NONE}")
    return modes[0]  # type: ignore[return-value]
