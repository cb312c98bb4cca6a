"""The tasks rewrite, summarize and translate: what generate gives, of texts of any length, as the model's files ask."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pipeline_models import byte_level_tokenizer
from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

import gossamer as gs
from gossamer.errors import InputError
from gossamer.families import get_family
from gossamer.models import Model
from gossamer.tasks.parts import cut_text
from gossamer.tasks.write import WritingOptions
from gossamer.text import Tokenizer, byte_tokenizer
from gossamer.text.sentences import sentence_starts

END = 256
SIZES = {
    "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 1, "num_heads": 2, "vocab_size": 257, "dropout_rate": 0.0,
    "eos_token_id": END, "decoder_start_token_id": END,
}  # fmt: skip
TEXT = "Ada wrote to Charles. He read it!\n\nThen both went to Turin, by Milan, where he spoke. It rained. " * 4
TEXT = TEXT.strip()
PARAMS = {
    "summarization": {"prefix": "sum: ", "num_beams": 3, "length_penalty": 2.0, "max_length": 9, "min_length": 4,
                      "no_repeat_ngram_size": 2, "early_stopping": True},
    "translation_en_to_de": {"prefix": "to German: ", "max_length": 5},
    "translation_en_to_fr": {"prefix": "to French: ", "num_beams": 2},
    "translation_ro_to_fr": {"prefix": "Romanian to French: "},
}  # fmt: skip


def model(length: int | None = None, params: Any = None, tokenizer: Any = None) -> Model:
    """A T5 that writes letters of a text."""
    torch.manual_seed(0)
    described = get_family("t5").read(SIZES, head="seq2seq-lm")
    found = Model(described, family="t5", tokenizer=tokenizer or byte_tokenizer()).eval()
    with torch.no_grad():
        for weight in found.parameters():
            weight.add_(torch.randn_like(weight) * 0.5)
    if length is not None:
        found.tokenizer = found.tokenizer.with_max_length(length)
    if params is not None:
        found.extra_config = {"task_specific_params": params}
    return found


def generated(of: Model, texts: list[str], **options: Any) -> list[str]:
    return gs.generate(of, texts, **options).texts


@pytest.mark.parametrize("name", ["rewrite", "summarize", "translate"])
def test_a_text_that_fits_is_what_generate_gives(name: str) -> None:
    of, texts = model(), ["ada wrote", "to", "charles in turin"]
    task = gs.task(name, of)
    for options in ({}, {"beams": 3}, {"rules": {"no_repeat_ngram_size": 1}}, {"temperature": 1.0, "seed": 4}):
        found = task(texts, prefix="fix: ", max_new_tokens=6, **options)
        expected = generated(of, [f"fix: {text}" for text in texts], max_new_tokens=6, **options)
        if "seed" not in options:
            assert found.texts == expected
        assert found.passes == [1, 1, 1]
        assert found.tokens == [9, 2, 16]
        assert found.notes == []
    assert task("ada", max_new_tokens=3).texts == generated(of, ["ada"], max_new_tokens=3)


def test_beams_and_prefix_are_those_of_transformers(tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    torch.manual_seed(1)
    theirs = T5ForConditionalGeneration(
        T5Config(**SIZES | {"vocab_size": len(tokenizer), "eos_token_id": 2, "decoder_start_token_id": 1})
    ).eval()
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.add_(torch.randn_like(weight) * 0.5)
    theirs.config.task_specific_params = PARAMS
    theirs.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    texts = ["Ada wrote to Charles in London.", "The river runs to the sea", "Turin"]
    found = gs.task("summarize", gs.load(tmp_path))(texts)
    reader = AutoTokenizer.from_pretrained(tmp_path)
    asked = {key: value for key, value in PARAMS["summarization"].items() if key != "prefix"}
    for text, mine in zip(texts, found.texts, strict=True):
        ids = reader(f"sum: {text}", return_tensors="pt")["input_ids"]
        out = theirs.generate(ids, use_cache=False, do_sample=False, **asked)
        assert mine == reader.decode(out[0][1:], skip_special_tokens=True)


def sentences(text: str) -> list[str]:
    starts = sentence_starts(text)
    return [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]


def test_a_long_text_is_rewritten_part_by_part_between_its_own_white_space() -> None:
    of = model(60)
    found = gs.task("rewrite", of)([TEXT, "short"], max_new_tokens=5)
    parts = cut_text(TEXT, [(i, i + 1) for i in range(len(TEXT))], 60 - 8)
    texts = [TEXT[part.start : part.end] for part in parts]
    written = [text.strip() for text in generated(of, texts, max_new_tokens=5)]
    between = [text[len(text.rstrip()) :] for text in texts]
    assert found.texts[0] == "".join(a + b for a, b in zip(written, between, strict=True)).rstrip()
    assert "\n\n" in found.texts[0]
    assert found.texts[1] == generated(of, ["short"], max_new_tokens=5)[0]
    assert found.passes == [len(parts), 1]
    assert found.new_tokens[0] > found.new_tokens[1]
    assert found.notes == [
        f"text 0 is {len(TEXT)} tokens long, the model reads 60: read in parts that meet between sentences, each "
        f"rewritten by itself; max_length={len(TEXT)} reads it at once, beyond what the model's own files say"
    ]
    whole = gs.task("rewrite", of)(TEXT, max_new_tokens=5, max_length=len(TEXT))
    assert whole.texts == generated(model(), [TEXT], max_new_tokens=5)
    assert whole.passes == [1]


def test_sentence_by_sentence() -> None:
    of = model()
    found = gs.task("translate", of)(TEXT, max_new_tokens=5, by_sentence=True)
    parts = sentences(TEXT)
    assert found.passes == [len(parts)]
    written = generated(of, parts, max_new_tokens=5)
    assert found.texts[0].split() == " ".join(written).split()
    assert found.notes == []


@pytest.mark.parametrize("merge", ["join", "again"])
def test_summaries_of_parts_that_share_sentences_are_joined_or_summarized_again(merge: str) -> None:
    of = model(60)
    found = gs.task("summarize", of)([TEXT, "short"], max_new_tokens=4, merge=merge, stride=30)
    parts = cut_text(TEXT, [(i, i + 1) for i in range(len(TEXT))], 52, 30)
    assert any(part.start < part.new for part in parts)
    written = generated(of, [TEXT[part.start : part.end] for part in parts], max_new_tokens=4)
    joined = " ".join(filter(None, (text.strip() for text in written)))
    assert found.passes == [len(parts), 1]
    if merge == "join":
        assert found.texts[0] == joined
        assert "each summarized by itself, the summaries joined; " in found.notes[0]
    else:
        assert len(found.texts[0]) < len(joined)
        assert "each summarized by itself, the summaries summarized again; " in found.notes[0]


def test_the_files_settings_of_a_task_count_unless_the_call_has_others() -> None:
    of = model(params=PARAMS)
    task = gs.task("summarize", of)
    beams = {"num_beams": 3, "length_penalty": 2.0, "early_stopping": True}
    rules = {"no_repeat_ngram_size": 2, "min_new_tokens": 3}
    for call, prefix, most, changed in (
        ({}, "sum: ", 8, {}),
        ({"prefix": "", "max_new_tokens": 5}, "", 5, {}),
        ({"beams": 1}, "sum: ", 8, {"beams": beams | {"num_beams": 1}}),
        ({"beams": {"length_penalty": 0.0}}, "sum: ", 8, {"beams": beams | {"length_penalty": 0.0}}),
        ({"rules": {"min_new_tokens": 0}}, "sum: ", 8, {"rules": rules | {"min_new_tokens": 0}}),
    ):
        expected = generated(of, [f"{prefix}ada"], max_new_tokens=most, **{"beams": beams, "rules": rules} | changed)
        assert task("ada", **call).texts == expected


def test_languages_are_those_of_the_files() -> None:
    of = model(params=PARAMS)
    task = gs.task("translate", of)
    assert task("ada", source="en", target="de").texts == generated(of, ["to German: ada"], max_new_tokens=4)
    assert task("ada", target="de").texts == task("ada", source="en", target="de").texts
    french = generated(of, ["to French: ada"], max_new_tokens=6, beams=2)
    assert task("ada", source="en", target="fr", max_new_tokens=6).texts == french
    assert gs.task("translation_en_to_fr", of)("ada", max_new_tokens=6).texts == french
    assert task("ada", prefix="x: ", max_new_tokens=4).texts == generated(of, ["x: ada"], max_new_tokens=4)
    known = "the model translates en to de, en to fr, ro to fr"
    for asked, said in (
        ({"target": "xx"}, f"source is None and target 'xx'; {known}"),
        ({"source": "ro", "target": "de"}, f"source is 'ro' and target 'de'; {known}"),
        ({"target": "fr"}, f"{known}: name one with source and target"),
        ({}, f"{known}: name one with source and target"),
    ):
        with pytest.raises(InputError, match=said):
            task("ada", **asked)


def test_the_target_of_a_marian_vocabulary_is_a_token() -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.add_tokens([">>fra<<", ">>deu<<"])
    letters = Tokenizer(tokenizer.backend_tokenizer, {})
    torch.manual_seed(0)
    sizes = SIZES | {"vocab_size": len(tokenizer), "eos_token_id": 2, "decoder_start_token_id": 1}
    of = Model(get_family("t5").read(sizes, head="seq2seq-lm"), family="t5", tokenizer=letters).eval()
    task = gs.task("translate", of)
    ids = task._read(0, "ada", WritingOptions(how="", prefix=">>fra<< ")).prompts[0]
    assert tokenizer.convert_tokens_to_ids(">>fra<<") in ids
    assert task("ada", target="fra", max_new_tokens=3).texts == generated(of, [">>fra<< ada"], max_new_tokens=3)
    with pytest.raises(InputError, match="target is 'xx'; the model writes 2 languages: fra, deu"):
        task("ada", target="xx")
    with pytest.raises(InputError, match="target is missing; the model writes 2 languages: fra, deu"):
        task("ada")


def test_it_streams_and_counts() -> None:
    task = gs.task("rewrite", model(60))
    told: list[tuple[int, int | None]] = []
    items = list(
        task.stream([TEXT, "", "ada"], max_new_tokens=4, progress=lambda done, total: told.append((done, total)))
    )
    assert [item.error is None for item in items] == [True, False, True]
    assert items[2].result.texts == task("ada", max_new_tokens=4).texts
    assert told[-1][0] >= len(TEXT) + 3
    assert task([TEXT, "ada"], long="truncate", max_new_tokens=4).texts[0] == task(TEXT[:60], max_new_tokens=4).texts[0]


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("rewrite", {"texts": ""}, "text 0 is empty"),
    ("rewrite", {"texts": "a", "prefix": 5}, "prefix is 5, a int; it must be a string"),
    (
        "rewrite",
        {"texts": "a", "prefix": "long " * 20},
        "the prefix 'long .* leaves no room for texts, as the model reads 60",
    ),
    ("rewrite", {"texts": "a", "by_sentence": 1}, "by_sentence is 1; it must be True or False"),
    ("rewrite", {"texts": TEXT, "long": "error"}, "text 0 is .* tokens long, the model reads 60: .*give long='chunk'"),
    ("rewrite", {"texts": "a", "beams": 0}, "num_beams is 0"),
    ("rewrite", {"texts": "a", "num_beams": 4}, "there is no option 'num_beams': give beams, their number"),
    ("summarize", {"texts": "a", "merge": "twice"}, "merge is 'twice'; it must be 'join' or 'again'"),
    ("summarize", {"texts": "a", "stride": 60}, "stride is 60; it must be less than the 52 tokens"),
    ("summarize", {"texts": "a", "stride": -1}, "stride is -1; it must be a whole number of tokens, 0 or more"),
    (
        "translate",
        {"texts": "a", "target": "fr"},
        "target is 'fr', but the model's files name no languages: leave it out",
    ),
]


@pytest.mark.parametrize(("name", "call", "said"), REFUSED, ids=lambda one: str(one)[:40])
def test_what_is_refused(name: str, call: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        gs.task(name, model(60))(**call)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ("x", "task_specific_params is 'x'; it must be an object of objects"),
        ({"summarization": 3}, "it must be an object of objects"),
        ({"summarization": {"prefix": 3}}, "the prefix of 'summarization' is 3; it must be a string"),
        ({"summarization": {"max_length": "9"}}, "max_length of 'summarization' is '9'; it must be a whole number"),
        ({"summarization": {"num_beams": -1}}, "num_beams is -1"),
    ],
)
def test_files_that_say_nothing_are_refused(params: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        gs.task("summarize", model(params=params))("a")


@pytest.mark.parametrize("name", ["rewrite", "summarize", "translate"])
def test_one_text_is_written_for_each(name: str) -> None:
    of = model()
    with pytest.raises(InputError, match=r"num_return_sequences is 2; .* the task generate gives several"):
        gs.task(name, of)("ada", beams={"num_beams": 3, "num_return_sequences": 2})
    of.generation_config = {"num_beams": 3, "num_return_sequences": 2}  # of the file: the best
    found = gs.task(name, of)("ada", max_new_tokens=6)
    best = gs.generate(of, ["ada"], max_new_tokens=6)
    assert len(best.texts) == 2
    assert found.texts == best.texts[:1]
    assert found.new_tokens == [len(best.ids[0])]


def test_a_sentence_that_is_too_long_is_cut_and_told() -> None:
    of = model(60)
    text = "Short one. " + "Word " * 40 + "end. And more."
    found = gs.task("rewrite", of)(text, by_sentence=True, max_new_tokens=3)
    assert found.passes[0] > 3
    assert "text 0 in one sentence is" in found.notes[0]
    with pytest.raises(InputError, match="text 0 in one sentence is"):
        gs.task("rewrite", of)(text, by_sentence=True, long="error")
    cut = gs.task("rewrite", of)(text, by_sentence=True, long="truncate", max_new_tokens=3)
    assert cut.passes == [3]


def test_a_text_is_drawn_with_its_own_seed() -> None:
    task = gs.task("rewrite", model(60))
    texts = ["a", "b" * 9, TEXT, "cc"]
    whole = task(texts, temperature=1.0, seed=4, max_new_tokens=5).texts
    alone = [task(text, temperature=1.0, seed=4 + i, max_new_tokens=5).texts[0] for i, text in enumerate(texts)]
    assert whole == alone
    streamed = task.stream(texts, temperature=1.0, seed=4, max_new_tokens=5)
    assert [item.result.texts[0] for item in streamed] == alone


def test_a_summary_of_nothing_is_no_error_of_another_text(monkeypatch: pytest.MonkeyPatch) -> None:
    task = gs.task("summarize", model(60))
    monkeypatch.setattr("gossamer.tasks.summarize._joined", lambda writing: "")
    items = list(task.stream(["first", TEXT, "third"], merge="again", max_new_tokens=3))
    assert [item.error for item in items] == [None] * 3
    assert items[1].result.texts == [""]
