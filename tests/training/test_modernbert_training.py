"""A ModernBERT is trained on as a masked LM, stopped, and goes on to the same bits; its file stays its format's."""

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_runs import assert_same_run, decoder_config, journal
from transformers import ModernBertForMaskedLM

import gossamer as gs
from gossamer.families import get_family
from gossamer.models import Model
from gossamer.text import byte_tokenizer
from gossamer.training import run as run_module
from gossamer.training.config import TrainingConfig
from gossamer.training.stops import RunStopped

SIZES = {
    "vocab_size": 258, "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 32, "local_attention": 8, "pad_token_id": 256, "attention_dropout": 0.1,
    "embedding_dropout": 0.1, "mlp_dropout": 0.1,
}  # fmt: skip
NO_DROPOUT = {name: 0.0 for name in SIZES if name.endswith("_dropout")}


def modernbert_config(folder: Path, name: str = "out", **changes: Any) -> dict[str, Any]:
    """A byte-level ModernBERT with dropout at every place, that trains on from a checkpoint."""
    if not (folder / "begun").exists():
        torch.manual_seed(0)
        model = Model(get_family("modernbert").read(SIZES, head="masked-lm"), family="modernbert")
        model.tokenizer = byte_tokenizer(mask=True)
        gs.save(model, folder / "begun")
    return decoder_config(
        folder, name, **{"model": {"checkpoint": str(folder / "begun")}, "objective": "masked-lm", **changes}
    )


def test_a_masked_lm_learns_and_is_resumed_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained, _ = gs.train(modernbert_config(tmp_path, "unbroken", steps=12, checkpoints={"every": 6}))
    losses = [line["loss"] for line in journal(tmp_path / "unbroken") if line["split"] == "train"]
    assert sum(losses[-3:]) < sum(losses[:3])
    update = run_module.Run.update

    def stop(run: run_module.Run) -> None:
        if run.step == 3:
            signal.raise_signal(signal.SIGINT)
        update(run)

    with monkeypatch.context() as patch:
        patch.setattr(run_module.Run, "update", stop)
        with pytest.raises(RunStopped):
            gs.train(modernbert_config(tmp_path, "stopped", steps=12, checkpoints={"every": 6}))
    gs.train(modernbert_config(tmp_path, "stopped", steps=12, checkpoints={"every": 6}), resume="must")
    for name in ("unbroken", "stopped"):
        for one in (tmp_path / name / "checkpoints").iterdir():
            if one.name != "step-12":
                shutil.rmtree(one)
    assert_same_run(tmp_path / "unbroken", tmp_path / "stopped", 12)
    saved = gs.load(tmp_path / "unbroken" / "last")
    assert (saved.family, saved.architecture) == ("modernbert", trained.architecture)
    theirs = ModernBertForMaskedLM.from_pretrained(tmp_path / "unbroken" / "last").eval()
    ids = torch.arange(40, 70)[None]
    with torch.no_grad():
        torch.testing.assert_close(saved(ids).logits, theirs(ids).logits, rtol=1e-4, atol=1e-5)


def test_the_example_is_a_modernbert() -> None:
    config = TrainingConfig.read(Path(__file__).parents[2] / "examples" / "modernbert.yaml")
    assert config.model is not None
    sizes = {"num_hidden_layers": 3, "hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 192}
    sizes |= {"local_attention": 64, "max_position_embeddings": 512}
    theirs = get_family("modernbert").read({**SIZES, **sizes, **NO_DROPOUT}, head="masked-lm")
    assert config.model.describe(258) == theirs


@pytest.mark.parametrize("masked", [False, True])
def test_gradients_of_a_step_are_those_of_transformers(masked: bool, tmp_path: Path) -> None:
    """Of every tensor, full layers and windowed ones, with padding and without."""
    sizes = SIZES | NO_DROPOUT
    torch.manual_seed(0)
    config = transformers.ModernBertConfig(
        **{**sizes, "bos_token_id": None, "eos_token_id": None, "cls_token_id": None, "sep_token_id": None}
    )
    theirs = ModernBertForMaskedLM(config).train()
    theirs.save_pretrained(tmp_path)
    mine = gs.load(tmp_path).train()
    ids = torch.randint(0, 250, (2, 30))
    mask = (torch.arange(30) < torch.tensor([[30], [27 if masked else 30]])).long()
    labels = ids.masked_fill(mask == 0, -100)
    for model in (mine, theirs):
        model(ids, attention_mask=mask, labels=labels).loss.backward()
    with torch.no_grad():
        for parameter in mine.parameters():
            assert parameter.grad is not None
            parameter.copy_(parameter.grad)
    # Written as if they were weights, so that each has the place and the name that its weight has there.
    written = ModernBertForMaskedLM.from_pretrained(gs.save(mine, tmp_path / "gradients"))
    for (name, mine_there), parameter in zip(written.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine_there.data, parameter.grad, rtol=1e-3, atol=1e-6, msg=name)
