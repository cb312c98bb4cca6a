"""What a user of sentence-transformers types on the first day, under its names and with its results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.devices import find_device
from gossamer.errors import InputError, quote, remark
from gossamer.models.heads import SentenceEmbedding
from gossamer.models.model import Model
from gossamer.tasks.base import list_texts
from gossamer.tasks.names import checks_options
from gossamer.tasks.similarity import Vectors, compare_all, compare_pairs

if TYPE_CHECKING:
    from gossamer.tasks.embed import Embeddings

__all__ = ["SentenceMethods"]

Encoded = np.ndarray | Tensor | list[Tensor]


class SentenceMethods:
    """`encode` and its company, on a task that is called with texts and gives `Embeddings`."""

    model: Model
    head: SentenceEmbedding
    __call__: Callable[..., Embeddings]

    @checks_options
    def encode(
        self,
        sentences: str | Sequence[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        output_value: str = "sentence_embedding",
        precision: str = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: str | torch.device | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
    ) -> Encoded:
        """Vectors [texts, size] as sentence-transformers' `encode` gives them; of a single string [size].

        As there, a text longer than `max_seq_length` is cut, which a `gossamer.errors.Remark` tells; calling the task
        itself reads all of it. A numpy array, or with convert_to_tensor a tensor, or with neither a list of tensors.
        Raises InputError for another output_value, precision or device.
        """
        self._check_encode(output_value, precision, device)
        _check_switches(
            show_progress_bar=show_progress_bar or False, convert_to_numpy=convert_to_numpy,
            convert_to_tensor=convert_to_tensor, normalize_embeddings=normalize_embeddings,
        )  # fmt: skip
        texts = [] if isinstance(sentences, list | tuple) and not sentences else list_texts("sentences", sentences)
        with _bar(bool(show_progress_bar)) as progress:
            vectors = self._cut_and_embed(
                texts, prompt=prompt, prompt_name=prompt_name, batch_size=batch_size, progress=progress,
                normalize=True if normalize_embeddings else None, truncate_dim=truncate_dim,
            )  # fmt: skip
        result = vectors[0] if isinstance(sentences, str) else vectors
        if convert_to_tensor:
            return result.to(self.device)
        if convert_to_numpy:
            return result.numpy()
        return result if isinstance(sentences, str) else list(result)

    def encode_query(self, sentences: str | Sequence[str], **options: Any) -> Encoded:
        """`encode`, with the prompt called "query" where the model has one and no other is asked for."""
        return self.encode(sentences, **self.with_prompt(options, "query"))

    def encode_document(self, sentences: str | Sequence[str], **options: Any) -> Encoded:
        """`encode`, with the prompt called "document", "passage" or "corpus", the first that the model has."""
        return self.encode(sentences, **self.with_prompt(options, "document", "passage", "corpus"))

    def similarity(self, embeddings1: Vectors, embeddings2: Vectors) -> Float[Tensor, "rows others"]:
        """How alike each of the first vectors is to each of the second, by the model's `similarity_fn_name`."""
        return compare_all(self.head.similarity_fn_name, embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Vectors, embeddings2: Vectors) -> Float[Tensor, "rows"]:
        """How alike the first vectors are to the second ones, row by row."""
        return compare_pairs(self.head.similarity_fn_name, embeddings1, embeddings2)

    def get_sentence_embedding_dimension(self) -> int:
        """How many numbers a vector has."""
        size = self.head.vector_size(self.model.architecture.output_size)
        return min(size, self.head.truncate_dim or size)

    @property
    def similarity_fn_name(self) -> str:
        """How vectors are compared: cosine, dot, euclidean or manhattan."""
        return self.head.similarity_fn_name

    @property
    def prompts(self) -> dict[str, str]:
        """The texts that may be put before each text, by name."""
        return dict(self.head.prompts)

    @property
    def default_prompt_name(self) -> str | None:
        """The prompt that is put before texts unless another is asked for."""
        return self.head.default_prompt_name

    @property
    def device(self) -> torch.device:
        """Where the model lies; move it with `model.to`, or load it there."""
        return next(self.model.parameters()).device

    @property
    def max_seq_length(self) -> int:
        """How many tokens, special ones included, are read at once; setting it sets the tokenizer's limit.

        Raises InputError for more than the model has positions.
        """
        return self.model.reading_length()

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        length = self.model.reading_length(value)
        assert self.model.tokenizer is not None  # a task has one
        self.model.tokenizer = self.model.tokenizer.with_max_length(length)

    def _check_encode(self, output_value: str, precision: str, device: str | torch.device | None) -> None:
        if output_value != "sentence_embedding":
            raise InputError(
                f"output_value is {quote(output_value)}; encode gives 'sentence_embedding'; states of tokens are "
                "model(**model.tokenizer(text)).last_hidden_state"
            )
        if precision != "float32":
            raise InputError(f"precision is {quote(precision)}; Gossamer's encode gives 'float32'")
        where = find_device(device)
        if where is not None and where.type != self.device.type:
            raise InputError(
                f"device is {quote(str(device))}, but the model lies on {str(self.device)!r}; move it there first: "
                "model.to(device)"
            )

    def _cut_and_embed(self, texts: list[str], **options: Any) -> Float[Tensor, "texts size"]:
        if not texts:
            return torch.empty(0, self.get_sentence_embedding_dimension())
        embedded = self(texts, long="truncate", **options)
        most = self.max_seq_length
        cut = sum(": cut;" in note for note in embedded.notes)
        if cut:
            remark(
                f"{cut} of {len(texts)} texts were cut to {most} tokens, the model's max_seq_length, as "
                "sentence-transformers does; calling the task itself, embed(texts), reads all of them",
            )
        return embedded.vectors

    def with_prompt(self, options: dict[str, Any], *names: str) -> dict[str, Any]:
        """The options of `encode`, with the first of these prompts that there is, where they ask for none."""
        if options.get("prompt") is not None or options.get("prompt_name") is not None:
            return options
        return options | {"prompt_name": next((name for name in names if name in self.prompts), None)}


def _check_switches(**switches: object) -> None:
    for name, value in switches.items():
        if not isinstance(value, bool | np.bool_):
            raise InputError(f"{name} is {quote(value)}; it must be True or False")


@contextmanager
def _bar(is_shown: bool) -> Iterator[Callable[[int, int | None], None] | None]:
    if not is_shown:
        yield None
        return
    from rich.progress import Progress

    with Progress(transient=True) as bar:
        task = bar.add_task("embedding", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
