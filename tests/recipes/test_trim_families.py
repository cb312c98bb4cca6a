"""`gs.trim` on every family and head: the rows of kept tokens, ids in all settings, and `transformers` as the judge."""

import dataclasses
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor
from trim_models import texts, tiny

import gossamer as gs
from gossamer.models import Model, SequenceClassification

FAMILIES = ["bert", "roberta", "xlm-roberta", "camembert", "distilbert", "albert", "electra", "longformer"]
FAMILIES += ["modernbert", "deberta-v2", "gpt2", "llama"]
DECODERS = ("gpt2", "llama")
SAID = texts()[:12]


def ids_of(model: Model, text: str) -> Tensor:
    return torch.tensor([model.tokenizer.encode_plain(text)[0][:40]])


def kept_ids(old: Model, new: Model) -> list[int]:
    return [old.tokenizer.token_id(token) for token in new.tokenizer.tokens(range(new.tokenizer.vocabulary_size))]


def check_same(old: Model, new: Model) -> None:
    """Tokens and outputs for a text; scores of tokens are those of the kept ones."""
    kept = kept_ids(old, new)
    for text in SAID[:3]:
        before, after = ids_of(old, text), ids_of(new, text)
        assert torch.equal(torch.tensor(kept)[after], before)
        with torch.no_grad():
            was, now = old(before), new(after)
        close(now.last_hidden_state, was.last_hidden_state)
        if was.logits is not None:
            words = old.architecture.head.scores_words
            close(now.logits, was.logits[..., kept] if words else was.logits)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("family", "tied"), [*((family, True) for family in FAMILIES), ("bert", False), ("albert", False), ("llama", False)]
)
def test_language_models(family: str, tied: bool, tmp_path: Path) -> None:
    """Saved in the family's format, which `transformers` loads with equal outputs, and its tokenizer with equal ids."""
    head = "causal-lm" if family in DECODERS else "masked-lm"
    old = tiny(family, head, tied=tied, filling=5)
    new, receipt = gs.trim(old, SAID)
    rows = new.architecture.embeddings.vocabulary_size
    assert rows == new.tokenizer.vocabulary_size < old.tokenizer.vocabulary_size
    assert (receipt.measured["tokens_kept"], receipt.measured["same_tokens"], receipt.measured["same_rows"]) == (1,) * 3
    assert receipt.measured["largest_difference_of_outputs"] <= 1e-6
    check_same(old, new)
    gs.save(new, tmp_path / "new")
    back = gs.load(tmp_path / "new")
    assert back.family == family
    assert all(torch.equal(back.state_dict()[name], tensor) for name, tensor in new.state_dict().items())
    kind = transformers.AutoModelForCausalLM if family in DECODERS else transformers.AutoModelForMaskedLM
    theirs = kind.from_pretrained(tmp_path / "new", attn_implementation="eager").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "new")
    for text in SAID[:2]:
        ids = new.tokenizer(text, max_length=40)
        wanted = tokenizer(text, max_length=40, truncation=True, return_tensors="pt")
        assert torch.equal(wanted["input_ids"], ids["input_ids"])
        with torch.no_grad():
            logits = theirs(ids["input_ids"]).logits
            torch.testing.assert_close(new(ids["input_ids"]).logits, logits, rtol=1e-5, atol=1e-5)
    for role, number in old.extra_config.items():
        assert tokenizer.convert_ids_to_tokens(getattr(theirs.config, role)) == old.tokenizer.token(number)


OTHERS = [
    ("bert", "pre-training"), ("albert", "pre-training"), ("electra", "replaced-token"), ("bert", "next-sentence"),
    ("roberta", "sequence-classification"), ("gpt2", "token-classification"), ("llama", "sequence-classification"),
    ("modernbert", "question-answering"), ("longformer", "question-answering"), ("distilbert", "multiple-choice"),
    ("xlm-roberta", None),
]  # fmt: skip


@pytest.mark.parametrize(("family", "head"), OTHERS)
def test_other_heads(family: str, head: str | None) -> None:
    old = tiny(family, head)
    if family == "longformer":
        old = Model(dataclasses.replace(old.architecture, separator_id=old.tokenizer.sep_id), family=family).eval()
        old.tokenizer = tiny(family).tokenizer
    new, receipt = gs.trim(old, SAID)
    assert receipt.measured["same_rows"] == 1
    assert receipt.measured["largest_difference_of_outputs"] <= 1e-6
    assert new.architecture.head == old.architecture.head or family == "llama"
    assert new.architecture.separator_id == (None if family != "longformer" else new.tokenizer.sep_id)
    kept = kept_ids(old, new)
    batch = [model.tokenizer(list(SAID[:3]), max_length=30) for model in (old, new)]
    assert torch.equal(torch.tensor(kept)[batch[1]["input_ids"]], batch[0]["input_ids"])
    if head == "multiple-choice":
        batch = [{name: column[None] for name, column in one.items()} for one in batch]
    if head == "question-answering" and family == "longformer":
        batch = [one | {"global_mask": torch.zeros_like(one["input_ids"])} for one in batch]
    with torch.no_grad():
        was, now = old(**batch[0]), new(**batch[1])
    real = batch[0]["attention_mask"].bool().flatten(0, -2)
    close(now.last_hidden_state[real], was.last_hidden_state[real])
    for name in ("logits", "pair_logits"):
        if getattr(was, name) is not None:
            words = name == "logits" and old.architecture.head.scores_words
            close(getattr(now, name), getattr(was, name)[..., kept] if words else getattr(was, name))


def test_where_padding_is_another_row_positions_are_counted_from_it() -> None:
    """CamemBERT's first piece is never used; without it padding is 0, and one row less lies before position 0."""
    old = tiny("camembert", "masked-lm")
    new, _ = gs.trim(old, SAID)
    assert (old.architecture.embeddings.padding_id, new.architecture.embeddings.padding_id) == (1, 0)
    assert (old.architecture.embeddings.positions.offset, new.architecture.embeddings.positions.offset) == (2, 1)
    batch = [model.tokenizer(list(SAID[:3]), max_length=30) for model in (old, new)]
    with torch.no_grad():
        was, now = (model(**one).last_hidden_state for model, one in zip((old, new), batch, strict=True))
    close(now, was)  # padding's states too


def test_the_last_token_is_found_by_the_new_padding() -> None:
    """A decoder that labels texts and whose embeddings know no padding."""
    tokenizer = tiny("gpt2").tokenizer
    old = tiny("gpt2")
    labels = SequenceClassification(labels=("a", "b"), reads="last", padding_id=tokenizer.vocabulary_size - 1)
    old = Model(dataclasses.replace(old.architecture, head=labels), family="gpt2", tokenizer=tokenizer).eval()
    new, _ = gs.trim(old, SAID)
    padding = new.architecture.head.padding_id
    assert new.tokenizer.token(padding) == tokenizer.token(tokenizer.vocabulary_size - 1)
    row = [ids_of(model, SAID[0])[:, :6] for model in (old, new)]
    padded = [
        torch.cat([one, torch.full((1, 3), end)], 1) for one, end in zip(row, (labels.padding_id, padding), strict=True)
    ]
    with torch.no_grad():
        close(new(padded[1]).logits, old(padded[0]).logits)
        close(new(padded[1]).logits, new(row[1]).logits)


def test_ids_in_all_settings_are_the_new_ones() -> None:
    old = tiny("gpt2", "causal-lm", filling=3)
    names = ["the", " of", " and", "ing"]
    a, b, c, d = (old.tokenizer.encode_plain(name)[0][0] for name in names)
    end, rows = old.tokenizer.token_id("<|endoftext|>"), old.architecture.embeddings.vocabulary_size
    unused = next(i for i in range(300, 900) if i not in {*(a, b, c, d), *old.tokenizer.encode_plain("the of")[0]})
    old.extra_config = {
        "eos_token_id": [end, rows - 1],
        "sep_token_id": None,
        "cls_token_id": 10**6,
        "nested": {"x_token_id": a},
    }
    old.generation_config = {
        "eos_token_id": end, "forced_bos_token_id": b, "forced_decoder_ids": [[1, c]], "temperature": 0.5,
        "suppress_tokens": [a, unused], "begin_suppress_tokens": [unused], "bad_words_ids": [[a, b], [a, unused]],
        "force_words_ids": [[[d]], [[a]]], "sequence_bias": [[[a], -1.0], [[unused], 2.0]], "max_length": 20,
    }  # fmt: skip
    new, _ = gs.trim(old, ["the of"])
    number = {one: new.tokenizer.token_id(old.tokenizer.token(one)) for one in (a, b, c, d, end)}
    last = new.architecture.embeddings.vocabulary_size - 1
    assert last == new.tokenizer.vocabulary_size  # the row without a token that the settings name
    assert new.extra_config == {
        "eos_token_id": [number[end], last], "sep_token_id": None, "cls_token_id": 10**6,
        "nested": {"x_token_id": number[a]},
    }  # fmt: skip
    assert new.generation_config == {
        "eos_token_id": number[end], "forced_bos_token_id": number[b], "forced_decoder_ids": [[1, number[c]]],
        "suppress_tokens": [number[a]], "begin_suppress_tokens": [], "bad_words_ids": [[number[a], number[b]]],
        "force_words_ids": [[[number[d]]], [[number[a]]]], "sequence_bias": [[[number[a]], -1.0]],
        "temperature": 0.5, "max_length": 20,
    }  # fmt: skip


@pytest.mark.parametrize("family", DECODERS)
def test_a_trimmed_decoder_tells_what_it_told(family: str) -> None:
    """Where the tokens that it tells are kept: here all that it can tell are, and their ids are others."""
    old = tiny(family, "causal-lm")
    prompt = SAID[0][:40]
    told = gs.generate(old, prompt, max_new_tokens=12, temperature=0, ignore_end=True)
    keep = sorted({*told.ids[0], *(i for i in range(0, old.tokenizer.vocabulary_size, 2))})
    new, _ = gs.trim(old, [prompt], keep=keep)
    kept = kept_ids(old, new)
    again = gs.generate(new, prompt, max_new_tokens=12, temperature=0, ignore_end=True)
    assert [kept[number] for number in again.ids[0]] == told.ids[0]
    assert again.texts == told.texts
