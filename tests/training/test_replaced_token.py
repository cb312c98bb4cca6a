"""ELECTRA's pre-training: a discriminator beside a generator whose tables it shares."""

import dataclasses
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from broken_runs import broken_off
from tiny_runs import assert_same_run, decoder_config, encoder_config, journal
from torch.nn import functional as F

import gossamer as gs
from gossamer.errors import InputError
from gossamer.families import get_family
from gossamer.models import Architecture, MaskedLM, Model, Positions
from gossamer.models.heads import ReplacedToken
from gossamer.text import byte_tokenizer
from gossamer.training.config import TrainingConfig
from gossamer.training.loop import train
from gossamer.training.material import gather
from gossamer.training.objectives import ReplacedTokenObjective
from gossamer.training.objectives.texts.replaced_token import _drawn, generator_of
from gossamer.training.processes import Processes
from gossamer.training.stops import RunStopped

SIZES: dict[str, Any] = {
    "vocab_size": 258, "hidden_size": 16, "embedding_size": 8, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 24, "max_position_embeddings": 32, "pad_token_id": 256, "type_vocab_size": 1,
}  # fmt: skip


def electra() -> Architecture:
    return get_family("electra").read(SIZES, head="replaced-token")


def electra_config(folder: Path, name: str = "out", **changes: Any) -> dict[str, Any]:
    given = {"model": {"architecture": electra().to_dict()}, "objective": "replaced-token", "batch": {"rows": 4}}
    return decoder_config(folder, name, **{**given, **changes})


def attached(folder: Path, **changes: Any) -> tuple[Model, Model, dict[str, torch.Tensor], ReplacedTokenObjective]:
    """Model, generator and a batch, before the first step."""
    config = TrainingConfig.read(electra_config(folder, **changes))
    found = gather(config, None, Processes())
    generator = cast(Model, found.model.get_submodule("generator"))
    return found.model.eval(), generator.eval(), found.batches.at(0), cast(ReplacedTokenObjective, config.objective)


def test_a_run_leaves_discriminator_and_generator(tmp_path: Path) -> None:
    config = electra_config(tmp_path, steps=8, evaluation={"held_out": 8, "every": 4})
    model, receipt = gs.train(config)
    again, generator = gs.load(tmp_path / "out" / "last"), gs.load(tmp_path / "out" / "last-generator")
    assert (again.architecture, generator.architecture) == (electra(), generator_of(electra(), 0.25))
    assert (again.family, generator.family) == (model.family, model.family)
    assert isinstance(generator.architecture.head, MaskedLM)
    assert not hasattr(model, "generator")
    torch.testing.assert_close(again.state_dict(), model.state_dict(), rtol=0, atol=0)
    for name in ("word", "position", "token_type", "norm"):
        one, other = (getattr(each.embeddings, name).weight for each in (again, generator))
        assert torch.equal(one, other)
    assert receipt.evaluation is not None
    assert receipt.evaluation.keys() == {"loss", "accuracy", "f1"}
    assert (tmp_path / "out" / "best-generator" / "config.json").is_file()
    assert receipt.parameters == receipt.trained == sum(one.numel() for one in model.parameters())


def test_both_learn(tmp_path: Path) -> None:
    config = electra_config(tmp_path, steps=60, optimizer={"learning_rate": 0.01})
    gs.train(config)
    losses = [one["loss"] for one in journal(tmp_path / "out")]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    rows = gather(TrainingConfig.read(electra_config(tmp_path, "new")), None, Processes()).batches.at(0)
    with torch.no_grad():
        found = gs.load(tmp_path / "out" / "last-generator")(**rows).loss
    assert float(found) < 0.8 * torch.log(torch.tensor(256.0))


def test_the_loss_is_that_of_the_paper(tmp_path: Path) -> None:
    """Step by step: what is masked, what is put there, and both losses, whose gradients meet in the tables alone."""
    objective = {"kind": "replaced-token", "weight": 7.0, "share": 0.4}
    model, generator, batch, found = attached(tmp_path, objective=objective)
    torch.manual_seed(3)
    loss = found.loss(model, batch)
    torch.manual_seed(3)
    is_taken = batch["labels"] != -100
    assert bool((batch["input_ids"][is_taken] == byte_tokenizer(mask=True).mask_id).all())
    guessed = generator(batch["input_ids"], segments=batch["segments"]).logits
    put = _drawn(guessed[is_taken])
    text = batch["input_ids"].masked_scatter(is_taken, batch["labels"][is_taken])
    read = text.masked_scatter(is_taken, put)
    scores = model(read, segments=batch["segments"]).logits
    wanted = F.cross_entropy(guessed[is_taken], batch["labels"][is_taken])
    wanted = wanted + 7.0 * F.binary_cross_entropy_with_logits(scores, (read != text).float())
    torch.testing.assert_close(loss, wanted)
    assert 0 < int((read != text).sum()) <= int(is_taken.sum())
    names = dict(model.named_parameters())
    assert not any(name.startswith(("generator.embeddings.word", "generator.embeddings.norm")) for name in names)
    given = torch.autograd.grad(loss, list(names.values()))
    for name, mine, theirs in zip(names, given, torch.autograd.grad(wanted, list(names.values())), strict=True):
        torch.testing.assert_close(mine, theirs, msg=name)


@pytest.mark.parametrize("changes", [{"token_types": 0}, {"norm": None}, {"positions": Positions(scheme="none")}])
def test_tables_that_are_not_there_are_not_shared(tmp_path: Path, changes: dict[str, Any]) -> None:
    few = dataclasses.replace(electra(), embeddings=dataclasses.replace(electra().embeddings, **changes))
    gs.train(electra_config(tmp_path, model={"architecture": few.to_dict()}, steps=2, schedule="constant"))
    assert gs.load(tmp_path / "out" / "last-generator").architecture == generator_of(few, 0.25)


def test_draws_follow_the_generator() -> None:
    logits = torch.tensor([[0.0, 2.0, -1.0]]).expand(20000, -1)
    torch.manual_seed(0)
    shares = torch.bincount(_drawn(logits), minlength=3) / len(logits)
    torch.testing.assert_close(shares, logits[0].softmax(0), atol=0.01, rtol=0)
    assert int(_drawn(torch.full((1, 3), torch.nan))) in range(3)


@pytest.mark.parametrize("how", [RunStopped, MemoryError])
@pytest.mark.parametrize("batch", [{"rows": 4}, {"rows": 4, "accumulation": 2}])
def test_a_run_goes_on_to_the_same_bits(tmp_path: Path, how: type[BaseException], batch: dict[str, int]) -> None:
    settings: dict[str, Any] = {
        "steps": 8, "checkpoints": {"every": 3}, "batch": batch, "evaluation": {"held_out": 8, "every": 2},
    }  # fmt: skip
    gs.train(electra_config(tmp_path, "unbroken", **settings))
    broken_off(electra_config(tmp_path, "broken", **settings), 5, how)
    train(electra_config(tmp_path, "broken", **settings), resume="must")
    assert_same_run(tmp_path / "unbroken", tmp_path / "broken", 8)
    one, other = (gs.load(tmp_path / name / "last-generator").state_dict() for name in ("unbroken", "broken"))
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_generators_are_narrower() -> None:
    """ELECTRA-small of the paper: 4 heads and 256 wide, its generator 1 and 64."""
    small = get_family("electra").read({}, head="replaced-token")
    generator = generator_of(small, 0.25)
    layer = generator.layers[0]
    assert (generator.hidden_size, layer.attention.heads, layer.attention.head_size) == (64, 1, 64)
    assert (layer.feed_forward.width, generator.embeddings.size, generator.embeddings.projection) == (256, 128, True)
    assert get_family("electra").expresses(generator)
    assert generator_of(small, 1.0) == dataclasses.replace(small, head=MaskedLM())
    assert generator_of(small, 1e-6).layers[0].attention.heads == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": {"kind": "replaced-token", "generator": 0}}, r"^objective\.generator is 0; it must be a share"),
        ({"objective": {"kind": "replaced-token", "weight": -1}}, r"^objective\.weight is -1; it must be a finite"),
        ({"objective": {"kind": "replaced-token", "share": 1.0}}, r"^objective\.share is 1\.0"),
        ({"data": {"train": "speeches", "tokenizer": "bytes"}, "model": {"architecture": {}}}, r"architecture"),
        ({"sample": "a"}, r"sample is .*it must be left out: only a causal-lm"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        gs.train(electra_config(tmp_path, **changes))


def test_several_processes_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"^objective\.kind is 'replaced-token'; it must be another one on 2 processes"
    ):
        ReplacedTokenObjective().attach(Model(electra()), 0, 2)


def test_the_example_is_read() -> None:
    config = TrainingConfig.read(Path(__file__).parents[2] / "examples" / "electra.yaml")
    assert config.model is not None
    assert [one.attention.weights for one in config.model.describe(258).layers] == [0, 1, 2]
    assert generator_of(config.model.describe(258), 0.5).hidden_size == 64


def test_another_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"^objective\.kind is 'replaced-token', but the model has the head 'masked-lm'"
    ):
        gs.train(encoder_config(tmp_path, objective="replaced-token"))


def test_a_new_head_on_a_checkpoint(tmp_path: Path) -> None:
    """And the generator is taken off again, whatever happens."""
    model = Model(dataclasses.replace(electra(), head=None), family="electra", tokenizer=byte_tokenizer(mask=True))
    gs.save(model, tmp_path / "bare")
    trained, _ = gs.train(electra_config(tmp_path, model={"checkpoint": str(tmp_path / "bare"), "new_head": True}))
    assert (trained.family, trained.architecture.head) == ("electra", ReplacedToken())
    given = Model(electra(), family="electra", tokenizer=byte_tokenizer(mask=True))
    with pytest.raises(InputError, match=r"a run is there already"):
        gs.train(electra_config(tmp_path, model=None), model=given, resume="never")
    assert not hasattr(given, "generator")
