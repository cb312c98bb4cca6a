"""The files sentence-transformers keeps beside a checkpoint: where the encoder lies and how one vector is made."""

import json
from pathlib import Path
from typing import Any

from gossamer.checkpoints.files import check_inside, read_json
from gossamer.errors import InputError, quote
from gossamer.models.head_settings import Pooling, SentenceEmbedding

__all__ = ["read_sentence_files", "write_sentence_files"]

_POOLING: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
}
_NONE = "load the encoder alone with head='none'"


def read_sentence_files(directory: Path) -> tuple[Path, SentenceEmbedding] | None:
    """The encoder's directory and the embedding head that modules.json describes; None where there is none.

    Raises InputError for a module or a pooling mode that Gossamer does not have.
    """
    path = directory / "modules.json"
    if not path.exists():
        return None
    modules = read_json(path, list)
    kinds = [_kind(one, path) for one in modules]
    if kinds not in (["Transformer"], ["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise InputError(
            f"{path}: its modules are {quote(kinds)}; Gossamer reads Transformer, Pooling, Normalize: {_NONE}"
        )
    encoder = check_inside(directory, modules[0].get("path", ""), path)
    if len(kinds) == 1:
        return encoder, SentenceEmbedding()
    pooling = _read_pooling(check_inside(directory, modules[1].get("path", ""), path) / "config.json")
    return encoder, SentenceEmbedding(pooling=pooling, normalized=kinds[-1] == "Normalize")


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
