"""Which tensor of a file holds which of ours: all of them, and no other but what was left out on purpose."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from gossamer.checkpoints.checkpoint import Checkpoint
from gossamer.checkpoints.files import list_some
from gossamer.errors import InputError
from gossamer.families import Family
from gossamer.families.stored import StoredTensor

__all__ = ["Matched", "match_tensors"]


@dataclass(frozen=True, kw_only=True)
class Matched:
    """`homes`: the file's tensors that are read, and what each holds of ours; `left_out`: a foreign head's."""

    homes: Mapping[str, StoredTensor]
    left_out: list[str]


def match_tensors(checkpoint: Checkpoint, shapes: Mapping[str, tuple[int, ...]], encoder_alone: bool) -> Matched:
    """Find the file's tensors that hold ours, which have these shapes.

    encoder_alone: tensors outside the encoder, of a head that Gossamer does not know, are left out; one inside it would
    change what it computes. InputError lists all that is missing, unexpected or of the wrong shape.
    """
    family, names, on_file = checkpoint.family, checkpoint.names, checkpoint.weights.shapes
    candidates = checkpoint.candidates(shapes)
    first = {ours: next((name for name in theirs if name in names), None) for ours, theirs in candidates.items()}
    needed = {ours for ours in shapes if ours not in family.optional_names(checkpoint.architecture)}
    missing = list(
        dict.fromkeys(candidates[ours][0] for ours, name in first.items() if name is None and ours in needed)
    )
    stored = family.stored(shapes, checkpoint.architecture)
    homes = {names[name]: stored[name] for name in first.values() if name is not None}
    known = {name for theirs in candidates.values() for name in theirs} | set(
        family.tied_names(checkpoint.architecture)
    )
    unknown = [name for name in names if name not in known and not family.is_ignored(name, checkpoint.architecture)]
    outside = _outside(checkpoint, unknown, candidates)
    left_out = [names[name] for name in unknown if encoder_alone and name in outside]
    unexpected = [names[name] for name in unknown if not (encoder_alone and name in outside)]
    wrong = [
        f"{home} is {list(on_file[home])}, not {list(tensor.shape(shapes))}"
        for home, tensor in homes.items()
        if on_file[home] != tensor.shape(shapes)
    ]
    if missing or unexpected or wrong:
        foreign = [names[name] for name in unknown]
        lists = [
            _list("missing", _spelled(checkpoint, missing)),
            _list("unexpected", unexpected),
            _list("of the wrong shape", wrong),
        ]
        remedy = _strip(foreign, known, family) or _remedy(checkpoint, missing)
        if not (remedy or missing or wrong) and len(outside) == len(unknown):
            remedy = "; the encoder alone loads with head='none'"
        raise InputError(
            f"{checkpoint.weights.where}: does not fit its config.json: {'; '.join(filter(None, lists))}{remedy}"
        )
    return Matched(homes=homes, left_out=left_out)


def _spelled(checkpoint: Checkpoint, canonical: list[str]) -> list[str]:
    """Names as this file would write them."""
    family = checkpoint.family
    prefixed = any(map(family.is_prefixed, checkpoint.names.values()))
    return [family.file_name(name, checkpoint.architecture, prefixed=prefixed) for name in canonical]


def _outside(checkpoint: Checkpoint, unknown: list[str], candidates: Mapping[str, tuple[str, ...]]) -> set[str]:
    """Of unknown tensors, those that lie in no module of the encoder's, nor under its prefix."""
    of_encoder = [name for ours, theirs in candidates.items() if not ours.startswith("head.") for name in theirs]
    modules = {name.partition(".")[0] for name in of_encoder}
    is_prefixed = checkpoint.family.is_prefixed
    return {
        name for name in unknown if name.partition(".")[0] not in modules and not is_prefixed(checkpoint.names[name])
    }


def _list(what: str, names: list[str]) -> str:
    if not names:
        return ""
    return f"{len(names):,} {what}: {list_some(names)}"


def _strip(unexpected: list[str], known: set[str], family: Family) -> str:
    """The remedy where other tools put every name under a prefix of their own, such as 'module.'."""
    parts = unexpected[0].split(".") if unexpected else []
    for i in range(1, len(parts)):
        prefix = ".".join(parts[:i]) + "."
        inner = [family.canonical(name.removeprefix(prefix)) for name in unexpected if name.startswith(prefix)]
        if len(inner) == len(unexpected) and any(name in known for name in inner):
            return f"; strip the prefix {prefix!r} from the names in the file"
    return ""


def _remedy(checkpoint: Checkpoint, missing: list[str]) -> str:
    family, architecture = checkpoint.family, checkpoint.architecture
    form = None if architecture.head is None else family.heads.get(architecture.head.kind)
    if form is None:
        return ""
    bare = dataclasses.replace(architecture, head=None)
    in_head = [name for name in missing if family.is_ignored(name, bare)]
    new = f"head=gossamer.models.{form.head.__name__}(...)"
    return f"; the encoder alone loads with head='none', a new head to train with {new}" if in_head else ""
