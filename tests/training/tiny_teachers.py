"""Teachers of drawn weights, and runs in which a student of the same form learns from one."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from tiny_labels import labels_config, save_encoder
from tiny_runs import decoder_config, encoder_config

import gossamer as gs
from gossamer.models import Architecture, Model, SentenceEmbedding, SequenceClassification
from gossamer.models.decoders import decoder as decoder_of
from gossamer.text import byte_tokenizer


def encoder(folder: Path, seed: int, **changes: Any) -> Model:
    """A masked LM without dropout, with weights at which nothing is trivial."""
    fields = encoder_config(folder)["model"]["architecture"]
    torch.manual_seed(seed)
    model = Model(dataclasses.replace(Architecture.from_dict(fields), **changes))
    with torch.no_grad():
        for one in model.parameters():
            one.add_(torch.randn_like(one) * 0.2)
    return model


def decoder(seed: int, **changes: Any) -> Model:
    torch.manual_seed(seed)
    sizes = {"layers": 2, "hidden_size": 16, "heads": 2, "length": 32, "vocabulary_size": 257, **changes}
    return Model(decoder_of(**sizes, patterns=[gs.Full(causal=True)], dropout=0.0))


def classifier(folder: Path) -> Model:
    """A classifier of `texts` with weights that are drawn."""
    head = SequenceClassification(labels=("book", "film", "song"), problem_type="single_label_classification")
    torch.manual_seed(5)
    model = gs.load(save_encoder(folder), head=head)
    with torch.no_grad():
        for one in model.parameters():
            one.add_(torch.randn_like(one) * 0.3)
    return model


def saved_teacher(folder: Path, kind: str) -> Path:
    """A teacher of this kind, saved."""
    place = folder / "teacher"
    if kind == "vectors":
        bare = gs.load(save_encoder(folder))
        torch.manual_seed(5)
        model = Model(dataclasses.replace(bare.architecture, head=SentenceEmbedding()), tokenizer=bare.tokenizer)
    elif kind == "masked-lm":
        model = encoder(folder, 5)
        model.tokenizer = byte_tokenizer(mask=True)
    elif kind == "causal-lm":
        model = decoder(5)
        model.tokenizer = byte_tokenizer()
    else:
        bare = save_encoder(folder)
        head = SequenceClassification(labels=("book", "film", "song"), problem_type="single_label_classification")
        torch.manual_seed(5)
        model = gs.load(bare, head=head)
    gs.save(model, place)
    return place


def distilling(folder: Path, kind: str, name: str = "out", **changes: Any) -> dict[str, Any]:
    """A run in which a student of the same form learns from `folder/teacher`."""
    if not (folder / "teacher").exists():
        saved_teacher(folder, kind)
    objective = {"kind": "distillation", "task": {"kind": kind}, "teacher": str(folder / "teacher")}
    if kind == "vectors":
        objective = {"kind": "teacher-vectors", "teacher": str(folder / "teacher")}
    if kind in ("classification", "vectors"):
        model = {"checkpoint": str(folder / "encoder"), "new_head": True}
        return {**labels_config(folder, name), "model": model, "objective": objective, **changes}
    if kind == "masked-lm":
        return encoder_config(folder, name, objective=objective, **changes)
    sizes = {"layers": 1, "hidden_size": 16, "heads": 2, "length": 32, "dropout": 0.1}
    return decoder_config(folder, name, model={"decoder": sizes}, objective=objective, **changes)
