"""What a run needs before its first step: model, tokenizer and batches, checked against each other."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from gossamer.checkpoints import load
from gossamer.checkpoints.files import is_there
from gossamer.checkpoints.hub import find_checkpoint
from gossamer.checkpoints.new_heads import load_with_new_head, usual_head
from gossamer.errors import InputError, plural, quote
from gossamer.layers import SequenceSplit
from gossamer.layers.linear import frozen_names
from gossamer.models.dropout import with_dropout
from gossamer.models.model import Model
from gossamer.text import Document, TokenFile, Tokenizer, write_token_file
from gossamer.text.encoding import count_ids, fingerprint
from gossamer.training.best import check_metric
from gossamer.training.config import TrainingConfig
from gossamer.training.data.labelled import LabelledRows, read_rows
from gossamer.training.data.rows import FILES, DataSources
from gossamer.training.data.token_batches import Batches, open_tokens
from gossamer.training.journal.journal import find_tensorboard
from gossamer.training.objectives import BatchSource, LanguageObjective
from gossamer.training.objectives.labelled.labels import LabelledRow
from gossamer.training.objectives.teachers.teacher import digest_of_weights
from gossamer.training.optimization.adapters import adapted_maps
from gossamer.training.processes import Processes
from gossamer.training.pruning.pruner import pruned_units
from gossamer.training.pruning.scores import Score
from gossamer.training.resume.state import newest_checkpoint

__all__ = [
    "Material",
    "check_model",
    "check_output",
    "check_prompt",
    "check_pruning",
    "check_split",
    "check_words",
    "gather",
    "how_many_steps",
    "origin_of",
    "trained_names",
]

_FILES = (
    "journal.jsonl",
    "loss.svg",
    "receipt.json",
    "sample.txt",
    "nonfinite.json",
    "train.tokens",
    "held-out.tokens",
    ".lock",
)
_FOLDERS = ("checkpoints", "tensorboard")
"""What a run writes into its output folder beside models."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """A model of float32 weights, the tokenizer that its data are made with, and the batches of this process.

    notes: what is to be said of the data. origin: what the model was made of, by its SHA-256, where that is known.
    """

    model: Model
    tokenizer: Tokenizer
    batches: BatchSource
    notes: tuple[str, ...] = ()
    origin: Mapping[str, str] = field(default_factory=dict)


def gather(
    config: TrainingConfig, model: Model | None, processes: Processes, sources: DataSources = FILES,
    labelled: LabelledRows | None = None, origin: Mapping[str, str] | None = None,
) -> Material:  # fmt: skip
    """Load or draw the model, open or make its data; InputError where any of it does not fit the rest.

    labelled: the rows that the config names, where they are read. origin: `Material.origin` of a model that is given.
    """
    _check_rows(config, processes)
    sources.check("data.train", config.data.inputs)
    sources.check("evaluation.data", config.evaluation.inputs)
    rows = labelled or (read_rows(config, sources) if config.objective.columns else None)
    given = model if model is not None else _model(config, [] if rows is None else rows.all)
    if model is None and given is not None and config.model is not None:
        origin = origin_of(given, has_new_head=config.model.new_head)
    tokenizer = _tokenizer(config, given)
    if given is None:
        given = _fresh(config, tokenizer)
    check_model(config, given, processes.sharded)
    if processes.splits:
        check_split(config, given, processes.count)
    check_words(given, tokenizer)
    check_prompt(config, given, tokenizer)
    _agree_on_tokenizer(given, tokenizer)
    config.objective.check_tokenizer(tokenizer)
    if config.journal.tensorboard:
        find_tensorboard()
    if rows is None:
        batches, notes = _token_batches(config, given, tokenizer, processes, sources)
    else:
        batches, notes = rows.batches(config, given, tokenizer, processes)
    check_metric(config.objective, config.evaluation.metric, given)
    config.objective.attach(given, config.seed, processes.reader[1])
    return Material(model=given, tokenizer=tokenizer, batches=batches, notes=notes, origin=origin or {})


def origin_of(model: Model, *, has_new_head: bool) -> dict[str, str]:
    """What a model was made of: its weights, without those of a head that was drawn, which the run's seed tells."""
    weights = {name: one for name, one in model.state_dict().items() if not (has_new_head and name.startswith("head."))}
    return {"model": digest_of_weights(weights)}


def _token_batches(
    config: TrainingConfig, model: Model, tokenizer: Tokenizer, processes: Processes, sources: DataSources
) -> tuple[BatchSource, tuple[str, ...]]:
    """Of plain text, in token files; and what a budget of tokens comes to."""
    objective = config.objective.of_data
    assert isinstance(objective, LanguageObjective)
    output, held_out = Path(config.output), config.evaluation.inputs
    length = config.batch.length or model.architecture.length
    rows, packed, tokens = config.batch.rows_of(length), config.data.pack, config.batch.tokens
    if packed:
        config.batch.check_parts(processes.reader[1], length)
    with processes.first_alone():
        file = _tokens(config.data.inputs, tokenizer, config, output / "train.tokens", processes, sources)
        target = output / "held-out.tokens"
        other = _tokens(held_out, tokenizer, config, target, processes, sources) if held_out else None
    batches = Batches(
        file=file,
        tokenizer=tokenizer,
        objective=objective,
        length=length,
        batch=rows if packed or tokens is None else max(1, rows // processes.reader[1]) * processes.reader[1],
        tokens=None if packed else tokens,
        seed=config.seed,
        pack=packed,
        held_out=config.evaluation.held_out,
        held_out_by=config.evaluation.held_out_by,
        held_out_file=other,
        vocabulary_size=model.architecture.embeddings.vocabulary_size,
        token_types=model.architecture.embeddings.token_types,
        rank=processes.reader[0],
        world=processes.reader[1],
    )
    if tokens is None or not packed:
        return batches, ()
    return batches, (f"batch.tokens is {tokens:,}: {plural(rows, 'row')} of {length:,} tokens a step",)


def how_many_steps(config: TrainingConfig, batches: BatchSource) -> int | None:
    """The steps of the whole run; None where only its minutes are given."""
    return config.steps if config.epochs is None else batches.steps(config.epochs)


def _model(config: TrainingConfig, rows: Sequence[LabelledRow]) -> Model | None:
    """The checkpoint's model, or its student; None where fresh weights are to be drawn. rows: of a new head."""
    if config.model is None or not config.model.is_described:
        raise InputError("model is missing; name a checkpoint, describe a decoder, or hand one to train()")
    name, objective = config.source, config.objective
    if name is None:
        return None
    if config.model.new_head:
        head = objective.new_head(rows, usual_head(name, objective.heads[0]))
        return load_with_new_head(name, head, config.seed)
    # Whatever the file has that learns this, pre-training heads too.
    student = config.model.student
    found = load(name, dtype="float32") if student is None else student.make(name)
    if not isinstance(found.architecture.head, objective.heads):
        raise InputError(
            f"objective.kind is {objective.kind!r}, but the model in {quote(name)} has no head for "
            f"it{objective.without_head}"
        )
    return found


def _tokenizer(config: TrainingConfig, model: Model | None) -> Tokenizer:
    named = config.data.tokenizer
    if named is None and model is not None:
        if model.tokenizer is None:
            raise InputError("data.tokenizer is missing and the model has none; name 'bytes', or a model directory")
        return model.tokenizer
    if named is None or named == "bytes":
        return config.objective.own_tokenizer()
    return Tokenizer.load(find_checkpoint(named))


def _fresh(config: TrainingConfig, tokenizer: Tokenizer) -> Model:
    """A model of drawn weights, by the run's seed; its words are the tokenizer's."""
    assert config.model is not None
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = Model(config.model.describe(count_ids(tokenizer)), family=config.model.family)
    model.tokenizer = tokenizer.with_max_length(model.architecture.length)
    return model


def _check_rows(config: TrainingConfig, processes: Processes) -> None:
    if config.batch.tokens is None:
        config.batch.check_parts(processes.reader[1], 1)


def check_split(config: TrainingConfig, model: Model, count: int) -> None:
    """InputError where sequences of this length cannot be split over so many processes."""
    if config.objective.kind != "causal-lm":
        raise InputError(f"parallel is 'sequence', which takes the objective causal-lm, not {config.objective.kind}")
    length = config.batch.length or model.architecture.length
    for i, layer in enumerate(model.architecture.layers):
        one = layer.attention
        for name, usual in (("global_projections", False), ("distance_bias", None)):
            if getattr(one, name) != usual:
                raise InputError(f"parallel is 'sequence', and layers[{i}].attention has {name}; take 'ddp'")
        SequenceSplit(rank=0, count=count).cut(one.pattern, length, packed=False)


def check_model(config: TrainingConfig, model: Model, sharded: bool) -> None:
    """InputError where the model cannot learn what the config asks for. sharded: FSDP2 cuts its tensors."""
    architecture, kind = model.architecture, config.objective.kind
    if not isinstance(architecture.head, config.objective.heads):
        head = "no head" if architecture.head is None else f"the head {architecture.head.kind!r}"
        raise InputError(f"objective.kind is {kind!r}, but the model has {head}; take a model that learns it")
    length = config.batch.length or architecture.length
    if length > architecture.length:
        raise InputError(f"batch.length is {length}; the model reads {architecture.length} tokens: take at most those")
    kinds = {one.dtype for one in model.parameters()} - {torch.float32, torch.float64}
    if kinds:
        found = str(kinds.pop()).removeprefix("torch.")
        raise InputError(f"the model's weights are {found}; train float32 ones, as model.float() makes them")
    with_dropout(architecture, config.dropout)
    _check_names(config, model, sharded)
    if config.adapters is not None:
        adapted_maps(model, config.adapters)
    if config.pruning is not None:
        check_pruning(config, model)


def check_pruning(config: TrainingConfig, model: Model) -> None:
    """InputError for a model that cannot be pruned so, and for scores that would not learn."""
    assert config.pruning is not None
    units = pruned_units(model, config.pruning)
    if not Score.kinds[config.pruning.score].is_settled:
        config.pruning.budget(model, units)
    maps = [one.map for some in units for one in some]
    learns = trained_names(model, config.train_only)
    still = [name for name in maps if config.train_only and f"{name}.weight" not in learns]
    if still and Score.kinds[config.pruning.score].gate != "fixed":
        raise InputError(
            f"train_only is {list(config.train_only)}, without {still[0]}, which pruning scores by what it learns; add "
            "it, or take the score 'magnitude'"
        )


def check_words(model: Model, tokenizer: Tokenizer) -> None:
    """Find out before texts are tokenized that the model has no row for some of the tokens."""
    size, most = count_ids(tokenizer), model.architecture.embeddings.vocabulary_size
    if size > most:
        raise InputError(
            f"data.tokenizer has a vocabulary of {size:,}, the model's has {most:,}; take the model's own tokenizer, "
            "or a model with a larger vocabulary"
        )


def check_prompt(config: TrainingConfig, model: Model, tokenizer: Tokenizer) -> None:
    """Find out before the training, not after it, that there is no room to go on with the text."""
    if config.sample is not None:
        size, most = len(tokenizer.encode_plain(config.sample.prompt)[0]), model.architecture.length
        if size >= most:
            raise InputError(f"sample.prompt is {size} tokens long; the model reads {most}: give a shorter one")


def trained_names(model: Model, beginnings: Sequence[str]) -> set[str]:
    """The names that begin with one of these, at a dot or as a whole, without what a storage leaves as it is."""
    names = {name for name, _ in model.named_parameters()} - frozen_names(model)
    return {name for name in names if any(f"{name}.".startswith(f"{one}.") for one in beginnings)}


def _check_names(config: TrainingConfig, model: Model, sharded: bool) -> None:
    parameters = dict(model.named_parameters())
    places = sorted({".".join(name.split(".")[:i]) for name in parameters for i in range(1, name.count(".") + 2)})
    for i, name in enumerate(config.train_only):
        if name not in places:
            near = difflib.get_close_matches(name, places, n=1, cutoff=0)[0]
            raise InputError(f"train_only[{i}] is {quote(name)}; the model has no such part: the nearest is {near!r}")
        if not trained_names(model, (name,)):
            raise InputError(
                f"train_only[{i}] is {quote(name)}, which the storage of its map leaves as it is; name the map, or "
                "merge the model first"
            )
    for name, rows in config.frozen_rows.items():
        if name not in parameters:
            near = difflib.get_close_matches(name, list(parameters), n=1, cutoff=0)[0]
            raise InputError(f"frozen_rows names {quote(name)}, which the model does not have: the nearest is {near!r}")
        most = len(parameters[name])
        if rows > most:
            raise InputError(f"frozen_rows.{name} is {rows}; the table has {most} rows")
    if sharded and not config.objective.shards:
        raise InputError(f"parallel is 'fsdp2', which cuts the model into pieces; {config.objective.kind} takes 'ddp'")
    if sharded and config.pruning is not None:
        raise InputError("parallel is 'fsdp2', which cuts masks and scores into pieces; with pruning it must be 'ddp'")
    if sharded and (config.frozen_rows or config.optimizer.name == "adafactor"):
        what = "frozen_rows" if config.frozen_rows else "torch's Adafactor"
        raise InputError(f"parallel is 'fsdp2', which cuts tensors into pieces; with {what} it must be 'ddp'")


def _agree_on_tokenizer(model: Model, tokenizer: Tokenizer) -> None:
    """The model is saved with its tokenizer, so that has to be the one that it learns with."""
    if model.tokenizer is None:
        model.tokenizer = tokenizer.with_max_length(model.architecture.length)
    elif fingerprint(model.tokenizer) != fingerprint(tokenizer):
        raise InputError(
            "data.tokenizer is not the model's own: leave it out, or give the model that one before (model.tokenizer)"
        )


def check_output(output: Path) -> None:
    """Find out before the training, not after it, that something is where its files and models are to be saved."""
    for name in ("last", "best", "last-generator", "best-generator"):
        place = output / name
        if place.exists() and not (place / "config.json").is_file() and not _is_empty(place):
            raise InputError(f"output is {str(output)!r}, where {name!r} is something else than a model; name another")
    for name, kind, fits in (
        *((one, "file", Path.is_file) for one in _FILES),
        *((one, "folder", Path.is_dir) for one in _FOLDERS),
    ):
        if is_there(output / name) and not fits(output / name):
            raise InputError(f"output is {str(output)!r}, where {name!r} is no {kind}, as a run needs; name another")


def _is_empty(place: Path) -> bool:
    return place.is_dir() and not any(place.iterdir())


def _tokens(
    inputs: tuple[str, ...], tokenizer: Tokenizer, config: TrainingConfig, target: Path, processes: Processes,
    sources: DataSources,
) -> TokenFile:  # fmt: skip
    """A token file as it is; texts as one that is made in the output folder by the first process."""
    if Path(inputs[0]).suffix == ".tokens":
        file = open_tokens(list(inputs), tokenizer)
        if processes.first:
            file.check()
        return file
    if processes.first:
        target.parent.mkdir(parents=True, exist_ok=True)
        settings = config.data
        documents = sources.documents(inputs, field=settings.field, split=settings.split, format=settings.format)
        _write_tokens(documents, tokenizer, config, target)
    return TokenFile.open(target)


def _write_tokens(documents: Iterable[Document], tokenizer: Tokenizer, config: TrainingConfig, target: Path) -> None:
    """Make the token file; the one that a run there has read stays, also where the texts are others by now."""
    name, counts = config.data.tokenizer or "the model's", config.data.control_tokens
    if not target.exists() or newest_checkpoint(target.parent / "checkpoints") is None:
        write_token_file(target, documents, tokenizer, name=name, control_tokens=counts)
        return
    new = target.with_name(f".{target.name}.new")
    try:
        content = write_token_file(new, documents, tokenizer, name=name, control_tokens=counts).content
    finally:
        new.unlink(missing_ok=True)
    before = TokenFile.open(target)
    before.check()
    if content != before.content:
        raise InputError(
            f"the data are not those of the run in {target.parent}: put them back to go on, name {target}, which holds "
            "what it read, or begin anew with another output"
        )
