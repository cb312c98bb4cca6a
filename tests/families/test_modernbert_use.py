"""What is done with a ModernBERT: files both ways, half precision, switched heads, compiled, attention, memory."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from live_bytes import LiveBytes
from transformers import ModernBertConfig, ModernBertForMaskedLM

import gossamer as gs
from gossamer.families import get_family
from gossamer.inspection import capture, cost, summary
from gossamer.models import Architecture, Model

FORM = get_family("modernbert")
SIZES = {
    "vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 24,
    "max_position_embeddings": 64, "local_attention": 8, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3,
    "cls_token_id": 2, "sep_token_id": 3,
}  # fmt: skip
CLASSES = {
    "masked-lm": "ForMaskedLM",
    "sequence-classification": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
    "question-answering": "ForQuestionAnswering",
    "multiple-choice": "ForMultipleChoice",
}
IDS = torch.randint(4, 60, (2, 40), generator=torch.Generator().manual_seed(0))
MASK = (torch.arange(40) < torch.tensor([[37], [40]])).long()
REAL = MASK.bool()


def save_theirs(folder: Path, kind: str = "ForMaskedLM", **settings: Any) -> Any:
    """A model of transformers with weights at which nothing is trivial, saved in `folder`."""
    torch.manual_seed(0)
    config = ModernBertConfig(**{**SIZES, **settings}, attn_implementation="eager")
    model = getattr(transformers, f"ModernBert{kind}")(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    model.save_pretrained(folder)
    return model


def scores(model: Any, ids: torch.Tensor = IDS, mask: torch.Tensor = MASK, **more: Any) -> torch.Tensor:
    """Logits, for spans [batch, length, 2]; of each token those of real ones alone."""
    with torch.no_grad():
        out = model(ids, attention_mask=mask, **more)
    is_span = isinstance(out, transformers.modeling_outputs.QuestionAnsweringModelOutput)
    found = torch.stack((out.start_logits, out.end_logits), dim=-1) if is_span else out.logits
    return found[mask.bool()] if found.shape[:2] == ids.shape and ids.dim() == 2 else found


@pytest.mark.parametrize("family", ["modernbert", "gossamer"])
@pytest.mark.parametrize("head", CLASSES)
def test_every_head_goes_through_files_and_back(head: str, family: str, tmp_path: Path) -> None:
    labels = {0: "no", 1: "yes", 2: "who knows"} if head.endswith("-classification") else {}
    named = {"id2label": labels, "label2id": {name: i for i, name in labels.items()}} if labels else {}
    theirs = save_theirs(tmp_path / "theirs", CLASSES[head], classifier_pooling="mean", classifier_bias=True, **named)
    (tmp_path / "theirs" / "README.md").write_text("---\nlicense: mit\n---\n")
    mine = gs.load(tmp_path / "theirs")
    again = gs.load(gs.save(mine, tmp_path / "mine", family=family))
    assert (again.family, again.architecture) == (family, mine.architecture)
    assert again.architecture.head is not None
    assert again.architecture.head.kind == head
    card = (tmp_path / "mine" / "README.md").read_text()
    assert 'license: "mit"' in card
    assert "Attention: full; window 4+4." in card
    assert (f"`transformers.ModernBert{CLASSES[head]}`" in card) == (family == "modernbert")
    rows = (IDS, MASK) if head != "multiple-choice" else (IDS.view(1, 2, 40), MASK.view(1, 2, 40))
    expected = scores(theirs, *rows)
    for model in (mine, again):
        torch.testing.assert_close(scores(model, *rows), expected, rtol=1e-4, atol=1e-4)
    if family == "modernbert":
        read, info = type(theirs).from_pretrained(tmp_path / "mine", output_loading_info=True)
        assert not any(info.values())
        assert read.config.layer_types == theirs.config.layer_types
        before = theirs.state_dict()
        assert all(torch.equal(tensor, before[name]) for name, tensor in read.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_near_as_that_of_transformers(dtype: torch.dtype, tmp_path: Path) -> None:
    exact = scores(save_theirs(tmp_path))
    theirs = ModernBertForMaskedLM.from_pretrained(tmp_path, dtype=dtype, attn_implementation="eager").eval()
    found, expected = scores(gs.load(tmp_path).to(dtype)), scores(theirs)
    assert found.dtype == dtype
    assert (found.float() - exact).norm() <= 1.5 * (expected.float() - exact).norm()


def test_a_switched_head_is_one_whose_columns_of_the_output_map_are(tmp_path: Path) -> None:
    """Off, or at one half; in full layers and in windowed ones."""
    theirs = save_theirs(tmp_path)
    mine = gs.load(tmp_path)
    switches = torch.ones(4, 4)
    switches[0, 2], switches[1, 0], switches[3, 3] = 0.0, 0.5, 0.0
    with torch.no_grad():
        for layer, row in zip(theirs.model.layers, switches, strict=True):
            layer.attn.Wo.weight.mul_(row.repeat_interleave(8))
    found = scores(mine, head_mask=switches)
    torch.testing.assert_close(found, scores(theirs), rtol=1e-4, atol=1e-4)
    assert (found - scores(mine)).abs().max() > 0.1


@pytest.mark.parametrize("head", ["masked-lm", pytest.param("sequence-classification", marks=pytest.mark.slow)])
def test_it_is_compiled_whole_with_its_gradients(head: str, tmp_path: Path) -> None:
    save_theirs(tmp_path, CLASSES[head], classifier_pooling="mean")
    mine = gs.load(tmp_path)
    whole = copy.deepcopy(mine)
    compiled = torch.compile(whole, backend="aot_eager", fullgraph=True)
    labels = IDS if head == "masked-lm" else torch.tensor([0, 1])
    for switches in (None, torch.tensor([[1.0, 0.0, 1.0, 0.5]] * 4)):
        losses, gradients = [], []
        for model, owner in ((mine, mine), (compiled, whole)):
            losses.append(model(IDS, attention_mask=MASK, labels=labels, head_mask=switches).loss)
            gradients.append(torch.autograd.grad(losses[-1], list(owner.parameters())))
        torch.testing.assert_close(losses[1], losses[0])
        torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-5)


def test_attention_weights_are_those_of_transformers(tmp_path: Path) -> None:
    theirs = save_theirs(tmp_path)
    mine = gs.load(tmp_path)
    with torch.no_grad(), capture(mine) as attention:
        mine(IDS)
        expected = theirs(IDS, output_attentions=True).attentions
    for layer, wanted in enumerate(expected):
        torch.testing.assert_close(attention.rows(layer, range(40)), wanted, rtol=1e-4, atol=1e-5)
    seen = [int((attention.rows(layer, [20])[0, 0, 0] > 0).sum()) for layer in range(4)]
    assert seen == [40, 9, 9, 40]


def wide(kind: str, length: int) -> Architecture:
    more = {"hidden_size": 64, "intermediate_size": 96, "max_position_embeddings": length, "local_attention": 128}
    return FORM.read({**SIZES, **more, "layer_types": [kind] * 4})


def test_windowed_layers_alone_run_as_windows() -> None:
    """Their live bytes and computed pairs grow with the text; the pairs of full layers with its square."""
    lengths = (2**13, 2**14)
    windowed, full = (wide(kind, lengths[1]) for kind in ("sliding_attention", "full_attention"))
    model, live = Model(windowed).eval(), []
    for length in lengths:
        with torch.no_grad(), LiveBytes(model) as bytes_now:
            model(torch.ones(1, length, dtype=torch.int64))
        live.append(bytes_now.most)
    assert live[1] == pytest.approx(2 * live[0], rel=0.01)
    assert live[1] == pytest.approx(cost(windowed, lengths[1]).activations, rel=0.15)
    few, many = ([cost(one, length).pair_flops for length in lengths] for one in (windowed, full))
    assert few[1] == pytest.approx(2 * few[0], rel=0.01)
    assert many[1] == pytest.approx(4 * many[0], rel=0.01)
    assert few[1] == pytest.approx(129 / lengths[1] * many[1], rel=0.01)


@pytest.mark.parametrize("family", ["modernbert", "gossamer"])
def test_a_greater_length_is_a_number_in_config_json(family: str, tmp_path: Path) -> None:
    """What `lengthen` and too long texts advise: no weight changes, and transformers gives the same."""
    save_theirs(tmp_path / "public")
    folder = gs.save(gs.load(tmp_path / "public"), tmp_path / "mine", family=family)
    mine, ids = gs.load(folder), IDS.view(1, 80)
    advice = "raise its length (max_position_embeddings in config.json)"
    with pytest.raises(gs.InputError) as caught:
        mine(ids)
    said = "this text is 80 tokens long, the model reads 64: shorten it (truncation=True)"
    assert str(caught.value) == f"{said} or {advice} to 80"
    with pytest.raises(gs.InputError) as caught:
        gs.lengthen(mine, to=80, window=8)
    assert str(caught.value).endswith(f": to read longer texts with it, {advice}, on which no weight depends")
    assert f"* reads 64 tokens at most; {advice} to 96" in str(summary(mine, lengths=[96]))
    config = json.loads((folder / "config.json").read_text())
    if family == "modernbert":
        config["max_position_embeddings"] = 80
    else:
        config["architecture"]["length"] = 80
    (folder / "config.json").write_text(json.dumps(config))
    longer = gs.load(folder)
    theirs = ModernBertForMaskedLM.from_pretrained(tmp_path / "public", max_position_embeddings=80).eval()
    mask = torch.ones_like(ids)
    torch.testing.assert_close(scores(longer, ids, mask), scores(theirs, ids, mask), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scores(longer), scores(mine), rtol=0, atol=1e-5)
