"""A Gossamer model as a module of sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sentence_transformers.base.modules import InputModule
from sentence_transformers.util import load_dir_path
from torch import Tensor

from gossamer.checkpoints import load, save
from gossamer.errors import InputError
from gossamer.models import Model, SentenceEmbedding

__all__ = ["GossamerModule"]


class GossamerModule(InputModule):
    """`SentenceTransformer(modules=[GossamerModule(model)])`: any Gossamer encoder, lengthened and pruned ones too.

    model: one with the head "embed", or with none, which then needs a `Pooling` behind it; or its name. It is saved and
    loaded by Gossamer, in the folder of its module. A prompt goes before each text and is pooled with it.
    """

    save_in_root = False

    def __init__(self, model: Model | str | Path) -> None:
        super().__init__()
        self.model = model if isinstance(model, Model) else load(model)
        head = self.model.architecture.head
        if self.model.decoder is not None or not (head is None or isinstance(head, SentenceEmbedding)):
            raise InputError("the model's head gives no vectors; load it with head='embed' or head='none'")
        if self.model.tokenizer is None:
            raise InputError("the model has no tokenizer, without which no text is read; load it with one")
        self._head = head

    @property
    def tokenizer(self) -> Any:  # type: ignore[override]
        """The model's."""
        return self.model.tokenizer

    @property
    def max_seq_length(self) -> int:
        """Tokens that are read at once; longer texts are cut."""
        return self.model.reading_length()

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        self.model.tokenizer = self.model.tokenizer.with_max_length(self.model.reading_length(value))

    def get_embedding_dimension(self) -> int:
        """How many numbers a vector has."""
        size = self.model.architecture.output_size
        return size if self._head is None else self._head.vector_size(size)

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **options: Any) -> dict[str, Tensor]:
        """Texts, or pairs of them, as the model's tensors [batch, length]."""
        pairs = [one if isinstance(one, tuple | list) else (one, None) for one in inputs]
        firsts = [f"{prompt or ''}{first}" for first, _ in pairs]
        seconds = [second for _, second in pairs]
        most = self.model.reading_length()
        return dict(self.tokenizer(firsts, seconds if None not in seconds else None, max_length=most))

    def forward(self, features: dict[str, Tensor], **options: Any) -> dict[str, Tensor]:
        """Adds `token_embeddings` [batch, length, size], and of a head "embed" `sentence_embedding` [batch, size]."""
        names = ("input_ids", "attention_mask", "token_type_ids")
        out = self.model(**{name: features[name] for name in names if name in features})
        features["token_embeddings"] = out.last_hidden_state
        if self._head is not None:
            features["sentence_embedding"] = out.pooled
        return features

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **options: Any) -> None:
        """By `gossamer.save`."""
        save(self.model, output_path)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **options: Any) -> GossamerModule:  # type: ignore[override]
        """By `gossamer.load`, from the module's folder in a directory or on the hub."""
        known = {
            name: options[name] for name in ("token", "cache_folder", "revision", "local_files_only") if name in options
        }
        folder = load_dir_path(model_name_or_path, subfolder, **known)
        if folder is None:
            raise InputError(f"{model_name_or_path}: there is no folder {subfolder!r}; save the model again")
        return cls(load(folder))
