"""Training on texts and second ones: loss and smoothing against torch, rows, a run that learns and resumes."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from broken_runs import broken_off
from kept_bytes import kept_bytes
from torch.nn import functional as F

import gossamer as gs
from gossamer.errors import InputError
from gossamer.families import get_family
from gossamer.metrics import chrf, rouge
from gossamer.models import Model, SequenceClassification
from gossamer.recipes.evaluate import evaluate
from gossamer.text import byte_tokenizer
from gossamer.training.objectives import Seq2SeqObjective
from gossamer.training.objectives.labelled.labels import LabelledRow
from gossamer.training.stops import RunStopped

SIZES = {
    "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 1, "num_heads": 2, "vocab_size": 257, "dropout_rate": 0.0,
    "eos_token_id": 256, "decoder_start_token_id": 256,
}  # fmt: skip
ROWS = [{"text": f"{a}{b}", "target": f"{b}{a}"} for a in "abcdef" for b in "abcdef"]


def model(family: str = "t5", **changes: Any) -> Model:
    torch.manual_seed(0)
    described = get_family(family).read({**SIZES, **changes}, head="seq2seq-lm")
    found = Model(described, family=family, tokenizer=byte_tokenizer())
    with torch.no_grad():
        for weight in found.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return found


def batch_of(objective: Seq2SeqObjective) -> dict[str, torch.Tensor]:
    pairs = [*ROWS[:5], {"text": "abcdefgh", "target": "xyzzy"}]
    rows = [LabelledRow(name="r", text=one["text"], label=one["target"]) for one in pairs]
    examples = objective.encode(rows, byte_tokenizer(), 64, objective.new_head(), control_tokens=False)
    return objective.collate(examples, 0)


def test_a_batch_has_texts_and_second_texts_of_lengths_of_their_own() -> None:
    batch = batch_of(Seq2SeqObjective())
    assert batch["input_ids"].shape == (6, 8)
    assert batch["labels"].shape == (6, 5)
    assert batch["labels"][0].tolist() == [97, 97, -100, -100, -100]
    assert batch["attention_mask"].sum(1).tolist() == [2, 2, 2, 2, 2, 8]
    short = batch_of(Seq2SeqObjective(target_length=3))
    assert short["labels"].shape == (6, 3)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("tied", [True, False])
def test_the_loss_is_torchs_with_its_smoothing(smoothing: float, tied: bool) -> None:
    objective = Seq2SeqObjective(label_smoothing=smoothing)
    one = model(tie_word_embeddings=tied).double().train()
    batch = batch_of(objective)
    loss = objective.loss(one, batch)
    loss.backward()
    found = {name: weight.grad.clone() for name, weight in one.named_parameters() if weight.grad is not None}
    one.zero_grad()
    given = {name: tensor for name, tensor in batch.items() if name != "labels"}
    told = batch["labels"]
    before = F.pad(told[:, :-1], (1, 0), value=256).masked_fill(F.pad(told[:, :-1] == -100, (1, 0)), 256)
    logits = one(**given, decoder_input_ids=before).logits
    expected = F.cross_entropy(logits.flatten(0, 1), told.flatten(), label_smoothing=smoothing)
    expected.backward()
    assert abs(float(loss.detach()) - float(expected.detach())) <= 1e-10
    for name, weight in one.named_parameters():
        if weight.grad is not None:
            assert torch.allclose(found[name], weight.grad, atol=1e-10), name
    with torch.no_grad():
        one.eval()
        assert float(objective.loss(one, batch)) == pytest.approx(
            float(F.cross_entropy(logits.flatten(0, 1), told.flatten())), abs=1e-10
        )


@pytest.mark.parametrize("how", [RunStopped, MemoryError])
def test_a_run_learns_and_goes_on_to_the_same_bits(how: type[BaseException], tmp_path: Path) -> None:
    drawn = model(dropout_rate=0.1)
    config = {
        "data": {}, "objective": {"kind": "seq2seq-lm"}, "batch": {"rows": 12}, "steps": 60,
        "optimizer": {"learning_rate": 1e-2}, "evaluation": {"held_out": 6}, "checkpoints": {"every": 30, "keep": 2},
        "journal": {"live": False},
    }  # fmt: skip
    whole, receipt = gs.train({**config, "output": str(tmp_path / "whole")}, model=copy.deepcopy(drawn), rows=ROWS)
    losses = [float(v) for v in (receipt.evaluation["loss"], receipt.evaluation["perplexity"])]
    assert losses[0] < 4.0  # of 5.5, that of no knowledge
    cut = {**config, "output": str(tmp_path / "cut")}
    broken_off(cut, 40, how, model=copy.deepcopy(drawn), rows=ROWS)
    again, _ = gs.train(cut, model=copy.deepcopy(drawn), rows=ROWS, resume="must")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert gs.load(tmp_path / "whole" / "last").family == "t5"


def test_finetune_knows_the_columns_and_refuses_what_is_missing(tmp_path: Path) -> None:
    trained, receipt = gs.finetune(model(), [{"text": one["text"], "summary": one["target"]} for one in ROWS],
                                   epochs=1, measure=False)  # fmt: skip
    assert trained.decoder is not None
    assert receipt.steps > 0
    config = {"objective": {"kind": "seq2seq-lm"}, "output": str(tmp_path / "out"), "steps": 1}
    with pytest.raises(InputError, match="the field 'target' is missing"):
        gs.train(config, model=model(), rows=[{"text": "a"}])
    with pytest.raises(InputError, match=r"label_smoothing is 1"):
        Seq2SeqObjective(label_smoothing=1)


def test_settings_of_a_training_reach_both_stacks() -> None:
    """Rates, recomputation, adapters and falling rates are of the second text's layers, too."""
    from gossamer.models.dropout import set_dropout
    from gossamer.training.config.models import with_recompute
    from gossamer.training.optimization.adapters import AdapterSettings, adapted_maps
    from gossamer.training.optimization.layer_depths import depths_from_top

    one = model(dropout_rate=0.5, num_layers=2, num_decoder_layers=3).double().train()
    batch = batch_of(Seq2SeqObjective())
    restore = set_dropout(one, 0)
    still = [one(**batch).loss for _ in range(2)]
    assert still[0] == still[1]
    (plain,) = torch.autograd.grad(still[0], [one.decoder.cross_attention[0].query.weight])
    one.architecture = with_recompute(one.architecture, "both")
    assert {layer.recompute for layer in one.architecture.decoder.layers} == {"both"}
    (again,) = torch.autograd.grad(one(**batch).loss, [one.decoder.cross_attention[0].query.weight])
    assert torch.equal(plain, again)
    assert get_family("t5").expresses(one.architecture)
    restore()
    one.architecture = model(dropout_rate=0.5, num_layers=2, num_decoder_layers=3).architecture
    assert one(**batch).loss != one(**batch).loss
    maps = adapted_maps(one, AdapterSettings())
    assert {"attention.1.query", "decoder.attention.2.value", "decoder.cross_attention.0.query"} <= set(maps)
    depths = depths_from_top(one)
    names = ("head.decoder.weight", "decoder.final_norm.weight", "decoder.attention.2.query.weight",
             "decoder.cross_attention.0.query.weight", "decoder.distance_bias.0.weight", "final_norm.weight",
             "attention.1.query.weight", "feed_forward.0.up.weight", "embeddings.word.weight")  # fmt: skip
    expected = (None, 0, 1, 3, 1, 3, 4, 5, 6)
    assert tuple(depths.get(name) for name in names) == expected


def test_recomputation_keeps_less_of_the_second_text() -> None:
    one = model(num_decoder_layers=3).train()
    batch = batch_of(Seq2SeqObjective())
    plain = kept_bytes(lambda: one(**batch).loss, one)
    described = one.architecture
    layers = tuple(dataclasses.replace(layer, recompute="both") for layer in described.decoder.layers)
    one.architecture = dataclasses.replace(described, decoder=dataclasses.replace(described.decoder, layers=layers))
    assert kept_bytes(lambda: one(**batch).loss, one) < plain


def test_labels_that_the_decoder_does_not_tell_do_not_count() -> None:
    """What a decoder has no place for is cut; a batch counts for the labels that its loss is the mean of."""
    sizes = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
             "decoder_attention_heads": 2, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8, "vocab_size": 257,
             "max_position_embeddings": 3}  # fmt: skip
    one = Model(get_family("bart").read(sizes, head="seq2seq-lm"), tokenizer=byte_tokenizer()).eval()
    objective = Seq2SeqObjective()
    batch = batch_of(objective)
    given = {name: tensor[:5] for name, tensor in batch.items()} | {"input_ids": batch["input_ids"][:5, :2]}
    given["attention_mask"] = given["attention_mask"][:, :2]
    cut = {**given, "labels": given["labels"][:, :3]}
    assert given["labels"].shape[1] == 5
    assert objective.count_labels(one, given) == int((cut["labels"] != -100).sum())
    with torch.no_grad():
        assert objective.loss(one, given) == one(**cut).loss
    longer = {**given, "labels": torch.full((5, 5), 97)}
    assert objective.count_labels(one, longer) == 15


def test_written_texts_are_scored_and_the_training_is_as_without() -> None:
    """Held-out rows get texts as `generate` writes them, whose scores may choose the best; the weights are the same."""
    drawn = model(dropout_rate=0.1)
    drawn.generation_config = {"num_beams": 2, "num_return_sequences": 2}
    quiet = {"journal.live": False, "optimizer.learning_rate": 1e-2}
    asked = {**quiet, "objective.metrics": ["chrf", "rouge"], "objective.max_new_tokens": 3}
    torch.manual_seed(0)
    plain, _ = gs.finetune(drawn, ROWS[6:], ROWS[:6], epochs=4, settings=quiet)
    torch.manual_seed(0)
    last, receipt = gs.finetune(drawn, ROWS[6:], ROWS[:6], epochs=4, settings=asked)
    assert set(receipt.evaluation) == {"loss", "perplexity", "chrf", "rouge1", "rouge2", "rougeL"}
    assert all(torch.equal(one, last.state_dict()[name]) for name, one in plain.state_dict().items())
    tuned, receipt = gs.finetune(drawn, ROWS[6:], ROWS[:6], epochs=4, settings=asked, metric="chrf")
    found = evaluate(tuned, ROWS[:6], metrics=["chrf", "rouge"])
    texts = gs.generate(tuned, [one["text"] for one in ROWS[:6]])
    best = [texts.texts[texts.prompts.index(i)] for i in range(6)]
    assert found.scores["chrf"] == pytest.approx(chrf(best, [one["target"] for one in ROWS[:6]]))
    assert found.scores["rouge1"] == pytest.approx(rouge(best, [one["target"] for one in ROWS[:6]])["rouge1"])
    assert receipt.best["chrf"] > 0


def test_each_row_is_measured_by_the_text_that_is_written_to_it() -> None:
    one = model(tie_word_embeddings=False).eval()
    with torch.no_grad():  # what is written depends on what is read
        one.decoder.cross_attention[0].output.weight.mul_(100)
        one.decoder.cross_attention[0].value.weight.mul_(100)
    objective = Seq2SeqObjective(metrics=("chrf",), num_beams=2, max_new_tokens=4)
    rows = [LabelledRow(name="r", text=row["text"], label=row["target"]) for row in ROWS[::7]]
    examples = objective.encode(rows, byte_tokenizer(), 64, objective.new_head(), control_tokens=False)
    batch = objective.collate(examples, 0)
    loss, measured = objective.measure_examples(one, batch, examples)
    texts = [gs.generate(one, row.text, beams=2, max_new_tokens=4).texts[0] for row in rows]
    assert len(set(texts)) > 1
    assert measured["written"] == [(text, row.label) for text, row in zip(texts, rows, strict=True)]
    assert torch.equal(loss, objective.loss(one, batch))
    assert objective.measure(one, batch)[1] == {"written": []}
    assert Seq2SeqObjective().measure_examples(one, batch, examples)[1] == {"written": []}


def test_metrics_that_cannot_be_told_are_refused() -> None:
    with pytest.raises(InputError, match=r"metrics is \('meteor',\); it must be a list of some of 'rouge'"):
        Seq2SeqObjective(metrics=("meteor",))
    with pytest.raises(InputError, match="num_beams is 0"):
        Seq2SeqObjective(num_beams=0)
    classifier = gs.load("sample:minilm", head=SequenceClassification(labels=("x", "y")))
    with pytest.raises(InputError, match="the head 'sequence-classification' writes no second text"):
        evaluate(classifier, [{"text": "a", "label": "x"}], metrics=["rouge"])
    with pytest.raises(InputError, match=r"metric is 'bleu'; the objective 'seq2seq-lm' tells 'loss', 'perplexity':"):
        gs.finetune(model(), ROWS, 6, metric="bleu")
    bare = model()
    bare.head, bare.architecture = None, dataclasses.replace(bare.architecture, head=None)
    with pytest.raises(InputError, match="vectors, tokens or second texts; train one"):
        evaluate(bare, ROWS)
