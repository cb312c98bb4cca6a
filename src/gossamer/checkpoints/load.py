"""Loading: config to architecture, shapes compared before anything is allocated, then the tensors."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gossamer.checkpoints.card import read_card
from gossamer.checkpoints.files import GENERATION, check_seal, is_there, list_some, read_json, reason
from gossamer.checkpoints.hub import find_checkpoint
from gossamer.checkpoints.matching import match_tensors
from gossamer.checkpoints.samples import sample_source
from gossamer.checkpoints.sentence_transformers import SentenceFiles, find_encoder, read_sentence_files
from gossamer.checkpoints.weights import WeightFiles, open_weights
from gossamer.errors import InputError, quote, remark
from gossamer.families import Family, get_family
from gossamer.models.architecture import Architecture
from gossamer.models.encoder import Model
from gossamer.models.heads import Head, SentenceEmbedding
from gossamer.models.initial import initialise
from gossamer.text import Tokenizer, has_vocabulary_files

__all__ = ["find_device", "load"]

_KINDS = ("none", *Head.kinds)
_WRITTEN_ANEW = {"architectures", "model_type", "dtype", "torch_dtype", "transformers_version"}
_LEAST_FILLED, _MOST_FILLING = 0.9, 128
_EVERY_LAYER = (
    *(("attention", part) for part in ("query", "key", "value", "output", "norm")),
    *(("feed_forward", part) for part in ("up", "down", "norm")),
)


def load(
    path_or_hub_id: str | Path,
    head: str | Head | None = None,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
) -> Model:
    """Read a checkpoint, a local directory or an id on the hub, into a model in evaluation mode.

    "sample:minilm" is the installed sample model.

    head: None reads it from the checkpoint (sentence-transformers' files: "embed"; config.json's `architectures`);
    "none" is the bare encoder; a kind of head ("masked-lm", "sequence-classification", ...; "embed" is mean pooling
    unless the files say else) is read from the file, which must have it; settings, such as
    `gossamer.models.SequenceClassification(labels=("no", "yes"))`, get fresh weights where the file has none for them,
    drawn from torch's generator: a head to be trained. dtype: "float32", "bfloat16", "float16", "float64" or torch's;
    the file's own unless given. Raises InputError, one line that names file and value, for anything missing, damaged,
    contradictory or unknown; pickled code is never run.
    """
    kind, where = _dtype(dtype), find_device(device)
    _check_head(head)
    directory = find_checkpoint(path_or_hub_id)
    check_seal(directory)
    sentence = read_sentence_files(directory) if head is None or head == "embed" else None
    encoder = find_encoder(directory) if sentence is None else sentence.encoder
    embed = sentence.head if sentence else None
    embed = SentenceEmbedding() if embed is None and head == "embed" else embed
    config_path = encoder / "config.json"
    _check_whole(encoder)
    config = read_json(config_path)
    if sentence is not None and sentence.activation is not None:  # the newest place for it, which wins
        config["sentence_transformers"] = {"activation_fn": sentence.activation}
    try:
        _check_unquantized(config)
        classes = _architectures(config)
        family = get_family(config.get("model_type"), classes)
        wanted = head or family.head_of(classes) if embed is None else embed
    except InputError as problem:
        raise InputError(f"{config_path}: {problem}") from None
    weights = open_weights(encoder)
    names = _canonical_names(weights, family)
    try:
        architecture = _architecture(family, config, wanted, names)
    except InputError as problem:
        raise InputError(f"{config_path}: {problem}") from None
    model = _build(architecture, family.numbered_by(config), weights, names, kind, head)
    model.tokenizer = _tokenizer(directory, encoder, architecture, sentence)
    model.notes += _vocabulary_notes(model) + _label_notes(config_path, config, architecture)
    known = family.held(architecture) | set(family.write(architecture)) | _WRITTEN_ANEW
    model.extra_config = _extra(config_path, {name: value for name, value in config.items() if name not in known})
    model.notes += _unread_notes(config_path, model.extra_config, family)
    generation = encoder / GENERATION
    model.generation_config = _extra(generation, read_json(generation)) if is_there(generation) else {}
    model.source, model.card = _source(path_or_hub_id), read_card(directory)
    for note in model.notes:
        remark(note)
    return model.to(where).eval() if where else model.eval()


def _check_head(head: object) -> None:
    if head is not None and head not in _KINDS and not isinstance(head, Head):
        raise InputError(
            f"head is {quote(head)}; it must be one of {', '.join(_KINDS)}, a head of gossamer.models, or None to read "
            "it from the files"
        )


def _check_whole(encoder: Path) -> None:
    """An adapter beside the weights changes what they give, and transformers adds it without being asked."""
    path = encoder / "adapter_config.json"
    if is_there(path):
        raise InputError(
            f"{path}: the directory holds an adapter; Gossamer reads whole models: merge it first (in peft, "
            "merge_and_unload), or remove its files to read the model without it"
        )


def _unread_notes(path: Path, extra: Mapping[str, Any], family: Family) -> list[str]:
    unread = [name for name, says_nothing in family.unread.items() if name in extra and not says_nothing(extra[name])]
    listed = ", ".join(f"{name} {quote(extra[name])}" for name in unread)
    return [f"{path}: {listed}: not followed, by transformers neither"] if unread else []


def _check_unquantized(config: Mapping[str, Any]) -> None:
    given = config.get("quantization_config")
    if given is not None:
        raise InputError(
            f"quantization_config is {quote(given)}; Gossamer reads plain floating-point weights: dequantize the model"
        )


def _architectures(config: Mapping[str, Any]) -> list[str]:
    names = config.get("architectures") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"architectures is {quote(names)}; it must be a list of names")
    return names


def _extra(path: Path, fields: dict[str, Any]) -> dict[str, Any]:
    """Fields of no meaning here, kept for saving; InputError for one that could not be written again."""
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


def _architecture(family: Family, config: Mapping[str, Any], head: Any, names: Mapping[str, str]) -> Architecture:
    """The config's architecture, with a pooler where the file has one and the head leaves it in place."""
    bare = None if head == "none" else head
    if isinstance(bare, Head) and not family.has_head(bare):
        raise InputError(f"head is {bare.kind!r}; {family.model_type!r} has {', '.join(family.heads)}, embed")
    has_place = bare is None or isinstance(bare, SentenceEmbedding)
    pooler = has_place and any(name.startswith("pooler.") for name in names)
    architecture = family.read(config, head=bare, pooler=pooler)
    return dataclasses.replace(architecture, head=None) if head == "none" else architecture


def _canonical_names(weights: WeightFiles, family: Family) -> dict[str, str]:
    """Each tensor's name without prefix, to its name in the file."""
    names: dict[str, str] = {}
    for name in weights.shapes:
        short = family.canonical(name)
        if short in names:
            raise InputError(
                f"{weights.where}: tensors {names[short]!r} and {name!r} are the same one; keep one of them"
            )
        names[short] = name
    return names


def _build(
    architecture: Architecture,
    family: Family,
    weights: WeightFiles,
    names: Mapping[str, str],
    dtype: torch.dtype | None,
    head: str | Head | None,
) -> Model:
    fresh = isinstance(head, Head)
    encoder_alone = fresh or head in ("none", "embed")
    _check_layers(architecture, family, weights, names)
    with torch.device("meta"):
        model = Model(architecture, family=family.model_type)
    shapes = {name: tuple(one.shape) for name, one in model.state_dict().items()}
    drawn = _fresh_head(architecture, shapes, family, weights, names) if fresh else {}
    shapes = {name: shape for name, shape in shapes.items() if name not in drawn}
    matched = match_tensors(shapes, architecture, family, weights, names, encoder_alone)
    homes = {ours: home for home, stored in matched.homes.items() for ours in stored.ours}
    tensors: dict[str, Tensor] = {}
    for home, stored in matched.homes.items():
        tensors |= stored.split(weights.read(home), shapes)
    _check_tied(tensors, architecture, family, weights, names)
    if "head.decoder.weight" in drawn:
        # A table of its own starts as the one it was tied to.
        drawn["head.decoder.weight"] = tensors["embeddings.word.weight"].clone()
    common = dtype or _common_dtype(tensors)
    for name in list(tensors):  # one after the other, so that the model is never there twice
        tensors[name] = _convert(f"{weights.where}: tensor {homes[name]!r}", tensors[name], common)
    model.load_state_dict(tensors | {name: one.to(common) for name, one in drawn.items()}, assign=True)
    if matched.left_out:
        count = len(matched.left_out)
        model.notes.append(
            f"{weights.where}: {count:,} tensor{'s' * (count > 1)} of a head that is not read: "
            f"{list_some(matched.left_out)}"
        )
    return model


def _fresh_head(
    architecture: Architecture,
    shapes: Mapping[str, tuple[int, ...]],
    family: Family,
    weights: WeightFiles,
    names: Mapping[str, str],
) -> dict[str, Tensor]:
    """Weights for the parts of a head that the file has not, or for another number of labels: as the model draws them.

    Those are normal, biases 0, norms 1.
    """
    head = None if architecture.head is None else architecture.head.build(architecture)
    if head is None:
        return {}
    initialise(head, architecture.initializer_range)
    theirs = family.names((name for name in shapes if name.startswith("head.")), architecture)
    drawn = {f"head.{name}": one.detach() for name, one in head.state_dict().items()}

    def fits(name: str) -> bool:
        stored = [tuple(weights.shapes[names[their]]) for their in theirs[name] if their in names]
        return stored != [] and (tuple(drawn[name].shape) in stored or not name.startswith("head.output."))

    return {name: one for name, one in drawn.items() if not fits(name)}


def _convert(what: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor in another type; InputError where its numbers are too large for that."""
    out = tensor.to(dtype)
    if torch.finfo(dtype).max < torch.finfo(tensor.dtype).max and not torch.isfinite(out).all():
        kind, wider = str(dtype).removeprefix("torch."), "float64" if dtype != torch.float16 else "float32 or bfloat16"
        raise InputError(f"{what} reaches {tensor.abs().max():.4g}, more than {kind} holds; load it as {wider}")
    return out


def _check_layers(architecture: Architecture, family: Family, weights: WeightFiles, names: Mapping[str, str]) -> None:
    """Refuse a file that has some layers and nothing of the last, before a thousand of them are built in vain."""
    wanted = 1 + max(layer.attention.weights for layer in architecture.layers)
    sets = [[f"{module}.{i}.{part}.weight" for module, part in _EVERY_LAYER] for i in range(wanted)]
    theirs = family.names((name for several in sets for name in several), architecture)
    there = [i for i, several in enumerate(sets) if any(one in names for ours in several for one in theirs[ours])]
    if there and there[-1] + 1 < wanted:
        raise InputError(
            f"{weights.where}: does not fit its config.json, which describes {wanted} layers with weights of their "
            f"own: the file holds {there[-1] + 1}; correct the number of layers or restore the file"
        )


def _check_tied(
    tensors: Mapping[str, Tensor],
    architecture: Architecture,
    family: Family,
    weights: WeightFiles,
    names: Mapping[str, str],
) -> None:
    for theirs, ours in family.tied_names(architecture).items():
        if theirs in names and not torch.equal(weights.read(names[theirs]), tensors[ours]):
            raise InputError(
                f"{weights.where}: {names[theirs]!r} differs from the word table it should be tied to; if it is "
                "meant to, set tie_word_embeddings to false in config.json"
            )


def _common_dtype(tensors: Mapping[str, Tensor]) -> torch.dtype:
    common: torch.dtype | None = None
    for tensor in tensors.values():
        common = tensor.dtype if common is None else torch.promote_types(common, tensor.dtype)
    assert common is not None
    return common


def _tokenizer(
    directory: Path, encoder: Path, architecture: Architecture, sentence: SentenceFiles | None
) -> Tokenizer | None:
    """The tokenizer beside the weights or above them, for no more tokens than model and sentence files allow."""
    family = read_json(encoder / "config.json").get("model_type")
    places = (encoder, directory)
    homes = (one for one in places if is_there(one / "tokenizer.json") or has_vocabulary_files(one, family))
    home = next(homes, None)
    if home is None:
        return None
    tokenizer = Tokenizer.load(home, family, rows=architecture.embeddings.vocabulary_size)
    longest = architecture.length
    if sentence is not None and sentence.settings is not None:
        _check_letters(tokenizer, sentence)
        longest = min(longest, sentence.longest or longest)
    if tokenizer.max_length is not None and tokenizer.max_length <= longest:
        return tokenizer
    try:
        return tokenizer.with_max_length(longest)
    except InputError as problem:
        named = encoder / "config.json" if longest == architecture.length else sentence and sentence.settings
        raise InputError(f"{named}: allows {longest} tokens: {problem}") from None


def _check_letters(tokenizer: Tokenizer, sentence: SentenceFiles) -> None:
    if sentence.lowers and tokenizer.encode_plain("ABC")[0] != tokenizer.encode_plain("abc")[0]:
        raise InputError(
            f"{sentence.settings}: do_lower_case is true, but the tokenizer tells capital letters; give it the "
            "normalizer 'Lowercase' in tokenizer.json"
        )


def _vocabulary_notes(model: Model) -> list[str]:
    """Tables are filled up to a multiple of 64 or so; where many more rows stand for no token, that is said."""
    rows = model.architecture.embeddings.vocabulary_size
    tokens = rows if model.tokenizer is None else model.tokenizer.vocabulary_size
    if tokens >= _LEAST_FILLED * rows or rows - tokens < _MOST_FILLING:
        return []
    return [
        f"the tokenizer has {tokens:,} tokens, the model's word table {rows:,} rows; if that is not meant, fetch the "
        "tokenizer that belongs to these weights"
    ]


def _label_notes(path: Path, config: Mapping[str, Any], architecture: Architecture) -> list[str]:
    """What is set aside where num_labels and id2label contradict one another, which `transformers` settles so too."""
    count, names = config.get("num_labels"), config.get("id2label")
    has_labels = hasattr(architecture.head, "labels")
    if not has_labels or count is None or names is None or count == len(names):
        return []
    return [
        f"{path}: num_labels is {count}, but id2label names {len(names)}: the labels are LABEL_0 to "
        f"LABEL_{count - 1}; correct id2label for names of your own"
    ]


def _source(path_or_hub_id: str | Path) -> str:
    """A name to cite: the hub's id, or the directory's own name; never a path of this machine."""
    path = Path(path_or_hub_id).expanduser()
    if not path.exists():
        return sample_source(str(path_or_hub_id)) or str(path_or_hub_id)
    path = path.resolve()
    if path.parent.name == "snapshots" and path.parents[1].name.startswith("models--"):  # the hub's own cache
        return path.parents[1].name.removeprefix("models--").replace("--", "/", 1)
    return path.name


def _dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    if dtype is None:
        return None
    allowed = ("float32", "bfloat16", "float16", "float64")
    found = getattr(torch, dtype, None) if isinstance(dtype, str) and dtype in allowed else dtype
    if found not in [getattr(torch, name) for name in allowed]:
        raise InputError(f"dtype is {quote(dtype)}; it must be one of {', '.join(allowed)}")
    return found  # type: ignore[return-value]


def find_device(device: str | torch.device | None) -> torch.device | None:
    """The device of this name, with its number; InputError for one that is not there."""
    if device is None:
        return None
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as problem:
        raise InputError(f"device is {quote(device)}, which is not there ({reason(problem)}); try 'cpu'") from None
