"""Dense modules of sentence-transformers folders: kept by load and save; what does not fit is refused in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoints import BERT, as_bin, build, same, write
from torch.nn import functional as F

import gossamer as gs
from gossamer.checkpoints import hub
from gossamer.inspection import summary
from gossamer.models import Architecture, DenseLayer, Model, SentenceEmbedding
from gossamer.models.heads import EmbeddingHead
from gossamer.text import byte_tokenizer

LAYERS = (DenseLayer(size=12), DenseLayer(size=3, bias=False, activation="identity"))
HEAD = SentenceEmbedding(dense=LAYERS, normalized=True)
FIRST = {"in_features": 8, "out_features": 12, "bias": True}
TANH, CONFIG, WEIGHTS = "torch.nn.modules.activation.Tanh", "2_Dense/config.json", "2_Dense/model.safetensors"


@pytest.fixture
def embedder(tmp_path: Path) -> Path:
    return write(tmp_path / "model", BERT, head=HEAD)


def kinds(directory: Path) -> list[str]:
    return [one["path"] for one in json.loads((directory / "modules.json").read_text())]


@pytest.mark.parametrize("activation", ["identity", "tanh", "relu", "gelu", "silu"])
@pytest.mark.parametrize("family", [None, "gossamer"])
def test_they_are_kept_by_load_and_save(tmp_path: Path, family: str | None, activation: Any) -> None:
    head = SentenceEmbedding(dense=(DenseLayer(size=12, activation=activation), *LAYERS[1:]))
    model = build(BERT, head=head)
    again = gs.load(gs.save(model, tmp_path / "one", family=family))
    assert same(again, model)
    assert again.architecture == model.architecture == Architecture.from_dict(model.architecture.to_dict())
    if family is None:
        assert kinds(tmp_path / "one") == ["", "1_Pooling", "2_Dense", "3_Dense"]
        assert not any("dense.0" in name for name in load_file(tmp_path / "one" / "model.safetensors"))
        assert gs.load(tmp_path / "one", head="none").head is None


def test_a_vector_goes_through_them_then_gets_its_length(embedder: Path) -> None:
    model = gs.load(embedder)
    assert kinds(embedder) == ["", "1_Pooling", "2_Dense", "3_Dense", "4_Normalize"]
    assert json.loads((embedder / CONFIG).read_text()) == {**FIRST, "activation_function": TANH}
    ids = torch.tensor([[3, 5, 7]])
    out = model(ids)
    first, second = (load_file(embedder / f"{i}_Dense" / "model.safetensors") for i in (2, 3))
    vector = torch.tanh(F.linear(out.last_hidden_state.mean(dim=1), first["linear.weight"], first["linear.bias"]))
    expected = F.normalize(F.linear(vector, second["linear.weight"]), dim=-1)
    torch.testing.assert_close(out.pooled, expected)
    assert model(ids, segments=torch.ones_like(ids)).pooled is None


def test_the_task_gives_the_model_s_vectors_of_any_length(tmp_path: Path) -> None:
    model = build({**BERT, "vocab_size": 300}, head=HEAD)
    model.tokenizer = byte_tokenizer().with_max_length(16)
    embed = gs.task("embed", model)
    short = embed("ab c")
    torch.testing.assert_close(short.vectors, model(model.tokenizer("ab c")["input_ids"]).pooled)
    assert embed("many words of text " * 3, spans=4).vectors.shape[1] == embed.get_sentence_embedding_dimension() == 3
    long, _ = gs.lengthen(model, to=32, window=4)
    assert long.architecture.head == HEAD
    torch.testing.assert_close(
        gs.task("embed", gs.load(gs.save(long, tmp_path / "long")))("ab c").vectors, short.vectors
    )
    with pytest.raises(gs.InputError, match="truncate_dim is 8; it must be a whole number from 1 to 3"):
        embed("ab", truncate_dim=8)


def test_they_are_counted_and_stored_like_any_map() -> None:
    with_maps, without = build(BERT, head=HEAD).architecture, build(BERT, head=SentenceEmbedding()).architecture
    assert summary(with_maps, [8]).parameters == summary(without, [8]).parameters + 8 * 12 + 12 + 12 * 3
    assert "embed: mean, 12 tanh, 3 identity, length 1" in str(summary(with_maps, [8]))
    assert summary(with_maps, [8]).costs[0].flops == summary(without, [8]).costs[0].flops + 2 * (8 * 12 + 12 * 3)
    assert isinstance(Model(with_maps).head, EmbeddingHead)


def test_a_new_head_draws_them(embedder: Path) -> None:
    head = SentenceEmbedding(dense=(DenseLayer(size=5),))
    model = gs.load(embedder, head=head)
    assert model.architecture.head == head
    assert model.get_parameter("head.dense.0.weight").shape == (5, 8)
    assert model.get_parameter("head.dense.0.weight").std() > 0


def test_old_files_are_read(embedder: Path) -> None:
    """A .bin file; the short name of a class; no name, which is Tanh; fields that say what is usual."""
    expected = gs.load(embedder)
    as_bin(embedder / "2_Dense")
    usual = {"module_input_name": "sentence_embedding", "module_output_name": None, "use_residual": False}
    (embedder / CONFIG).write_text(json.dumps({**FIRST, **usual}))
    second = {"in_features": 12, "out_features": 3, "bias": False, "activation_function": "torch.nn.Identity"}
    (embedder / "3_Dense" / "config.json").write_text(json.dumps(second))
    assert same(gs.load(embedder), expected)
    assert gs.load(embedder).architecture == expected.architecture


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"activation_function": "torch.nn.modules.activation.Softmax"},
            "Softmax'; it must be one of torch.nn.modules",
        ),
        ({"activation_function": "os.system"}, "activation_function is 'os.system'; it must be one of"),
        ({"activation_function": None}, "activation_function is None; it must be one of"),
        ({"activation_function": [TANH]}, "it must be one of"),
        ({"in_features": 7}, "in_features is 7; the vectors before it have 8 numbers"),
        ({"out_features": 0}, "out_features is 0; it must be a whole number from 1"),
        ({"out_features": True}, "out_features is True; it must be a whole number from 1"),
        ({"in_features": "8"}, "in_features is '8'; it must be a whole number from 1"),
        ({"bias": 1}, "bias is 1; it must be true or false"),
        ({"use_residual": True}, "use_residual is True; Gossamer reads Dense with False"),
        ({"module_input_name": "token_embeddings"}, "module_input_name is 'token_embeddings'"),
        ({"module_output_name": "other"}, "module_output_name is 'other'"),
    ],
)
def test_what_a_config_cannot_say_is_refused(embedder: Path, fields: dict[str, Any], said: str) -> None:
    path = embedder / CONFIG
    path.write_text(json.dumps({**FIRST, "activation_function": TANH, **fields}))
    if "in_features" in fields and fields["in_features"] == 7:
        save_file({"linear.weight": torch.ones(12, 7), "linear.bias": torch.ones(12)}, embedder / WEIGHTS)
    with pytest.raises(gs.InputError) as caught:
        gs.load(embedder)
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert gs.load(embedder, head="none").head is None


def test_maps_that_do_not_follow_one_another_are_refused(embedder: Path) -> None:
    (embedder / CONFIG).write_text(json.dumps({**FIRST, "out_features": 11, "bias": False}))
    save_file({"linear.weight": torch.ones(11, 8)}, embedder / WEIGHTS)
    with pytest.raises(gs.InputError, match=r"3_Dense/config\.json: in_features is 12; the vectors before it have 11"):
        gs.load(embedder)


@pytest.mark.parametrize(
    ("order", "is_cross_encoder"),
    [((0, 1, 4, 2, 3), False), ((0, 2, 1), False), ((0, 2), False), ((0, 1, 4, 4), False), ((0, 1, 2, 3), True)],
)
def test_another_order_is_refused(embedder: Path, order: tuple[int, ...], is_cross_encoder: bool) -> None:
    modules = json.loads((embedder / "modules.json").read_text())
    (embedder / "modules.json").write_text(json.dumps([modules[i] for i in order]))
    if is_cross_encoder:
        (embedder / "config_sentence_transformers.json").write_text('{"model_type": "CrossEncoder"}')
    with pytest.raises(gs.InputError, match=r"modules\.json: its modules are .*; Gossamer reads Transformer, Pooling"):
        gs.load(embedder)


def test_damaged_weights_are_refused(embedder: Path) -> None:
    whole, path = (embedder / WEIGHTS).read_bytes(), embedder / WEIGHTS
    tensors = load_file(path)

    def said(change: bytes | dict[str, torch.Tensor] | None) -> str:
        path.unlink()
        if isinstance(change, dict):
            save_file(change, path)
        elif change is not None:
            path.write_bytes(change)
        with pytest.raises(gs.InputError) as caught:
            gs.load(embedder)
        path.write_bytes(whole)
        assert "\n" not in str(caught.value)
        return str(caught.value).removeprefix(f"{embedder}/2_Dense")

    assert said(whole[:-5]).startswith("/model.safetensors: not a whole safetensors file")
    assert said(None).startswith(": no weights there")
    spoilt = {**tensors, "linear.bias": torch.full((12,), torch.nan)}
    assert said(spoilt).startswith("/model.safetensors: tensor 'linear.bias' holds NaN or infinity")
    for wrong in (
        {"linear.weight": tensors["linear.weight"]},
        {**tensors, "linear.scale": torch.ones(1)},
        {**tensors, "linear.bias": torch.ones(3)},
    ):
        assert said(wrong).startswith("/model.safetensors: does not fit its config.json: it holds ")


def test_the_seal_knows_them(tmp_path: Path) -> None:
    directory = gs.save(build(BERT, head=HEAD), tmp_path / "model")
    tensors = load_file(directory / WEIGHTS)
    save_file({name: one + 1 for name, one in tensors.items()}, directory / WEIGHTS)
    with pytest.raises(gs.InputError, match=r"2_Dense/model\.safetensors: differs from gossamer\.json"):
        gs.load(directory)


def test_no_module_of_the_model_before_stays(tmp_path: Path) -> None:
    directory = gs.save(build(BERT, head=HEAD), tmp_path / "model")
    (directory / "notes").mkdir()
    gs.save(build(BERT, head=SentenceEmbedding(normalized=True)), directory)
    folders = sorted(one.name for one in directory.iterdir() if one.is_dir())
    assert folders == ["1_Pooling", "notes"]
    assert gs.load(directory).head is None


def test_pickled_maps_are_fetched_where_the_encoder_is_none(embedder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: list[list[str]] = []

    def snapshot_download(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(embedder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    hub.find_checkpoint("someone/some-model")
    assert len(asked) == 1
    (embedder / WEIGHTS).unlink()
    hub.find_checkpoint("someone/some-model")
    assert len(asked) == 3
    assert asked[-1][-1] == "*_Dense/pytorch_model.bin"
    (embedder / "model.safetensors").unlink()
    hub.find_checkpoint("someone/some-model")
    assert asked[-1][-1] == "pytorch_model*.bin"


@pytest.mark.parametrize(
    ("dense", "said"),
    [
        ([{"size": 0}], r"head\.dense\[0\]\.size is 0; it must be a whole number"),
        ([{"size": 4, "activation": "softmax"}], r"head\.dense\[0\]\.activation is 'softmax'; it must be one of"),
        ([{"size": 4}, {"width": 4}], r"head\.dense\[1\] has unknown fields"),
        ([3], r"head\.dense\[0\] is 3; it must be an object"),
        ({"size": 4}, r"head\.dense is .*; it must be a tuple of DenseLayer"),
    ],
)
def test_a_description_that_is_none_is_refused(dense: Any, said: str) -> None:
    fields = build(BERT).architecture.to_dict()
    with pytest.raises(gs.InputError, match=said):
        Architecture.from_dict({**fields, "head": {"kind": "embed", "dense": dense}})
