"""The verbs zero-shot, rank, similar, rewrite, summarize, translate and run on small models."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import gossamer as gs
from gossamer.cli.command import VERBS
from gossamer.cli.run import RUN_TASKS
from gossamer.cli.spooled_texts import SpooledTexts
from gossamer.cli.texts import Text
from gossamer.families import get_family
from gossamer.models import Model, SequenceClassification, TokenClassification
from gossamer.tasks import TASKS
from gossamer.text import byte_tokenizer

Command = Callable[..., Any]
PARAMS = {
    "summarization": {"prefix": "sum: "},
    "translation_en_to_de": {"prefix": "German: "},
    "translation_en_to_fr": {"prefix": "French: "},
}
ROWS = [{"text": "a cat", "id": 1}, {"text": "the wide sea", "id": 2}, {"text": "a dog and a cat", "id": 3}]


@pytest.fixture(scope="session")
def models(small: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    heads = {
        "nli": SequenceClassification(labels=("contradiction", "neutral", "entailment")),
        "ranker": SequenceClassification(labels=("fits",)),
        "tagger": TokenClassification(labels=("B-PER", "I-PER")),
    }
    made = {name: gs.save(gs.load(small, head=head), folder / name) for name, head in heads.items()}
    sizes = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 1, "num_heads": 2, "vocab_size": 257,
             "eos_token_id": 256, "decoder_start_token_id": 256}  # fmt: skip
    for name, params in (("t5", PARAMS), ("plain", None)):
        described = get_family("t5").read(sizes, head="seq2seq-lm")
        writer = Model(described, family="t5", tokenizer=byte_tokenizer().with_max_length(60))
        with torch.no_grad():
            for weight in writer.parameters():
                weight.add_(torch.randn_like(weight) * 0.5)
        writer.extra_config = {} if params is None else {"task_specific_params": params}
        made[name] = gs.save(writer, folder / name)
    return {**made, "encoder": small}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


TEXTS = [str(row["text"]) for row in ROWS]


def test_zero_shot(gossamer: Command, models: dict[str, Path], rows: Path, tmp_path: Path) -> None:
    args = ("zero-shot", models["nli"], rows, "-l", "pets", "--label", "the sea")
    found = gs.task("zero-shot", gs.load(models["nli"]))(TEXTS, ["pets", "the sea"], template="On {}", multi_label=True)
    done = gossamer(*args, "--template", "On {}", "--multi-label", "--json")
    assert [one["labels"] for one in done.json["texts"]] == found.to_dict()["labels"]
    assert [one["id"] for one in done.json["texts"]] == [1, 2, 3]
    assert done.json["multi_label"] is True
    assert gossamer(*args, "--out", tmp_path / "out.jsonl").code == 0
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 3
    assert "pets" in gossamer(*args).out
    refused = gossamer("zero-shot", models["nli"], "a", "-l", "x", "--template", "no")
    assert "template is 'no'; it must hold {} where the label stands" in refused.error
    refused = gossamer("zero-shot", models["ranker"], "a", "-l", "x")
    assert (refused.code, "needs one that begins with 'entail'" in refused.error) == (2, True)


def test_rank(gossamer: Command, models: dict[str, Path], rows: Path, tmp_path: Path) -> None:
    found = gs.task("rank", gs.load(models["ranker"]))("which pet?", TEXTS).texts[0]
    done = gossamer("rank", models["ranker"], "which pet?", rows, "--json")
    assert [(one["score"], one["text"]) for one in done.json["texts"]] == [(one.score, one.text) for one in found]
    assert [one["rank"] for one in done.json["texts"]] == [1, 2, 3]
    assert [one["id"] for one in done.json["texts"]] == [ROWS[one.index]["id"] for one in found]
    assert [one["source"] for one in done.json["texts"]] == [f"{rows}:{one.index + 1}" for one in found]
    out = tmp_path / "out.jsonl"
    assert gossamer("rank", models["ranker"], "which pet?", rows, "--top-k", 2, "--out", out).code == 0
    assert [json.loads(line) for line in out.read_text().splitlines()] == done.json["texts"][:2]
    page = gossamer("rank", models["ranker"], "which pet?", rows).out.splitlines()
    assert page[0] == "which pet?"
    assert f"{rows}:{found[0].index + 1}"[-12:] in "".join(page)


def test_similar(gossamer: Command, models: dict[str, Path], rows: Path) -> None:
    found = gs.task("similar", gs.load(models["encoder"]))("the ocean", TEXTS, top_k=2).neighbours[0]
    done = gossamer("similar", models["encoder"], "the ocean", rows, "--top-k", 2, "--json")
    assert [(one["score"], one["text"], one["span"]) for one in done.json["texts"]] == [
        (one.score, one.text, [one.start, one.end]) for one in found
    ]
    assert done.json["compared"] == 3
    spans = gossamer("similar", models["encoder"], "the ocean", rows, "--spans", 1, "--json").json
    assert spans["compared"] > 3
    assert gossamer("similar", models["encoder"], " ", rows).error == "gossamer: QUERY is ' '; ask for something"


@pytest.mark.parametrize("verb", ["rank", "similar"])
def test_sorted_texts_that_cannot_be_read_are_left_out(
    gossamer: Command, models: dict[str, Path], tmp_path: Path, verb: str
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a"}\n{"text": ""}\nno json\n{"text": "b", "id": 4}\n')
    model = models["ranker" if verb == "rank" else "encoder"]
    done = gossamer(verb, model, "a", "--file", file, "--json")
    assert done.code == 2
    assert {one["source"] for one in done.json["texts"]} == {f"{file}:1", f"{file}:4"}
    assert done.err.splitlines()[0].startswith(f"gossamer: left out: {file}:2: the text is empty")
    assert done.err.splitlines()[1].startswith(f"gossamer: left out: {file}:3: is no JSON")
    file.write_text('{"text": ""}\n{"text": ""}\n')
    assert f"{file}:1: the text is empty" in gossamer(verb, model, "a", "--file", file).error


def test_texts_are_written_a_line_each(gossamer: Command, models: dict[str, Path], rows: Path, tmp_path: Path) -> None:
    of = gs.load(models["t5"])
    expected = gs.task("rewrite", of)(TEXTS, prefix="x: ", max_new_tokens=6, beams=2).texts
    options = ("--prefix", "x: ", "--max-new-tokens", 6, "--beams", 2)
    assert gossamer("rewrite", models["t5"], rows, *options).out == "".join(f"{text}\n" for text in expected)
    found = gossamer("rewrite", models["t5"], rows, *options, "--json").json
    assert [(one["text"], one["id"]) for one in found["texts"]] == list(zip(expected, (1, 2, 3), strict=True))
    out = tmp_path / "out.jsonl"
    assert gossamer("rewrite", models["t5"], rows, *options, "--out", out).code == 0
    assert [json.loads(line) for line in out.read_text().splitlines()] == found["texts"]


def test_the_files_settings_and_languages_reach_the_verbs(gossamer: Command, models: dict[str, Path]) -> None:
    of, most = gs.load(models["t5"]), ("--max-new-tokens", 5)
    summary = gs.task("summarize", of)("a cat", max_new_tokens=5).texts[0]
    assert gossamer("summarize", models["t5"], "a cat", *most).out == f"{summary}\n"
    assert summary == gs.generate(of, ["sum: a cat"], max_new_tokens=5).texts[0]
    french = gs.generate(of, ["French: a cat"], max_new_tokens=5).texts[0]
    assert gossamer("translate", models["t5"], "a cat", "--to", "fr", *most).out == f"{french}\n"
    for args, said in (
        (("--to", "xx"), "--from is None and --to 'xx'; the model translates en to de, en to fr"),
        ((), "name one, such as --from en --to de"),
    ):
        assert said in gossamer("translate", models["t5"], "a cat", *args).error
    refused = gossamer("translate", models["plain"], "a cat", "--to", "fr").error
    assert "--to is 'fr', but the model's files name no languages: leave it out" in refused


def test_long_texts_are_read_in_parts(gossamer: Command, models: dict[str, Path]) -> None:
    text = "A cat sat here. The dog barked! Was it late? " * 4
    for verb, more in (("summarize", ("--merge", "again")), ("translate", ("--by-sentence",)), ("rewrite", ())):
        done = gossamer(verb, models["plain"], text, *more, "--max-new-tokens", 4, "--json")
        assert done.code == 0
        assert done.json["texts"][0]["passes"] > 3
        said = "" if verb == "translate" else "argument 1 is 180 tokens long, the model reads 60: read in parts"
        assert said in done.err
        whole = gossamer(verb, models["plain"], text, "--max-length", 180, "--max-new-tokens", 4, "--json")
        assert whole.json["texts"][0]["passes"] == 1
    refused = gossamer("rewrite", models["plain"], text, "--long", "error").error
    assert "--max-length 180 reads it at once" in refused


def test_run_is_the_verb_of_the_task(gossamer: Command, models: dict[str, Path], rows: Path) -> None:
    for name, alias, model in (("tag", "ner", "tagger"), ("similar", "semantic-search", "encoder")):
        query = ("sea",) if name == "similar" else ()
        expected = gossamer(name, models[model], *query, rows, "--json")
        assert expected.code == 0
        for called in (name, alias):
            done = gossamer("run", called, models[model], *query, rows, "--json")
            assert (done.code, done.out) == (0, expected.out)
    page = gossamer("run", "--help").out
    assert all(f"  {name} " in page for name in RUN_TASKS)
    assert set(TASKS) | {"predict"} == set(RUN_TASKS)
    assert set(RUN_TASKS) < set(VERBS)
    refused = gossamer("run", "nothing", "x")
    assert (refused.code, refused.error) == (2, "gossamer: No such command 'nothing'; see 'gossamer run --help'")
    assert gossamer("help", "run", "tag").out.strip() == gossamer("run", "tag", "--help").out.strip()


def test_predict_is_run_with_the_models_own_head(
    gossamer: Command, models: dict[str, Path], rows: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    assert gossamer("run", "predict", models["t5"], rows, "--out", out).code == 0
    expected = gs.task("rewrite", gs.load(models["t5"]))(TEXTS).texts
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert found == [row | {"prediction": text} for row, text in zip(ROWS, expected, strict=True)]
    rows.write_text('{"text": "a"}\n{"body": 1}\nno json\n{"text": "b"}\n')
    done = gossamer("predict", models["ranker"], rows, "--out", out)
    assert done.code == 2
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert ["prediction" in row for row in found] == [True, False, False, True]
    assert found[1]["error"] == f"{rows}:2: the field 'text' is None; it must be a text (--column)"


def test_generate_writes_rows(gossamer: Command, models: dict[str, Path], rows: Path, tmp_path: Path) -> None:
    out, options = tmp_path / "out.jsonl", ("--max-new-tokens", 5, "--beams", 3, "--returned", 2, "--seed", 1)
    assert gossamer("generate", models["t5"], rows, *options, "--out", out).out.strip() == f"6 rows written to {out}"
    expected = gossamer("generate", models["t5"], rows, *options, "--json").json["texts"]
    assert [json.loads(line) for line in out.read_text().splitlines()] == expected


def test_score(gossamer: Command, models: dict[str, Path], rows: Path) -> None:
    task = gs.task("score", gs.load(models["t5"]))
    expected = task(TEXTS, ["b"] * 3).to_dict()
    found = gossamer("score", models["t5"], rows, "--target", "b", "--json").json["texts"]
    assert [one["log_likelihood"] for one in found] == pytest.approx(expected["log_likelihoods"])
    assert [one["perplexity"] for one in found] == pytest.approx(expected["perplexities"])
    rows.write_text('{"text": "a", "said": "b"}\n{"text": "a"}\n')
    done = gossamer("score", models["t5"], rows, "--target-field", "said")
    assert done.code == 2
    assert "log-likelihood" in done.out
    assert f"{rows}:2: the field 'said' is missing" in done.err
    assert "both given" in gossamer("score", models["t5"], "a", "--target", "b", "--target-field", "c").error


def test_a_bad_first_row_does_not_say_what_the_others_are(
    gossamer: Command, models: dict[str, Path], rows: Path, tmp_path: Path
) -> None:
    pairs = [{"text": "a cat", "text_pair": "a dog"}, {"text": "a", "text_pair": "b"}]
    rows.write_text("no json\n" + "".join(json.dumps(row) + "\n" for row in pairs))
    expected = gs.task("classify", gs.load(models["nli"]))(pairs).to_dict()
    found = gossamer("classify", models["nli"], rows, "--json").json["texts"]
    assert "error" in found[0]
    assert [one["tokens"] for one in found[1:]] == expected["tokens"]
    out = tmp_path / "out.jsonl"
    assert gossamer("predict", models["nli"], rows, "--out", out).code == 2
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    scores = [{one["label"]: one["score"] for one in those} for those in expected["labels"]]
    assert [line["scores"] for line in lines[1:]] == [pytest.approx(those) for those in scores]


def test_a_byte_that_is_no_text_is_of_its_row(gossamer: Command, models: dict[str, Path], rows: Path) -> None:
    rows.write_bytes(b'{"text": "a"}\n{"text": "b\xff"}\n{"text": "c"}\n')
    done = gossamer("classify", models["nli"], rows, "--json")
    assert done.code == 2
    assert ["labels" in one for one in done.json["texts"]] == [True, False, True]
    assert "half a surrogate pair or a byte that is no UTF-8" in done.json["texts"][1]["error"]


def test_a_text_without_tokens_is_left_out(gossamer: Command, models: dict[str, Path], rows: Path) -> None:
    rows.write_text('{"text": "a cat"}\n{"text": "\\u0001"}\n{"text": "a dog"}\n')
    for verb, model in (("rank", "ranker"), ("similar", "encoder")):
        done = gossamer(verb, models[model], "a cat", rows, "--json")
        assert done.code == 2
        assert {one["source"] for one in done.json["texts"]} == {f"{rows}:1", f"{rows}:3"}


def test_a_pipelines_translation_is_a_task(gossamer: Command, models: dict[str, Path]) -> None:
    asked = ("a cat", "--max-new-tokens", 5)
    expected = gossamer("translate", models["t5"], *asked, "--from", "en", "--to", "fr")
    assert gossamer("run", "translation_en_to_fr", models["t5"], *asked).out == expected.out


def test_texts_on_the_disk() -> None:
    spooled = SpooledTexts()
    texts = [Text(f"file:{i}", "dropped", fields={"id": i, "more": "x" * i}) for i in range(50)]
    for text in texts:
        spooled.add(text)
    for i in (49, 0, 7):
        assert (spooled[i].source, spooled[i].fields) == (texts[i].source, texts[i].fields)
    assert list(spooled) == list(range(50))
    with pytest.raises(KeyError):
        spooled[50]
    spooled.close()


def test_standard_input_goes_through(
    gossamer: Command, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = b'{"text": "a cat"}\n{"text": "a dog"}\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    done = gossamer("run", "tag", models["tagger"], "-", "--json")
    assert [one["source"] for one in done.json["texts"]] == ["stdin:1", "stdin:2"]
