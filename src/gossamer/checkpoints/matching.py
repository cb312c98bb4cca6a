"""Which tensor of a file holds which of ours: all of them, and no other but what was left out on purpose."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from gossamer.checkpoints.files import list_some
from gossamer.checkpoints.weights import WeightFiles
from gossamer.errors import InputError
from gossamer.families import Family
from gossamer.families.stored import StoredTensor
from gossamer.models.architecture import Architecture

__all__ = ["Matched", "match_tensors"]


@dataclass(frozen=True, kw_only=True)
class Matched:
    """`homes`: the file's tensors that are read, and what each holds of ours; `left_out`: a foreign head's."""

    homes: Mapping[str, StoredTensor]
    left_out: list[str]


def match_tensors(
    shapes: Mapping[str, tuple[int, ...]],
    architecture: Architecture,
    family: Family,
    weights: WeightFiles,
    names: Mapping[str, str],
    encoder_alone: bool,
) -> Matched:
    """Find the file's tensors that hold ours. `names`: the file's, by their canonical ones.

    encoder_alone: tensors outside the encoder, of a head that Gossamer does not know, are left out; one inside it would
    change what it computes. InputError lists all that is missing, unexpected or of the wrong shape.
    """
    candidates = family.names(shapes, architecture)
    homes = {ours: next((names[one] for one in theirs if one in names), None) for ours, theirs in candidates.items()}
    found = {ours: home for ours, home in homes.items() if home is not None}
    missing = list(dict.fromkeys(candidates[ours][0] for ours in shapes if ours not in found))
    held = {names[one]: stored for one, stored in family.stored(shapes, architecture).items() if one in names}
    matched = {home: held[home] for home in found.values()}
    known = {one for theirs in candidates.values() for one in theirs} | set(family.tied_names(architecture))
    unknown = [one for one in names if one not in known and not family.is_ignored(one, architecture)]
    outside = _outside(unknown, candidates, family, names)
    left_out = [names[one] for one in unknown if encoder_alone and one in outside]
    unexpected = [names[one] for one in unknown if not (encoder_alone and one in outside)]
    wrong = [
        f"{home} is {list(weights.shapes[home])}, not {list(stored.shape(shapes))}"
        for home, stored in matched.items()
        if weights.shapes[home] != stored.shape(shapes)
    ]
    if missing or unexpected or wrong:
        prefixed = any(map(family.is_prefixed, names.values()))
        spelled = [family.file_name(one, architecture, prefixed=prefixed) for one in missing]
        foreign = [names[one] for one in unknown]
        parts = [_list("missing", spelled), _list("unexpected", unexpected), _list("of the wrong shape", wrong)]
        remedy = _strip(foreign, known, family) or _remedy(missing, architecture, family)
        if not (remedy or missing or wrong) and len(outside) == len(unknown):
            remedy = "; the encoder alone loads with head='none'"
        raise InputError(
            f"{weights.where}: does not fit its config.json: {'; '.join(part for part in parts if part)}{remedy}"
        )
    return Matched(homes=matched, left_out=left_out)


def _outside(
    unknown: list[str], candidates: Mapping[str, tuple[str, ...]], family: Family, names: Mapping[str, str]
) -> set[str]:
    """Of unknown tensors, those that lie in no module of the encoder's, nor under its prefix."""
    of_encoder = [one for ours, theirs in candidates.items() if not ours.startswith("head.") for one in theirs]
    modules = {one.partition(".")[0] for one in of_encoder}
    return {one for one in unknown if one.partition(".")[0] not in modules and not family.is_prefixed(names[one])}


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


def _remedy(missing: list[str], architecture: Architecture, family: Family) -> str:
    form = None if architecture.head is None else family.heads.get(architecture.head.kind)
    if form is None:
        return ""
    bare = dataclasses.replace(architecture, head=None)
    in_head = [name for name in missing if family.is_ignored(name, bare)]
    new = f"head=gossamer.models.{form.head.__name__}(...)"
    return f"; the encoder alone loads with head='none', a new head to train with {new}" if in_head else ""
