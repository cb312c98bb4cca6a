"""What sentence-transformers' files say of vectors beyond the weights: prompts, sizes, comparison, what is pooled."""

import json
from pathlib import Path

import pytest
from tiny_checkpoints import BERT, build, write

import gossamer as gs
from gossamer.errors import Remark
from gossamer.models import SentenceEmbedding, SequenceClassification

HEAD = SentenceEmbedding(
    pooling="max",
    prompts={"query": "search: ", "passage": ""},  # type: ignore[arg-type]
    default_prompt_name="query",
    include_prompt=False,
    truncate_dim=6,
    similarity_fn_name="dot",
)
SETTINGS = "config_sentence_transformers.json"


def edit(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.fixture
def embedder(tmp_path: Path) -> Path:
    return write(tmp_path / "model", BERT, head=SentenceEmbedding())


@pytest.mark.parametrize("family", [None, "gossamer"])
def test_settings_are_kept_by_load_and_save(tmp_path: Path, family: str | None) -> None:
    directory = gs.save(build(BERT, head=HEAD), tmp_path / "one", family=family)
    model = gs.load(directory)
    assert model.architecture.head == HEAD
    again = gs.load(gs.save(model, tmp_path / "two", family=family))
    assert again.architecture == model.architecture


def test_a_lengthened_model_keeps_its_settings(tmp_path: Path) -> None:
    long, _ = gs.lengthen(build(BERT, head=HEAD), to=32, window=4)
    assert long.architecture.head == HEAD
    assert gs.load(gs.save(long, tmp_path / "long")).architecture.head == HEAD


def test_files_say_what_sentence_transformers_writes(tmp_path: Path) -> None:
    directory = gs.save(build(BERT, head=HEAD), tmp_path / "model")
    assert json.loads((directory / SETTINGS).read_text()) == {
        "model_type": "SentenceTransformer",
        "prompts": {"query": "search: ", "passage": ""},
        "default_prompt_name": "query",
        "truncate_dim": 6,
        "similarity_fn_name": "dot",
    }
    assert json.loads((directory / "1_Pooling" / "config.json").read_text())["include_prompt"] is False


def test_files_of_all_versions_are_read(embedder: Path) -> None:
    (embedder / SETTINGS).unlink()
    assert gs.load(embedder).architecture.head == SentenceEmbedding()
    version = {"__version__": {"sentence_transformers": "2.0.0", "transformers": "4.6.1", "pytorch": "1.8.1"}}
    (embedder / SETTINGS).write_text(json.dumps(version))
    assert gs.load(embedder).architecture.head == SentenceEmbedding()
    newest = {"model_type": "SentenceTransformer", "prompts": {"query": "q: ", "document": None}, "truncate_dim": None}
    (embedder / SETTINGS).write_text(json.dumps({**version, **newest, "similarity_fn_name": None}))
    head = SentenceEmbedding(prompts=(("query", "q: "), ("document", "")))
    assert gs.load(embedder).architecture.head == head
    assert gs.load(embedder, head="embed").architecture.head == head


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"prompts": "query: "}, "prompts is 'query: '; it must be an object, or pairs"),
        ({"prompts": {"query": 3}}, "prompts is {'query': 3}; it must be an object, or pairs"),
        ({"prompts": ["query"]}, "it must be an object, or pairs"),
        ({"default_prompt_name": "query"}, "default_prompt_name is 'query'; it must be None: there are no prompts"),
        ({"prompts": {"a": "b"}, "default_prompt_name": ["a"]}, "default_prompt_name is ['a']; it must be one of"),
        ({"similarity_fn_name": "maxsim"}, "it must be one of 'cosine', 'dot', 'euclidean', 'manhattan'"),
        ({"truncate_dim": 0}, "truncate_dim is 0; it must be a whole number from 1"),
        ({"truncate_dim": True}, "truncate_dim is True; it must be a whole number from 1"),
        ({"model_type": "SparseEncoder"}, "model_type is 'SparseEncoder'; Gossamer reads SentenceTransformer"),
    ],
)
def test_what_the_file_cannot_say_is_refused(embedder: Path, fields: dict[str, object], said: str) -> None:
    edit(embedder / SETTINGS, **fields)
    with pytest.raises(gs.InputError) as caught:
        gs.load(embedder)
    assert str(caught.value).startswith(f"{embedder / SETTINGS}: ")
    assert said in str(caught.value)
    assert gs.load(embedder, head="none").architecture.head is None


def test_include_prompt_is_true_or_false(embedder: Path) -> None:
    edit(embedder / "1_Pooling" / "config.json", include_prompt="no")
    with pytest.raises(gs.InputError, match="include_prompt is 'no'; it must be true or false"):
        gs.load(embedder)


@pytest.mark.parametrize("name", [SETTINGS, "sentence_bert_config.json"])
def test_a_setting_that_is_not_read_is_told(embedder: Path, name: str) -> None:
    edit(embedder / name, query_expansion={"length": 32}, unpad_inputs=None, document_length=None)
    with pytest.warns(Remark, match=rf"{name}: 'query_expansion': not read by Gossamer"):
        gs.load(embedder)


def test_settings_without_modules_file_are_refused(embedder: Path) -> None:
    edit(embedder / SETTINGS, prompts={"query": "q: "})
    (embedder / "modules.json").unlink()
    (embedder / "1_Pooling" / "config.json").unlink()
    (embedder / "1_Pooling").rmdir()
    with pytest.raises(gs.InputError, match=f"but there is {SETTINGS}"):
        gs.load(embedder)
    edit(embedder / SETTINGS, prompts={})
    assert gs.load(embedder).architecture.head is None


def test_a_prompt_is_found_by_name_text_or_default() -> None:
    assert HEAD.resolve_prompt() == "search: "
    assert HEAD.resolve_prompt(prompt_name="passage") == ""
    assert HEAD.resolve_prompt(prompt="title: ") == "title: "
    assert HEAD.resolve_prompt(prompt="") == ""
    assert SentenceEmbedding().resolve_prompt() == ""


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"prompt_name": "queries"},
            "is 'queries'; it must be one of the prompts' names, 'query', 'passage'",
        ),
        ({"prompt_name": 3}, "prompt_name is 3; it must be one of"),
        ({"prompt": "a", "prompt_name": "query"}, "there is a prompt, too; give one of them"),
        ({"prompt": ["a"]}, "prompt is ['a']; it must be a string"),
    ],
)
def test_a_prompt_that_is_none_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(gs.InputError) as caught:
        HEAD.resolve_prompt(**given)  # type: ignore[arg-type]
    assert said in str(caught.value)


@pytest.fixture
def re_ranker(tmp_path: Path) -> Path:
    head = SequenceClassification(labels=("LABEL_0",))
    return write(tmp_path / "re-ranker", {**BERT, "num_labels": 1}, head=head)


def activation_of(directory: Path, **options: str) -> object:
    head = gs.load(directory, **options).architecture.head
    assert isinstance(head, SequenceClassification)
    return head.score_activation


IDENTITY, SIGMOID = "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Sigmoid"
NEWER = {"activation_fn": SIGMOID}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"sentence_transformers": None}, None),
        ({"sentence_transformers": {"version": "5.0.0"}}, None),
        ({"sentence_transformers": {"activation_fn": IDENTITY, "version": "5.0.0"}}, "identity"),
        ({"sentence_transformers": {"activation_fn": SIGMOID}}, "sigmoid"),
        ({"sbert_ce_default_activation_function": "torch.nn.Identity"}, "identity"),
        ({"sbert_ce_default_activation_function": IDENTITY, "sentence_transformers": {}}, "identity"),
        ({"sbert_ce_default_activation_function": IDENTITY, "sentence_transformers": NEWER}, "sigmoid"),
    ],
)
def test_a_cross_encoder_s_activation_is_read_and_kept(
    re_ranker: Path, tmp_path: Path, fields: dict[str, object], expected: str | None
) -> None:
    edit(re_ranker / "config.json", **fields)
    assert activation_of(re_ranker) == expected
    long, _ = gs.lengthen(gs.load(re_ranker), to=32, window=4)
    for directory in (gs.save(gs.load(re_ranker), tmp_path / "again"), gs.save(long, tmp_path / "long")):
        assert activation_of(directory) == expected
        config = json.loads((directory / "config.json").read_text())
        names = {"identity": {"activation_fn": IDENTITY}, "sigmoid": {"activation_fn": SIGMOID}}
        assert config.get("sentence_transformers") == (names[expected] if expected else None)
        assert "sbert_ce_default_activation_function" not in config
    native = gs.save(gs.load(re_ranker), tmp_path / "native", family="gossamer")
    assert activation_of(native) == expected


@pytest.mark.parametrize("value", ["torch.nn.modules.activation.Softmax", "own.Activation", ""])
def test_an_activation_that_is_not_known_is_refused(re_ranker: Path, value: object) -> None:
    edit(re_ranker / "config.json", sentence_transformers={"activation_fn": value})
    with pytest.raises(gs.InputError, match=r"config\.json: score_activation is .*; it must be 'identity', 'sigmoid'"):
        gs.load(re_ranker)
    assert gs.load(re_ranker, head="none").architecture.head is None
    head = SequenceClassification(labels=("LABEL_0",), score_activation="identity")
    assert gs.load(re_ranker, head=head).architecture.head == head


@pytest.mark.parametrize("value", [3, [IDENTITY], {}])
def test_an_activation_that_is_no_name_is_refused(re_ranker: Path, value: object) -> None:
    edit(re_ranker / "config.json", sentence_transformers={"activation_fn": value})
    with pytest.raises(
        gs.InputError, match=r"config\.json: sentence_transformers\.activation_fn is .*; it must be the name"
    ):
        gs.load(re_ranker)


def test_the_newest_files_of_a_cross_encoder_are_read(re_ranker: Path) -> None:
    """modules.json with a Transformer alone, and config_sentence_transformers.json names class and activation."""
    kind = "sentence_transformers.base.modules.transformer.Transformer"
    (re_ranker / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": kind}]))
    (re_ranker / "sentence_bert_config.json").write_text(json.dumps({"transformer_task": "sequence-classification"}))
    settings = {"model_type": "CrossEncoder", "activation_fn": IDENTITY, "prompts": {}, "default_prompt_name": None}
    (re_ranker / SETTINGS).write_text(json.dumps(settings))
    assert activation_of(re_ranker) == "identity"
    edit(re_ranker / "config.json", sentence_transformers={"activation_fn": SIGMOID})
    assert activation_of(re_ranker) == "identity"
    assert gs.load(re_ranker, head="embed").architecture.head == SentenceEmbedding()
