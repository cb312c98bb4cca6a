"""Every way weights are stored, and everything that can be wrong with them."""

import json
import pickle
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoints import BERT, LONGFORMER, as_bin, edit_config, edit_weights, same, write

import gossamer as gs
from gossamer.errors import Remark
from gossamer.models import Model, TokenClassification

PARTS = ("attention", "feed_forward")


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return write(tmp_path / "bert", BERT)


def refusal(directory: Path, **options: object) -> str:
    """The message of the InputError that loading raises: one line."""
    with pytest.raises(gs.InputError) as caught:
        gs.load(directory, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    return message


def shard(directory: Path) -> None:
    tensors = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    weight_map = {name: f"model-{i % 2 + 1:05}-of-00002.safetensors" for i, name in enumerate(tensors)}
    for file in set(weight_map.values()):
        save_file({name: tensors[name] for name in tensors if weight_map[name] == file}, directory / file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before torch 1.6"])
def test_bin_holds_the_same_model(bert: Path, legacy: bool) -> None:
    expected = gs.load(bert)
    as_bin(bert, _use_new_zipfile_serialization=not legacy)
    assert same(gs.load(bert), expected)


def test_sharded_safetensors_hold_the_same_model(bert: Path) -> None:
    expected = gs.load(bert)
    shard(bert)
    assert same(gs.load(bert), expected)


def test_sharded_bin_holds_the_same_model(bert: Path) -> None:
    expected = gs.load(bert)
    tensors = load_file(bert / "model.safetensors")
    (bert / "model.safetensors").unlink()
    weight_map = {name: f"pytorch_model-{i % 2}.bin" for i, name in enumerate(tensors)}
    for file in set(weight_map.values()):
        torch.save({name: tensors[name] for name in tensors if weight_map[name] == file}, bert / file)
    (bert / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert same(gs.load(bert), expected)


def test_old_names_and_buffers_are_understood(bert: Path) -> None:
    expected = gs.load(bert)

    def age(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        names = {name: re.sub("LayerNorm.(weight|bias)$", lambda m: old[m[0]], name) for name in tensors}
        aged = {f"bert.{names[name]}": tensor for name, tensor in tensors.items()}
        buffers = {
            "bert.embeddings.position_ids": torch.arange(16)[None],
            "cls.seq_relationship.weight": torch.ones(2, 8),
        }
        return aged | buffers

    edit_weights(bert, age)
    assert same(gs.load(bert), expected)


@pytest.mark.parametrize("config", [BERT, LONGFORMER], ids=["bert", "longformer"])
def test_masked_lm_checkpoint_plays_every_role(tmp_path: Path, config: dict[str, object]) -> None:
    directory = write(tmp_path / "model", config, head="masked-lm", pooler=False)
    ids = torch.tensor([[3, 4, 5]])
    assert gs.load(directory)(ids).logits.shape == (1, 3, 20)
    assert gs.load(directory, head="none")(ids).logits is None
    embed = gs.load(directory, head="embed")
    torch.testing.assert_close(embed(ids).pooled, embed(ids).last_hidden_state.mean(1))


def test_missing_head_is_refused_with_the_remedy(bert: Path) -> None:
    message = refusal(bert, head="masked-lm")
    assert "cls.predictions.transform.dense.weight" in message
    assert "head='none'" in message


def test_everything_wrong_is_reported_at_once(bert: Path) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["encoder.layer.0.output.dense.weight"]
        tensors["embeddings.word_embeddings.weight"] = torch.zeros(21, 8)
        tensors["encoder.layer.7.surprise"] = torch.zeros(1)

    edit_weights(bert, spoil)
    message = refusal(bert)
    assert "1 missing: encoder.layer.0.output.dense.weight" in message
    assert "1 unexpected: encoder.layer.7.surprise" in message
    assert "embeddings.word_embeddings.weight is [21, 8], not [20, 8]" in message
    assert "model.safetensors" in message


FOREIGN = {"linear.weight": torch.ones(4, 8), "crf.transitions": torch.ones(3, 3)}


@pytest.mark.filterwarnings("ignore::gossamer.errors.Remark")
@pytest.mark.parametrize("prefix", ["", "bert."])
@pytest.mark.parametrize("head", ["none", "embed", TokenClassification(labels=("a", "b"))])
def test_a_head_of_others_is_left_out_with_a_remark(bert: Path, head: Any, prefix: str) -> None:
    expected = gs.load(bert, head="none")
    edit_weights(bert, lambda tensors: {f"{prefix}{name}": one for name, one in tensors.items()} | FOREIGN)
    edit_config(bert, architectures=["HF_ColBERT"])
    assert "load the encoder alone with head='none'" in refusal(bert)
    model = gs.load(bert, head=head)
    said = "model.safetensors: 2 tensors of a head that is not read: crf.transitions, linear.weight"
    assert [one.endswith(said) for one in model.notes] == [True]
    state = model.state_dict()
    shared = {name for name in expected.state_dict() if not name.startswith("pooler.")}
    assert all(torch.equal(state[name], expected.state_dict()[name]) for name in shared)


def test_a_known_head_with_a_tensor_more_is_refused_with_the_remedy(tmp_path: Path) -> None:
    directory = write(tmp_path / "model", BERT, head=TokenClassification(labels=("a", "b")), pooler=False)
    edit_weights(directory, lambda tensors: tensors | {"crf.transitions": torch.ones(3, 3)})
    assert "1 unexpected: crf.transitions; the encoder alone loads with head='none'" in refusal(directory)
    assert refusal(directory, head="token-classification").endswith("loads with head='none'")
    with pytest.warns(Remark) as told:
        notes = gs.load(directory, head="none").notes
    assert [str(one.message) for one in told] == notes
    assert len(notes) == 1


@pytest.mark.parametrize("name", ["encoder.layer.7.surprise", "encoder.gate", "embeddings.more.weight", "bert.adapter"])
def test_a_tensor_more_inside_the_encoder_is_never_left_out(bert: Path, name: str) -> None:
    edit_weights(bert, lambda tensors: tensors | {name: torch.ones(2)})
    message = refusal(bert, head="none")
    assert f"1 unexpected: {name}" in message
    assert "head='none'" not in message


def test_missing_names_are_spelled_as_in_the_file(bert: Path) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        del tensors["encoder.layer.0.output.dense.weight"]
        return {f"bert.{name}": tensor for name, tensor in tensors.items()}

    edit_weights(bert, spoil)
    assert "1 missing: bert.encoder.layer.0.output.dense.weight" in refusal(bert)
    assert ", cls.predictions.transform.dense.weight" in refusal(bert, head="masked-lm")


@pytest.mark.parametrize("prefix", ["module.", "model.", "module.bert.", "student.model."])
def test_foreign_prefix_is_named(bert: Path, prefix: str) -> None:
    edit_weights(bert, lambda tensors: {f"{prefix}{name}": tensor for name, tensor in tensors.items()})
    assert f"strip the prefix '{prefix.replace('bert.', '')}'" in refusal(bert)


def test_many_problems_are_counted_not_listed(bert: Path) -> None:
    edit_weights(bert, lambda tensors: {name: one for name, one in tensors.items() if "output" not in name})
    message = refusal(bert)
    assert "more" in message
    assert len(message) < 800


@pytest.mark.parametrize("family", ["bert", "gossamer"])
def test_layers_that_the_file_lacks_are_not_built(
    bert: Path, family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = gs.save(gs.load(bert), tmp_path / "model", family=family)
    if family == "bert":
        edit_config(path, num_hidden_layers=1024)
    else:
        config = json.loads((path / "config.json").read_text())["architecture"]
        first = config["layers"][0]
        layers = [{**first, **{part: {**first[part], "weights": i} for part in PARTS}} for i in range(1024)]
        edit_config(path, architecture={**config, "layers": layers})
    monkeypatch.setattr(sys.modules["gossamer.checkpoints.load"], "Model", None)
    assert "describes 1024 layers with weights of their own: the file holds 2" in refusal(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vocab_size", 2**31 - 1),
        ("hidden_size", 2**24),
        ("intermediate_size", 2**24),
        ("max_position_embeddings", 2**31 - 1),
    ],
)
def test_absurd_sizes_are_refused_before_memory_is_taken(bert: Path, field: str, value: int) -> None:
    edit_config(bert, **{field: value})
    assert "of the wrong shape" in refusal(bert)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(bert: Path, bad: float) -> None:
    edit_weights(bert, lambda tensors: tensors | {"pooler.dense.bias": torch.full((8,), bad)})
    assert "'pooler.dense.bias' holds NaN or infinity" in refusal(bert)


@pytest.mark.parametrize("form", ["safetensors", "bin"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64])
def test_types_that_no_model_computes_in_are_refused(bert: Path, dtype: torch.dtype, form: str) -> None:
    edit_weights(bert, lambda tensors: tensors | {"pooler.dense.bias": torch.ones(8).to(dtype)})
    if form == "bin":
        as_bin(bert)
    kind = str(dtype).removeprefix("torch.")
    assert f"'pooler.dense.bias' holds {kind}; convert it to float32" in refusal(bert)


def test_a_tensor_under_two_names_is_refused(bert: Path) -> None:
    edit_weights(bert, lambda tensors: tensors | {"bert.pooler.dense.bias": torch.ones(8)})
    assert "are the same one" in refusal(bert)


def test_tied_table_that_differs_is_refused(tmp_path: Path) -> None:
    directory = write(tmp_path / "model", BERT, head="masked-lm", pooler=False)
    expected = gs.load(directory)
    table = load_file(directory / "model.safetensors")["bert.embeddings.word_embeddings.weight"]
    edit_weights(directory, lambda tensors: tensors | {"cls.predictions.decoder.weight": table.clone()})
    assert same(gs.load(directory), expected)
    edit_weights(directory, lambda tensors: tensors | {"cls.predictions.decoder.weight": table + 1})
    assert "tie_word_embeddings" in refusal(directory)


@pytest.mark.parametrize("keep", [0, 4, 7, 100, -1])
@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_truncated_weights_are_refused(bert: Path, keep: int, form: str) -> None:
    path = as_bin(bert) if form == "bin" else bert / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert path.name in refusal(bert)


def loaded_or_refused(directory: Path) -> Model | str:
    try:
        return gs.load(directory)
    except gs.InputError as problem:
        return str(problem)


def test_flipped_bits_in_a_header_are_refused(bert: Path) -> None:
    path = bert / "model.safetensors"
    whole, expected = path.read_bytes(), gs.load(bert)
    for place in range(0, 200, 3):
        for bit in (0, 6):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            found = loaded_or_refused(bert)
            # A flip inside the free-form metadata changes nothing.
            assert "\n" not in found if isinstance(found, str) else same(found, expected)


def test_flipped_bit_in_a_bin_is_refused(bert: Path) -> None:
    path = as_bin(bert)
    whole = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda one: one.file_size)
    whole[largest.header_offset + 200 + largest.file_size // 2] ^= 1
    path.write_bytes(whole)
    assert f"record '{largest.filename}' is damaged" in refusal(bert)
    path.write_bytes(bytes(whole[:40]) + bytes(60) + bytes(whole[100:]))
    assert "not a whole torch file" in refusal(bert) or "is damaged" in refusal(bert)


class Trap:
    """Pickles as a call that leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.trace,))


@pytest.mark.parametrize("plain", [False, True], ids=["torch.save", "pickle.dump"])
def test_pickled_code_is_refused_and_never_run(bert: Path, tmp_path: Path, plain: bool) -> None:
    trace, path = tmp_path / "ran", as_bin(bert)
    if plain:
        path.write_bytes(pickle.dumps({"weight": Trap(trace)}))
    else:
        torch.save({"weight": Trap(trace)}, path)
    assert "pickled code" in refusal(bert)
    assert not trace.exists()


@pytest.mark.parametrize(
    "content", [[1, 2], {"weight": 3}, {3: torch.ones(1)}, {}, {"weight": {"nested": torch.ones(1)}}]
)
def test_bin_with_something_else_is_refused(bert: Path, content: object) -> None:
    torch.save(content, as_bin(bert))
    assert "it must" in refusal(bert)


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (torch.zeros(1, 1).expand(2**31 - 1, 32), "[2147483647, 32], more than the file holds"),
        (torch.zeros(20, 8, device="meta"), "lies on 'meta'"),
    ],
)
def test_bin_that_claims_more_than_it_holds_is_refused(bert: Path, tensor: torch.Tensor, said: str) -> None:
    torch.save({"embeddings.word_embeddings.weight": tensor}, as_bin(bert))
    message = refusal(bert)
    assert "'embeddings.word_embeddings.weight'" in message
    assert said in message


def test_missing_files_are_named(bert: Path) -> None:
    (bert / "model.safetensors").unlink()
    assert "no weights there" in refusal(bert)
    (bert / "config.json").unlink()
    assert "config.json: no such file" in refusal(bert)


def test_missing_shard_is_named(bert: Path) -> None:
    shard(bert)
    (bert / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors, which is not there" in refusal(bert)


def test_index_that_names_the_wrong_shard_is_refused(bert: Path) -> None:
    shard(bert)
    path = bert / "model.safetensors.index.json"
    weight_map = json.loads(path.read_text())["weight_map"]
    one, two = sorted(set(weight_map.values()))
    name = next(name for name, file in weight_map.items() if file == one)
    path.write_text(json.dumps({"weight_map": {**weight_map, name: two}}))
    assert f"tensor '{name}' is in {two}, but it is in {one}" in refusal(bert)
    path.write_text(json.dumps({"weight_map": {**weight_map, "ghost": two}}))
    assert f"tensor 'ghost' is in {two}, but none has it" in refusal(bert)


@pytest.mark.parametrize("weight_map", [None, [], {}, {"a": 3}, {"a": "../b"}, {"a": "/b"}, {"a": "b\0"}, {"a": ["b"]}])
def test_index_that_points_elsewhere_is_refused(bert: Path, weight_map: object) -> None:
    (bert / "model.safetensors").unlink()
    (bert / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert "index.json" in refusal(bert)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64", torch.float16])
def test_weights_are_read_in_the_type_asked_for(bert: Path, dtype: str | torch.dtype) -> None:
    expected = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    assert {one.dtype for one in gs.load(bert, dtype=dtype).parameters()} == {expected}


def test_weights_too_large_for_the_type_asked_for_are_refused(bert: Path) -> None:
    edit_weights(bert, lambda tensors: tensors | {"pooler.dense.bias": torch.full((8,), -7e4)})
    assert "'pooler.dense.bias' reaches 7e+04, more than float16 holds" in refusal(bert, dtype="float16")
    gs.load(bert, dtype="bfloat16")


@pytest.mark.parametrize(
    "options", [{"dtype": "int8"}, {"dtype": torch.int8}, {"device": "toaster"}, {"head": "classify"}]
)
def test_arguments_are_checked(bert: Path, options: dict[str, object]) -> None:
    assert next(iter(options)) in refusal(bert, **options)
