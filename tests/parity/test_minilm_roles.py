"""The real MiniLM in every role it can play: bare, with each new head, lengthened, in every file kind and type."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from oracle import BOUND, distance
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import BertModel, PreTrainedModel

import gossamer as gs
from gossamer.models import (
    Head,
    MaskedLM,
    Model,
    MultipleChoice,
    NextSentence,
    PreTraining,
    QuestionAnswering,
    SequenceClassification,
    TokenClassification,
)

TEXTS = ["A thread so light that it floats.", "naïve 東京 🙂 " * 9, "", "The state of the Union is strong. " * 12]
LABELS = ("no", "yes", "perhaps")
HEADS: dict[str, Head] = {
    "BertForMaskedLM": MaskedLM(),
    "BertForPreTraining": PreTraining(),
    "BertForNextSentencePrediction": NextSentence(),
    "BertForSequenceClassification": SequenceClassification(labels=LABELS),
    "BertForTokenClassification": TokenClassification(labels=LABELS),
    "BertForQuestionAnswering": QuestionAnswering(),
    "BertForMultipleChoice": MultipleChoice(),
}
# Those whose weights and outputs have shapes of their own; the others are made of the same parts.
QUICK = ("BertForMaskedLM", "BertForSequenceClassification")
KINDS = ("bin", "old layout", "old bin", "sharded")
SLOW = dict.fromkeys(("old bin", "sharded"), pytest.mark.slow)


@pytest.fixture(scope="module")
def theirs(minilm: Path) -> BertModel:
    return BertModel.from_pretrained(minilm).eval()


@pytest.fixture(scope="module")
def ours(minilm: Path) -> Model:
    return gs.load(minilm)


@pytest.fixture(scope="module")
def batch(ours: Model) -> dict[str, Tensor]:
    assert ours.tokenizer is not None
    return ours.tokenizer(TEXTS)


def states(model: torch.nn.Module, batch: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return model(**batch).last_hidden_state[batch["attention_mask"].bool()]


def equal(one: Model, other: Model) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_bare_encoder(minilm: Path, theirs: BertModel, batch: dict[str, Tensor]) -> None:
    model = gs.load(minilm, head="none")
    assert model.architecture.head is None
    assert distance(states(model, batch), states(theirs, batch)) <= BOUND
    with torch.no_grad():
        assert distance(model(**batch).pooled, theirs(**batch).pooler_output) <= BOUND


def scores(out: object) -> list[Tensor]:
    """The outputs of a head of transformers', in the order in which ours lays them out."""
    names = ("logits", "prediction_logits", "seq_relationship_logits", "start_logits", "end_logits")
    return [getattr(out, name) for name in names if getattr(out, name, None) is not None]


def our_scores(out: gs.models.Output, head: Head) -> list[Tensor]:
    assert out.logits is not None
    if isinstance(head, PreTraining):
        assert out.pair_logits is not None
        return [out.logits, out.pair_logits]
    return list(out.logits.unbind(-1)) if isinstance(head, QuestionAnswering) else [out.logits]


@pytest.mark.parametrize("name", [pytest.param(one, marks=() if one in QUICK else pytest.mark.slow) for one in HEADS])
def test_every_head_drawn_anew(
    name: str, minilm: Path, theirs: BertModel, batch: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = gs.load(minilm, head=HEADS[name])
    if name != "BertForMultipleChoice":  # reads several texts as one row
        assert distance(states(model, batch), states(theirs, batch)) <= BOUND
    gs.save(model, tmp_path / "copy")
    other, info = getattr(transformers, name).from_pretrained(tmp_path / "copy", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    inputs = {key: one[:, None] for key, one in batch.items()} if name.endswith("MultipleChoice") else batch
    kept = batch["attention_mask"].bool()
    with torch.no_grad():
        mine, reference = our_scores(model(**inputs), HEADS[name]), scores(other.eval()(**inputs))
    assert len(mine) == len(reference)
    for one, expected in zip(mine, reference, strict=True):
        per_token = expected.shape[:2] == kept.shape and name.endswith(("LM", "TokenClassification", "Answering"))
        per_token = per_token or (name.endswith("PreTraining") and expected.shape[:2] == kept.shape)
        assert distance(one[kept] if per_token else one, expected[kept] if per_token else expected) <= BOUND


def test_lengthened_it_is_a_longformer(
    minilm: Path, theirs: BertModel, batch: dict[str, Tensor], tmp_path: Path
) -> None:
    model, _ = gs.lengthen(gs.load(minilm, head="none"), to=1024, window=256)
    short = {name: one[:, :64] for name, one in batch.items()}
    assert distance(states(model, short), states(theirs, short)) <= BOUND
    gs.save(model, tmp_path / "long")
    other = transformers.LongformerModel.from_pretrained(tmp_path / "long").eval()
    ids = torch.randint(1000, 30000, (1, 700), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = other(ids, global_attention_mask=(torch.arange(700) == 0).long()[None]).last_hidden_state
        assert distance(model(ids).last_hidden_state, expected) <= BOUND
        gs.save(model, tmp_path / "long", family="gossamer")
        assert torch.equal(gs.load(tmp_path / "long")(ids).last_hidden_state, model(ids).last_hidden_state)


def copy(minilm: Path, place: Path, kind: str) -> Path:
    """The sample model's files with the weights in another kind of file."""
    shutil.copytree(minilm, place, ignore=shutil.ignore_patterns("*.safetensors", "data_config.json"))
    tensors = load_file(minilm / "model.safetensors")
    match kind:
        case "bin":
            torch.save(tensors, place / "pytorch_model.bin")
        case "old bin":
            torch.save(tensors, place / "pytorch_model.bin", _use_new_zipfile_serialization=False)
        case "sharded":
            weight_map = {name: f"model-{i % 3 + 1:05}-of-00003.safetensors" for i, name in enumerate(tensors)}
            for file in set(weight_map.values()):
                save_file({name: tensors[name] for name in tensors if weight_map[name] == file}, place / file)
            (place / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
        case "old layout":
            (place / "0_Transformer").mkdir()
            for file in ("config.json", "sentence_bert_config.json", "tokenizer.json", "tokenizer_config.json"):
                (place / file).rename(place / "0_Transformer" / file)
            (place / "0_Transformer" / "model.safetensors").symlink_to(minilm / "model.safetensors")
            modules = json.loads((place / "modules.json").read_text())
            modules[0]["path"] = "0_Transformer"
            (place / "modules.json").write_text(json.dumps(modules))
    return place


@pytest.mark.parametrize("kind", [pytest.param(one, marks=SLOW.get(one, ())) for one in KINDS])
def test_every_kind_of_file(kind: str, minilm: Path, ours: Model, tmp_path: Path) -> None:
    found = gs.load(copy(minilm, tmp_path / "copy", kind))
    assert equal(found, ours)
    assert found.architecture == ours.architecture
    assert found.tokenizer is not None
    assert found.tokenizer.max_length == 256


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_near_as_theirs(
    dtype: torch.dtype, minilm: Path, theirs: BertModel, batch: dict[str, Tensor]
) -> None:
    """The weights are theirs to the bit; the outputs no further from float32 than theirs, within a factor of two."""
    model, other = gs.load(minilm, head="none", dtype=dtype), BertModel.from_pretrained(minilm, dtype=dtype).eval()
    word = model.state_dict()["embeddings.word.weight"]
    assert torch.equal(word, other.get_input_embeddings().weight)
    reference = states(theirs, batch)
    mine, its = (distance(states(one, batch).float(), reference) for one in (model, other))
    assert 0 < mine <= 2 * its


def test_saved_and_read_by_both(minilm: Path, ours: Model, theirs: PreTrainedModel, tmp_path: Path) -> None:
    gs.save(ours, tmp_path / "copy")
    assert equal(gs.load(tmp_path / "copy"), ours)
    other = BertModel.from_pretrained(tmp_path / "copy")
    expected = theirs.state_dict()
    assert all(torch.equal(one, expected[name]) for name, one in other.state_dict().items())
