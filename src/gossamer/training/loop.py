"""Training: read the settings, gather what they name, then step, evaluate and save until the run is over."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from gossamer.atomic_files import write_texts
from gossamer.checkpoints import save
from gossamer.errors import InputError, quote
from gossamer.models.model import Model
from gossamer.models.model_argument import check_model
from gossamer.training.config import TrainingConfig
from gossamer.training.data.labelled import LabelledRows
from gossamer.training.data.rows import DataSources, RowSequence
from gossamer.training.material import check_output, gather
from gossamer.training.processes import Processes
from gossamer.training.receipt import TrainingReceipt
from gossamer.training.run import Run
from gossamer.training.stops import RunStopped, StopRequest, listening

__all__ = ["Resume", "only_run", "threads_of", "train", "train_on"]

Resume = Literal["auto", "never", "must"]


def train(
    config: TrainingConfig | dict[str, Any] | str | Path,
    *,
    model: Model | None = None,
    rows: RowSequence | None = None,
    evaluation_rows: RowSequence | None = None,
    resume: Resume = "auto",
    remark: Callable[[str], None] = lambda text: None,
) -> tuple[Model, TrainingReceipt]:
    """Train a model as a config says, a language model or one of labels; returns it, in evaluation mode, and a receipt.

    config: settings, or the YAML file that holds them. model: what is trained instead of the config's, in place (under
    FSDP2 another one is returned); its weights are float32. rows, evaluation_rows: sequences of dicts, such as a list
    or a `datasets.Dataset`, that are read in place of the files that the config names (`data.train`,
    `evaluation.data`), as rows of a file would be; the first one is called `rows:1`. resume: "auto" goes on from the
    newest whole checkpoint in the output folder, if there is one, to the very weights that a run never stopped would
    have (same machine, threads and number of processes); "never" and "must" refuse where there is one and where there
    is none. remark: is called with what the user should know meanwhile.

    The output folder holds journal.jsonl, loss.svg, receipt.json, the model (`last`, and `best` on held-out text) and
    the checkpoints. The first SIGINT or SIGTERM lets the step end, saves, and raises RunStopped, a KeyboardInterrupt.
    Raises InputError for a config that is wrong or does not fit model, data or the run that is there, GossamerError
    where loss or gradients are not finite or a checkpoint cannot be written.
    """
    if model is not None:
        check_model(model)
    sources = DataSources(rows=rows, evaluation_rows=evaluation_rows)
    settings = TrainingConfig.read(config, sources.changes)
    return train_on(settings, sources, model=model, resume=resume, remark=remark)


def train_on(
    settings: TrainingConfig, sources: DataSources, *, model: Model | None, labelled: LabelledRows | None = None,
    origin: Mapping[str, str] | None = None, resume: Resume = "auto",
    remark: Callable[[str], None] = lambda text: None,
) -> tuple[Model, TrainingReceipt]:  # fmt: skip
    """As `train`, of settings that are read. labelled: the rows that they name, where somebody has read them.

    origin: what the model was made of, by its SHA-256: a run does not go on with one that was made of something else.
    """
    if resume not in get_args(Resume):
        raise InputError(f"resume is {quote(resume)}; it must be one of {', '.join(map(repr, get_args(Resume)))}")
    with threads_of(settings.threads), torch.enable_grad():
        processes = Processes(settings.parallel, settings.device)
        with only_run(settings, processes), _generators_kept(processes.device), processes.quiet():
            material = gather(settings, model, processes, sources, labelled, origin)
            try:
                with closing(Run(settings, material, processes, resume, remark)) as run:
                    with listening() as request:
                        _learn(run, request)
                    return _finish(run)
            finally:
                settings.objective.detach(material.model)


def _learn(run: Run, request: StopRequest) -> None:
    """Step after step until the run is over or somebody stops it; the journal is written before each checkpoint."""
    save_every = run.config.checkpoints.every
    while run.ended is None:
        run.update()
        stopped_by = run.agree(request.signal)
        if run.ended or run.is_to_evaluate:
            run.evaluate()
        if run.ended or stopped_by or run.step % save_every == 0:
            run.save()
        if stopped_by and not run.ended:
            run.save_model("last")
            raise RunStopped(stopped_by, run.step, run.expected_steps, run.output)


def _finish(run: Run) -> tuple[Model, TrainingReceipt]:
    """The model without anything of the training about it, the receipt, and what the model writes; all saved."""
    model = run.release()
    receipt = model.receipt = run.receipt(model, None)
    if run.processes.first:
        save(model, run.output / "last")
        _write_receipt(run, receipt)
        run.plot()
    sample = _sample(run, model)  # last: whatever becomes of it, the model is there
    if sample is not None:
        receipt = model.receipt = run.receipt(model, sample)
        if run.processes.first:
            _write_receipt(run, receipt)
            write_texts({run.output / "sample.txt": sample})
    run.processes.wait()
    return model, receipt


def _write_receipt(run: Run, receipt: TrainingReceipt) -> None:
    text = json.dumps(receipt.to_dict(), indent=2, ensure_ascii=False) + "\n"
    write_texts({run.output / "receipt.json": text})


def _sample(run: Run, model: Model) -> str | None:
    """The prompt and how the model goes on."""
    wanted = run.config.sample
    if wanted is None:
        return None
    from gossamer.generation import generate

    found = generate(
        model, wanted.prompt, max_new_tokens=wanted.tokens, temperature=wanted.temperature, top_k=wanted.top_k,
        top_p=wanted.top_p, seed=run.config.seed,
    )  # fmt: skip
    return wanted.prompt + "".join(found.texts or [])


@contextmanager
def threads_of(count: int | None) -> Iterator[None]:
    """So many threads inside the block, torch's own number where it is None."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _generators_kept(device: torch.device) -> Iterator[None]:
    """Leave the caller's random numbers where they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


@contextmanager
def only_run(config: TrainingConfig, processes: Processes) -> Iterator[None]:
    """InputError where another run writes to the same output; the system forgets the lock of a run that is killed."""
    output = Path(config.output)
    check_output(output)
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    if not processes.first:
        yield
        return
    output.mkdir(parents=True, exist_ok=True)
    with (output / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"output is {quote(config.output)}, where another run is at work; name another") from None
        except OSError:  # file systems without locks
            pass
        yield
