"""Loads spoilt checkpoints and says what became of each: one clear line or a correct model, else the test fails."""

import json
import resource
import shutil
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
import transformers
from fuzz_templates import IDS, NAMES, TEXT, Files, Template, outputs, template, write
from mutations import MUTATIONS

import gossamer as gs
from gossamer.errors import Remark
from gossamer.models import Model
from gossamer.text import Tokenizer

LONGEST = 60  # seconds that one case may take on a busy machine
MOST_MEMORY = 400  # megabytes that a mutation's cases may add


class TookTooLong(BaseException):
    """Not an Exception, so that nothing on the way takes it for a damaged file."""


@contextmanager
def watched() -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TookTooLong

    old = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LONGEST)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def load(directory: Path) -> Model | str:
    """The model, or the one line that refuses it; anything else that is raised fails the test."""
    try:
        with watched(), warnings.catch_warnings():
            warnings.simplefilter("ignore", Remark)  # of a field that is not read
            return gs.load(directory)
    except gs.GossamerError as problem:
        message = str(problem)
    assert "\n" not in message
    assert "\r" not in message
    assert len(message) < 1500
    assert str(directory) in message
    message.encode("utf-8")  # can be printed
    return message


def read(tokenizer: Tokenizer, text: str) -> None:
    try:
        assert tokenizer(text)["input_ids"].dtype == torch.int64
    except gs.InputError as problem:
        said = str(problem)
    else:
        return
    assert "\n" not in said


def changed(before: Files, after: Files) -> set[str]:
    return {name for name in {**before, **after} if before.get(name) != after.get(name)}


def has_checksum(original: Template, names: set[str]) -> bool:
    """Whether every changed file has one that tells: a zip archive's for each record, or the seal's for the weights."""
    contents = [original.files.get(name) for name in names]
    return all(isinstance(one, bytes) and one[:2] == b"PK" for one in contents) or (
        "gossamer.json" in original.files and "gossamer.json" not in names
    )


def check(model: Model, original: Template, names: set[str], directory: Path, kind: str = "") -> None:
    """That a spoilt checkpoint which still loads is the model that its files describe."""
    for text in (TEXT, ""):
        if model.tokenizer is not None:
            read(model.tokenizer, text)
    state, expected = model.state_dict(), original.model.state_dict()
    shared = state.keys() & expected.keys()
    same = {name for name in shared if torch.equal(state[name], expected[name])}
    in_weights = any(name.endswith((".safetensors", ".bin")) for name in names)
    assert same == shared or in_weights
    assert same == shared or kind != "bytes" or not has_checksum(original, names)
    assert all(torch.isfinite(one).all() for one in state.values())
    found = outputs(model)
    if same == shared == expected.keys() and model.architecture == original.model.architecture:
        assert found.keys() == original.outputs.keys()
        assert all(torch.equal(one, original.outputs[name]) for name, one in found.items())
        return
    tame = all(one.double().abs().max() < 1e3 for one in state.values() if one.numel())
    assert not tame or all(torch.isfinite(one).all() for one in found.values())
    if model.architecture != original.model.architecture:
        describing = {"config.json", "modules.json", "1_Pooling/config.json", "2_Dense/config.json"}
        assert names & describing or in_weights
        if not in_weights and model.family != "gossamer":
            compare(model, found, directory)


def compare(model: Model, found: dict[str, Any], directory: Path) -> None:
    """Where transformers reads the changed config.json too, it reads the same mathematics."""
    name = json.loads((directory / "config.json").read_text("utf-8-sig")).get("architectures")
    if model.architecture.head is not None and model.architecture.head.kind == "embed":
        return
    kind = getattr(transformers, name[0] if name else "AutoModel", None)
    try:
        theirs, info = kind.from_pretrained(directory, output_loading_info=True, attn_implementation="eager")
        with torch.no_grad():
            out = theirs.eval()(IDS, return_dict=True)
    except Exception:  # whatever it raises of a config that is not sound, ours is the stricter reading or the kinder
        return
    if info["missing_keys"] or info["mismatched_keys"]:
        return
    expected = out.get("last_hidden_state", out.get("logits", out.get("prediction_logits")))
    mine = found["last_hidden_state" if "last_hidden_state" in out else "logits"]
    if expected is not None and expected.shape == mine.shape:
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)


def run(original: Template, kind: str, count: int, root: Path) -> list[str]:
    """Spoil a checkpoint `count` times; what became of each case."""
    name, trace, said = original.name, root / "ran", []
    before = peak()
    for i in range(count):
        random = Random(f"{name} {kind} {i}")
        other = template(random.choice([one for one in NAMES if one != name]))
        files, directory = dict(original.files), root / f"case-{i}"
        what = MUTATIONS[kind](random, files, other.files, trace)
        write(files, directory)
        try:
            found = load(directory)
            if isinstance(found, Model):
                check(found, original, changed(original.files, files), directory, kind)
        except (Exception, TookTooLong) as problem:
            pytest.fail(f"case {i} of {name} {kind}, {what}: {type(problem).__name__}: {problem}")
        assert not trace.exists(), what
        said.append(f"{what}: {'loaded' if isinstance(found, Model) else found}")
        shutil.rmtree(directory)
    assert peak() - before < MOST_MEMORY, f"{peak() - before:.0f} MB for {name} {kind}"
    return said
