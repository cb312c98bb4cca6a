"""Loading: shapes are compared before anything is allocated, then the tensors are read."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gossamer.checkpoints.card import read_card
from gossamer.checkpoints.checkpoint import Checkpoint, open_checkpoint
from gossamer.checkpoints.files import list_some
from gossamer.checkpoints.matching import Matched, match_tensors
from gossamer.devices import find_device
from gossamer.errors import InputError, quote, remark
from gossamer.models.heads import Head
from gossamer.models.initial import initialise
from gossamer.models.model import Model

__all__ = ["HEADS", "load", "load_without_memory"]

HEADS = ("none", *Head.kinds)
"""Heads that go by a name."""
_LEAST_FILLED, _MOST_FILLING = 0.9, 128
_EVERY_LAYER = (
    *(f"attention.{{}}.{part}.weight" for part in ("query", "key", "value", "output", "norm")),
    *(f"feed_forward.{{}}.{part}.weight" for part in ("up", "down", "norm")),
    # Of layers without heads or neurons.
    *("attention.{}.output.bias", "feed_forward.{}.down.bias"),
)


def load(
    path_or_hub_id: str | Path,
    head: str | Head | None = None,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    revision: str | None = None,
) -> Model:
    """Read a checkpoint, a local directory or an id on the hub, into a model in evaluation mode.

    "sample:minilm" is the installed sample model.

    head: None reads it from the checkpoint (sentence-transformers' files: "embed"; config.json's `architectures`);
    "none" is the bare encoder; a kind of head ("masked-lm", "sequence-classification", ...; "embed" is mean pooling
    unless the files say else) is read from the file, which must have it; settings, such as
    `gossamer.models.SequenceClassification(labels=("no", "yes"))`, get fresh weights where the file has none for them,
    drawn from torch's generator: a head to be trained. dtype: "float32", "bfloat16", "float16", "float64" or torch's;
    the file's own unless given. revision: a branch, a tag or a commit of an id on the hub. Raises InputError, one line
    that names file and value, for anything missing, damaged, contradictory or unknown; pickled code is never run.
    """
    wanted_dtype, place = _dtype(dtype), find_device(device)
    _check_head(head)
    checkpoint = open_checkpoint(path_or_hub_id, head, revision)
    model = _read(checkpoint, _describe(checkpoint, head), wanted_dtype)
    model.tokenizer = checkpoint.tokenizer()
    model.notes += _vocabulary_notes(model) + _label_notes(checkpoint)
    model.extra_config = checkpoint.extra_config()
    model.notes += _unread_notes(checkpoint, model.extra_config)
    model.generation_config = checkpoint.generation_config()
    model.usual_end_id = checkpoint.family.end_id
    model.source, model.card = checkpoint.source, read_card(checkpoint.directory)
    for note in model.notes:
        remark(note)
    return model.to(place).eval() if place else model.eval()


def load_without_memory(path_or_hub_id: str | Path, head: str | Head | None = None) -> Model:
    """The model that `load` gives, with its tokenizer, in float32 on the meta device: no tensor is read.

    Raises InputError for what the files lack or say wrongly, as `load` does, and for tensors of other shapes.
    """
    _check_head(head)
    checkpoint = open_checkpoint(path_or_hub_id, head)
    with torch.random.fork_rng():  # a head is drawn to be measured
        model = _describe(checkpoint, head).model
    model.tokenizer = checkpoint.tokenizer()
    return model.float().eval()


def _check_head(head: object) -> None:
    if head is not None and head not in HEADS and not isinstance(head, Head):
        raise InputError(
            f"head is {quote(head)}; it must be one of {', '.join(HEADS)}, a head of gossamer.models, or None to read "
            "it from the files"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Described:
    """A model on the meta device, its shapes, where the files have them, and weights drawn for what they have not."""

    model: Model
    shapes: Mapping[str, tuple[int, ...]]
    matched: Matched
    fresh: Mapping[str, Tensor]


def _describe(checkpoint: Checkpoint, head: str | Head | None) -> _Described:
    """What can be said, and refused, before a tensor is read; `head` as it was asked for."""
    is_fresh = isinstance(head, Head)
    encoder_alone = is_fresh or head in ("none", "embed")
    _check_layers(checkpoint)
    with torch.device("meta"):
        model = Model(checkpoint.architecture, family=checkpoint.family.model_type)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    fresh = _fresh_head(checkpoint, shapes) if is_fresh else {}
    shapes = {name: shape for name, shape in shapes.items() if name not in fresh}
    matched = match_tensors(checkpoint, shapes, encoder_alone)
    return _Described(model=model, shapes=shapes, matched=matched, fresh=fresh)


def _read(checkpoint: Checkpoint, described: _Described, dtype: torch.dtype | None) -> Model:
    """The model with the file's tensors; `dtype` as it was asked for."""
    model, matched, fresh = described.model, described.matched, dict(described.fresh)
    homes = {ours: home for home, stored in matched.homes.items() for ours in stored.ours}
    tensors: dict[str, Tensor] = {}
    for home, stored in matched.homes.items():
        tensors |= stored.split(checkpoint.weights.read(home), described.shapes)
    _check_tied(checkpoint, tensors)
    table = tensors["embeddings.word.weight"]
    if "head.decoder.weight" in fresh and fresh["head.decoder.weight"].shape == table.shape:
        # A table of its own starts as the one it was tied to.
        fresh["head.decoder.weight"] = table.clone()
    common = dtype or _common_dtype(tensors)
    for name, copied in checkpoint.family.optional_names(checkpoint.architecture).items():
        if name in described.shapes and name not in tensors:
            fresh[name] = torch.zeros(described.shapes[name]) if copied is None else tensors[copied].clone()
    for name in list(tensors):  # one after the other, so that the model is never there twice
        tensors[name] = _convert(f"{checkpoint.weights.where}: tensor {homes[name]!r}", tensors[name], common)
    model.load_state_dict(tensors | {name: tensor.to(common) for name, tensor in fresh.items()}, assign=True)
    if matched.left_out:
        count = len(matched.left_out)
        model.notes.append(
            f"{checkpoint.weights.where}: {count:,} tensor{'s' * (count > 1)} of a head that is not read: "
            f"{list_some(matched.left_out)}"
        )
    return model


def _fresh_head(checkpoint: Checkpoint, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Weights for the parts of a head that the file has not, or for another number of labels: as the model draws them.

    Those are normal, biases 0, norms 1.
    """
    architecture = checkpoint.architecture
    head = None if architecture.head is None else architecture.head.build(architecture)
    if head is None:
        return {}
    initialise(head, architecture.initializer_range)
    try:
        candidates = checkpoint.candidates(name for name in shapes if name.startswith("head."))
    except InputError as problem:
        # The format has the kind of head, but not these parts of it.
        differing = "; ".join(checkpoint.family.obstacles(architecture))
        raise InputError(
            f"{checkpoint.config_path}: {problem}; give a head as the format has it, this one differs: {differing}"
        ) from None
    drawn = {f"head.{name}": tensor.detach() for name, tensor in head.state_dict().items()}

    def fits(name: str) -> bool:
        stored = [checkpoint.shape(theirs) for theirs in candidates[name] if theirs in checkpoint.names]
        return stored != [] and (tuple(drawn[name].shape) in stored or not name.startswith("head.output."))

    return {name: tensor for name, tensor in drawn.items() if not fits(name)}


def _convert(what: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor in another type; InputError where its numbers are too large for that."""
    out = tensor.to(dtype)
    if torch.finfo(dtype).max < torch.finfo(tensor.dtype).max and not torch.isfinite(out).all():
        kind, wider = str(dtype).removeprefix("torch."), "float64" if dtype != torch.float16 else "float32 or bfloat16"
        raise InputError(f"{what} reaches {tensor.abs().max():.4g}, more than {kind} holds; load it as {wider}")
    return out


def _check_layers(checkpoint: Checkpoint) -> None:
    """Refuse a file that has some layers and nothing of the last, before a thousand of them are built in vain."""
    count = 1 + max(layer.attention.weights for layer in checkpoint.architecture.layers)
    sets = [[name.format(i) for name in _EVERY_LAYER] for i in range(count)]
    candidates = checkpoint.candidates(name for names in sets for name in names)
    there = [i for i, names in enumerate(sets) if any(checkpoint.holds(candidates[name]) for name in names)]
    if there and there[-1] + 1 < count:
        raise InputError(
            f"{checkpoint.weights.where}: does not fit its config.json, which describes {count} layers with weights of "
            f"their own: the file holds {there[-1] + 1}; correct the number of layers or restore the file"
        )


def _check_tied(checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> None:
    for theirs, ours in checkpoint.family.tied_names(checkpoint.architecture).items():
        if checkpoint.holds([theirs]) and not torch.equal(checkpoint.read(theirs), tensors[ours]):
            raise InputError(
                f"{checkpoint.weights.where}: {checkpoint.names[theirs]!r} differs from the word table it should be "
                "tied to; if it is meant to, set tie_word_embeddings to false in config.json"
            )


def _common_dtype(tensors: Mapping[str, Tensor]) -> torch.dtype:
    common: torch.dtype | None = None
    for tensor in tensors.values():
        common = tensor.dtype if common is None else torch.promote_types(common, tensor.dtype)
    assert common is not None
    return common


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


def _label_notes(checkpoint: Checkpoint) -> list[str]:
    """What is set aside where num_labels and id2label contradict one another, which `transformers` settles so too."""
    count, names = checkpoint.config.get("num_labels"), checkpoint.config.get("id2label")
    has_labels = hasattr(checkpoint.architecture.head, "labels")
    if not has_labels or count is None or names is None or count == len(names):
        return []
    return [
        f"{checkpoint.config_path}: num_labels is {count}, but id2label names {len(names)}: the labels are LABEL_0 to "
        f"LABEL_{count - 1}; correct id2label for names of your own"
    ]


def _unread_notes(checkpoint: Checkpoint, extra: Mapping[str, object]) -> list[str]:
    says_nothing = checkpoint.family.unread
    unread = [name for name, is_silent in says_nothing.items() if name in extra and not is_silent(extra[name])]
    listed = ", ".join(f"{name} {quote(extra[name])}" for name in unread)
    return [f"{checkpoint.config_path}: {listed}: not followed, by transformers neither"] if unread else []


def _dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    if dtype is None:
        return None
    allowed = ("float32", "bfloat16", "float16", "float64")
    named = getattr(torch, dtype, None) if isinstance(dtype, str) and dtype in allowed else dtype
    if named not in [getattr(torch, name) for name in allowed]:
        raise InputError(f"dtype is {quote(dtype)}; it must be one of {', '.join(allowed)}")
    return named  # type: ignore[return-value]
