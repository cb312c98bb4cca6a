"""A model directory, opened: what its files say is read and checked once, before any tensor is."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from gossamer.checkpoints.dense import DenseWeights, check_sizes
from gossamer.checkpoints.files import GENERATION, is_there, naming, read_json
from gossamer.checkpoints.hub import find_checkpoint
from gossamer.checkpoints.samples import sample_source
from gossamer.checkpoints.seal import check_seal
from gossamer.checkpoints.sentence_transformers import SentenceFiles, find_encoder, read_sentence_files
from gossamer.checkpoints.weights import WeightFiles, open_weights
from gossamer.errors import InputError, quote
from gossamer.families import Family, get_family
from gossamer.models.architecture import Architecture
from gossamer.models.heads import Head, SentenceEmbedding
from gossamer.text import Tokenizer, has_vocabulary_files

__all__ = ["Checkpoint", "open_checkpoint"]

_WRITTEN_ANEW = {"architectures", "model_type", "dtype", "torch_dtype", "transformers_version"}


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What the files of a model say, and its tensors by name.

    directory: what was named; `encoder` is the folder of config.json and the weights, the same one or one inside it.
    source: a name to cite. family: the format, with weight sets numbered as this file numbers them. names: each
    tensor's name in the file, by its canonical one. sentence: what sentence-transformers' files say, where they count.
    """

    directory: Path
    encoder: Path
    source: str
    config: Mapping[str, Any]
    family: Family
    architecture: Architecture
    weights: WeightFiles
    names: Mapping[str, str]
    sentence: SentenceFiles | None

    @property
    def config_path(self) -> Path:
        """The file that `config` was read from."""
        return self.encoder / "config.json"

    def candidates(self, ours: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """The canonical names under which the format may hold each of our tensors."""
        return self.family.names(ours, self.architecture)

    def holds(self, canonical: Iterable[str]) -> bool:
        """Whether the file has a tensor of one of these names."""
        return any(name in self.names for name in canonical)

    def shape(self, canonical: str) -> tuple[int, ...]:
        """The shape of the tensor of this name, which must be there."""
        return tuple(self.weights.shapes[self.names[canonical]])

    def read(self, canonical: str) -> Tensor:
        """The tensor of this name, which must be there."""
        return self.weights.read(self.names[canonical])

    def extra_config(self) -> dict[str, Any]:
        """Settings of config.json that have no meaning here, kept for saving."""
        known = self.family.held(self.architecture) | set(self.family.write(self.architecture)) | _WRITTEN_ANEW
        extra = {name: value for name, value in self.config.items() if name not in known}
        return _check_writable(self.config_path, extra)

    def generation_config(self) -> dict[str, Any]:
        """The fields of generation_config.json; none where there is no such file."""
        path = self.encoder / GENERATION
        return _check_writable(path, read_json(path)) if is_there(path) else {}

    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer beside the weights or above them, for no more tokens than model and sentence files allow."""
        family = self.config.get("model_type")
        folders = (self.encoder, self.directory)
        homes = (
            folder for folder in folders if is_there(folder / "tokenizer.json") or has_vocabulary_files(folder, family)
        )
        home = next(homes, None)
        if home is None:
            return None
        tokenizer = Tokenizer.load(home, family, rows=self.architecture.embeddings.vocabulary_size)
        longest, named = self.architecture.length, self.config_path
        if self.sentence is not None and self.sentence.settings is not None:
            _check_letters(tokenizer, self.sentence)
            if self.sentence.longest is not None and self.sentence.longest < longest:
                longest, named = self.sentence.longest, self.sentence.settings
        if tokenizer.max_length is not None and tokenizer.max_length <= longest:
            return tokenizer
        with naming(f"{named}: allows {longest} tokens"):
            return tokenizer.with_max_length(longest)


def open_checkpoint(path_or_hub_id: str | Path, head: str | Head | None, revision: str | None = None) -> Checkpoint:
    """Find a model's directory, and read and check what describes it; `head` is that of `gossamer.load`.

    Raises InputError for what is missing, damaged, contradictory or unknown.
    """
    directory = find_checkpoint(path_or_hub_id, revision)
    check_seal(directory)
    sentence = read_sentence_files(directory) if head is None or head == "embed" else None
    encoder = find_encoder(directory) if sentence is None else sentence.encoder
    _refuse_adapter(encoder)
    path = encoder / "config.json"
    config = read_json(path)
    if sentence is not None and sentence.activation is not None:  # the newest place for it, which wins
        config["sentence_transformers"] = {"activation_fn": sentence.activation}
    with naming(path):
        _refuse_quantized(config)
        classes = _architectures(config)
        family = get_family(config.get("model_type"), classes)
        family.check_whole(classes)
        head = _embedding(sentence, head) or head or family.head_of(classes)
    weights = open_weights(encoder)
    dense = () if sentence is None else sentence.dense
    for i, module in enumerate(dense):
        weights.add(DenseWeights(module, i))
    names = _canonical_names(weights, family)
    with naming(path):
        architecture = _architecture(family, config, head, names)
        family = family.numbered_by(config)
    check_sizes(dense, architecture.hidden_size)
    return Checkpoint(
        directory=directory,
        encoder=encoder,
        source=_source(path_or_hub_id),
        config=config,
        family=family,
        architecture=architecture,
        weights=weights,
        names=names,
        sentence=sentence,
    )


def _refuse_adapter(encoder: Path) -> None:
    """An adapter beside the weights changes what they give, and transformers adds it without being asked."""
    path = encoder / "adapter_config.json"
    if is_there(path):
        raise InputError(
            f"{path}: the directory holds an adapter; Gossamer reads whole models: merge it first (in peft, "
            "merge_and_unload), or remove its files to read the model without it"
        )


def _refuse_quantized(config: Mapping[str, Any]) -> None:
    settings = config.get("quantization_config")
    if settings is not None:
        raise InputError(
            f"quantization_config is {quote(settings)}; Gossamer reads plain floating-point weights: dequantize the "
            "model"
        )


def _architectures(config: Mapping[str, Any]) -> list[str]:
    names = config.get("architectures") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"architectures is {quote(names)}; it must be a list of names")
    return names


def _embedding(sentence: SentenceFiles | None, head: str | Head | None) -> SentenceEmbedding | None:
    """How vectors are made, by sentence-transformers' files, else the plain way where they are asked for."""
    described = sentence.head if sentence else None
    return SentenceEmbedding() if described is None and head == "embed" else described


def _canonical_names(weights: WeightFiles, family: Family) -> dict[str, str]:
    """Each tensor's name without prefix, to its name in the file."""
    names: dict[str, str] = {}
    for name in weights.shapes:
        canonical = family.canonical(name)
        if canonical in names:
            raise InputError(
                f"{weights.where}: tensors {names[canonical]!r} and {name!r} are the same one; keep one of them"
            )
        names[canonical] = name
    return names


def _architecture(
    family: Family, config: Mapping[str, Any], head: str | Head | None, names: Iterable[str]
) -> Architecture:
    """The config's architecture, with a pooler where the file has one and the head leaves it in place."""
    wanted = None if head == "none" else head
    if isinstance(wanted, Head) and not family.has_head(wanted):
        raise InputError(f"head is {wanted.kind!r}; {family.model_type!r} has {', '.join(family.heads)}, embed")
    has_place = "pooler" in family.keys and (wanted is None or isinstance(wanted, SentenceEmbedding))
    pooler = has_place and any(name.startswith("pooler.") for name in names)
    architecture = family.read(config, head=wanted, pooler=pooler)
    return dataclasses.replace(architecture, head=None) if head == "none" else architecture


def _check_writable(path: Path, fields: dict[str, Any]) -> dict[str, Any]:
    """Fields that are kept for saving; InputError for one that could not be written again."""
    for name, value in fields.items():
        try:
            json.dumps(value, allow_nan=False)
        except (ValueError, RecursionError):
            shown = (
                str(value).replace("nan", "NaN").replace("inf", "Infinity") if type(value) is float else quote(value)
            )
            raise InputError(
                f"{path}: field {quote(name)} is {shown}, which JSON does not have; set it to a number or null"
            ) from None
    return fields


def _check_letters(tokenizer: Tokenizer, sentence: SentenceFiles) -> None:
    if sentence.lowers and tokenizer.encode_plain("ABC")[0] != tokenizer.encode_plain("abc")[0]:
        raise InputError(
            f"{sentence.settings}: do_lower_case is true, but the tokenizer tells capital letters; give it the "
            "normalizer 'Lowercase' in tokenizer.json"
        )


def _source(path_or_hub_id: str | Path) -> str:
    """A name to cite: the hub's id, or the directory's own name; never a path of this machine."""
    path = Path(path_or_hub_id).expanduser()
    if not path.exists():
        return sample_source(str(path_or_hub_id)) or str(path_or_hub_id)
    path = path.resolve()
    if path.parent.name == "snapshots" and path.parents[1].name.startswith("models--"):  # the hub's own cache
        return path.parents[1].name.removeprefix("models--").replace("--", "/", 1)
    return path.name
