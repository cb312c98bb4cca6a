"""GPT-2's weight files: with and without prefix, with old buffers, in every kind of file, and spoilt ones."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import GPT2Config, GPT2DoubleHeadsModel, GPT2ForSequenceClassification, GPT2LMHeadModel

import gossamer as gs
from gossamer.checkpoints.weights import WeightFiles
from gossamer.models import CausalLM, Model, TokenClassification

transformers.utils.logging.disable_progress_bar()
SIZES = {"vocab_size": 24, "n_positions": 16, "n_embd": 8, "n_layer": 3, "n_head": 2, "n_inner": 12}
IDS = torch.tensor([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 8]])
BUFFERS = {"bias": torch.ones(1, 1, 16, 16).tril().bool(), "masked_bias": torch.tensor(-1e4)}


def theirs(kind: Any = GPT2LMHeadModel, **changes: Any) -> Any:
    torch.manual_seed(0)
    model = kind(GPT2Config(**{**SIZES, **changes})).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    return model


def same(one: Model, other: Model) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    theirs().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def rewrite(directory: Path, edit: Any) -> None:
    path = directory / "model.safetensors"
    tensors = load_file(path)
    changed = edit(tensors)
    save_file(tensors if changed is None else changed, path)


def configure(directory: Path, **changes: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refusal(directory: Path, **options: Any) -> str:
    with pytest.raises(gs.InputError) as caught:
        gs.load(directory, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def as_published(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """As the files of the first GPT-2 are: no prefix, masks among the weights."""
    short = {name.removeprefix("transformer."): one for name, one in tensors.items()}
    masks = {f"h.{i}.attn.{name}": one.clone() for i in range(3) for name, one in BUFFERS.items()}
    return short | masks


def test_files_without_prefix_and_with_old_masks(directory: Path) -> None:
    expected = gs.load(directory)
    assert expected.architecture.head == CausalLM(tied=True)
    rewrite(directory, as_published)
    configure(directory, n_ctx=16, summary_type="cls_index")
    assert same(gs.load(directory), expected)
    tensors = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    # Old .bin files hold the tied table a second time, under the head's name.
    torch.save({**tensors, "lm_head.weight": tensors["wte.weight"]}, directory / "pytorch_model.bin")
    assert same(gs.load(directory), expected)
    configure(directory, architectures=None)
    bare = gs.load(directory)
    assert bare.architecture.head is None
    with torch.no_grad():
        assert torch.equal(bare(IDS).last_hidden_state, expected(IDS).last_hidden_state)


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_shards_hold_the_same_model(directory: Path, tmp_path: Path, safe: bool) -> None:
    expected = gs.load(directory)
    tensors = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    stem, end, write = ("model", "safetensors", save_file) if safe else ("pytorch_model", "bin", torch.save)
    weight_map = {name: f"{stem}-{i % 3 + 1:05}-of-00003.{end}" for i, name in enumerate(sorted(tensors))}
    for file in set(weight_map.values()):
        write({name: tensors[name] for name in tensors if weight_map[name] == file}, directory / file)
    (directory / f"{stem}.{end}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert same(gs.load(directory), expected)


def test_sharded_by_transformers(tmp_path: Path) -> None:
    model = theirs()
    model.save_pretrained(tmp_path, max_shard_size="2KB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    with torch.no_grad():
        torch.testing.assert_close(gs.load(tmp_path)(IDS).logits, model(IDS).logits, rtol=1e-5, atol=1e-5)


def test_every_tensor_is_read_once(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    plain = WeightFiles.read
    monkeypatch.setattr(WeightFiles, "read", lambda self, name: (read.append(name), plain(self, name))[1])
    gs.load(directory)
    assert sorted(read) == sorted(load_file(directory / "model.safetensors"))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_other_types(directory: Path, dtype: str) -> None:
    model = gs.load(directory, dtype=dtype)
    assert {one.dtype for one in model.parameters()} == {getattr(torch, dtype)}
    expected = gs.load(directory).to(getattr(torch, dtype))
    assert same(model, expected)


def test_missing_and_misshapen_tensors_are_named_as_in_the_file(directory: Path) -> None:
    def spoil(tensors: dict[str, Tensor]) -> None:
        del tensors["transformer.h.1.attn.c_attn.weight"]
        tensors["transformer.h.0.attn.c_attn.weight"] = torch.zeros(24, 8)
        tensors["transformer.h.2.attn.c_attn.bias"] = torch.zeros(23)
        tensors["transformer.h.2.mlp.c_fc.weight"] = torch.zeros(12, 8)
        tensors["transformer.h.2.attn.q_attn.weight"] = torch.zeros(1)

    rewrite(directory, spoil)
    said = refusal(directory)
    assert "1 missing: transformer.h.1.attn.c_attn.weight;" in said
    assert "1 unexpected: transformer.h.2.attn.q_attn.weight;" in said
    assert "3 of the wrong shape: " in said
    assert "transformer.h.0.attn.c_attn.weight is [24, 8], not [8, 24]" in said
    assert "transformer.h.2.attn.c_attn.bias is [23], not [24]" in said
    assert "transformer.h.2.mlp.c_fc.weight is [12, 8], not [8, 12]" in said


def test_weights_of_another_kind_are_named_as_in_the_file(directory: Path) -> None:
    name = "transformer.h.0.attn.c_attn.weight"
    rewrite(directory, lambda tensors: {**tensors, name: torch.full((8, 24), 7e4)})
    assert f"tensor '{name}' reaches 7e+04, more than float16 holds" in refusal(directory, dtype="float16")
    rewrite(directory, lambda tensors: {**tensors, name: torch.full((8, 24), torch.nan)})
    assert f"tensor '{name}' holds NaN or infinity" in refusal(directory)


@pytest.mark.parametrize("field", ["vocab_size", "n_positions", "n_embd", "n_inner"])
def test_absurd_sizes_are_refused_before_memory_is_taken(directory: Path, field: str) -> None:
    configure(directory, **{field: 2**24})
    assert "of the wrong shape" in refusal(directory)


def test_layers_that_the_file_lacks_are_not_built(directory: Path) -> None:
    configure(directory, n_layer=1000)
    assert "describes 1000 layers with weights of their own: the file holds 3" in refusal(directory)


def test_a_tied_table_that_differs_is_refused(directory: Path) -> None:
    table = load_file(directory / "model.safetensors")["transformer.wte.weight"]
    rewrite(directory, lambda tensors: {**tensors, "lm_head.weight": table + 1})
    assert "'lm_head.weight' differs from the word table" in refusal(directory)
    configure(directory, tie_word_embeddings=False)
    untied = gs.load(directory)
    assert untied.architecture.head == CausalLM(tied=False)
    assert torch.equal(untied.state_dict()["head.decoder.weight"], table + 1)


def test_an_untied_table_may_be_drawn_from_the_tied_one(directory: Path) -> None:
    tied, untied = gs.load(directory), gs.load(directory, head=CausalLM(tied=False))
    with torch.no_grad():
        assert torch.equal(untied(IDS).logits, tied(IDS).logits)


def test_of_two_heads_the_language_model_is_read(tmp_path: Path) -> None:
    model = theirs(GPT2DoubleHeadsModel)
    model.save_pretrained(tmp_path / "double")
    ours = gs.load(tmp_path / "double")
    assert ours.architecture.head == CausalLM(tied=True)
    with torch.no_grad():
        torch.testing.assert_close(
            ours(IDS).logits, model(IDS, mc_token_ids=torch.tensor([5, 5])).logits, rtol=1e-5, atol=1e-5
        )
    config = json.loads((gs.save(ours, tmp_path / "single") / "config.json").read_text())
    assert config["architectures"] == ["GPT2LMHeadModel"]


@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification", "regression"])
def test_a_classifier_of_the_last_token(tmp_path: Path, problem: str) -> None:
    """The last real token's scores, without bias: read, written, and with the same loss; padding on either side."""
    model = theirs(GPT2ForSequenceClassification, num_labels=3, pad_token_id=0, problem_type=problem)
    model.save_pretrained(tmp_path / "theirs")
    ours = gs.load(tmp_path / "theirs")
    labels = {"single_label_classification": torch.tensor([2, 0])}.get(problem, torch.rand(2, 3).round())
    padded = [torch.tensor([[3, 1, 4, 0, 0], [2, 6, 5, 3, 5]]), torch.tensor([[0, 0, 3, 1, 4], [2, 6, 5, 3, 5]])]
    for ids in (IDS, *padded):
        with torch.no_grad():
            given = {"attention_mask": ids != 0, "labels": labels}
            found, wanted = ours(ids, **given), model(ids, **given)
        torch.testing.assert_close(found.logits, wanted.logits, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found.loss, wanted.loss, rtol=1e-5, atol=1e-5)
    back = GPT2ForSequenceClassification.from_pretrained(gs.save(ours, tmp_path / "ours"))
    assert same(gs.load(tmp_path / "ours"), ours)
    with torch.no_grad():
        torch.testing.assert_close(back(IDS).logits, model(IDS).logits, rtol=0, atol=1e-6)
    assert back.config.problem_type == problem
    bare = gs.load(tmp_path / "theirs", head="none")
    with torch.no_grad():
        torch.testing.assert_close(
            bare(IDS).last_hidden_state, model.transformer(IDS).last_hidden_state, rtol=1e-5, atol=1e-5
        )


def test_a_new_head_is_drawn(directory: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = gs.load(directory, head=TokenClassification(labels=("a", "b")))
    assert model.state_dict()["head.output.weight"].abs().sum() > 0
    assert same(gs.load(gs.save(model, tmp_path / "new")), model)
    embed = gs.load(directory, head="embed")
    with torch.no_grad():
        states = embed(IDS).last_hidden_state
        torch.testing.assert_close(embed(IDS).pooled, states.mean(1))
