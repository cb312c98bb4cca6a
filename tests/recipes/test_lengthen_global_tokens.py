"""The first token of a lengthened model: written, read, changed by hand, in every pass, told to transformers' users."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from drawn_models import bert, distance
from family_models import config, ours
from transformers import AutoModel, AutoTokenizer, LongformerForTokenClassification

import gossamer as gs
from gossamer.cli.command import run
from gossamer.errors import InputError, Remark
from gossamer.models import MaskedLM, Model, TokenClassification
from gossamer.recipes import heal
from gossamer.text import speeches

CONFIG = {
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
}


def first(ids: torch.Tensor) -> torch.Tensor:
    return (torch.arange(ids.shape[1]) == 0).expand_as(ids)


def read(model: Model, ids: torch.Tensor, **more: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(ids, **more).last_hidden_state


@pytest.mark.parametrize(("family", "form"), [("bert", "longformer"), ("albert", "gossamer")])
def test_it_stands_in_config_json_and_is_changed_there(family: str, form: str, tmp_path: Path) -> None:
    ids = torch.randint(4, 30, (2, 60), generator=torch.Generator().manual_seed(0))
    for given, other in (("first", "none"), ("none", "first")):
        new, receipt = gs.lengthen(ours(family, "token-classification"), to=64, window=8, global_tokens=given)
        assert receipt.settings["global_tokens"] == given
        assert ("the first token of a text is global, unless a global_mask is given" in receipt.changes) == (
            given == "first"
        )
        gs.save(new, tmp_path / given)
        path = tmp_path / given / "config.json"
        fields = json.loads(path.read_text())
        assert fields["model_type"] == form
        place = fields if form == "longformer" else fields["architecture"]
        # A Longformer's file is written as others would, without the line, where it says nothing more than they do.
        assert place.get("global_tokens", "none") == given
        assert ("global_tokens" in place) == (given == "first" or form == "gossamer")
        states = {
            "first": read(new, ids, global_mask=first(ids)),
            "none": read(new, ids, global_mask=first(ids) & False),
        }
        assert distance(states["first"], states["none"]) > 1e-3
        assert distance(read(gs.load(tmp_path / given), ids), states[given]) <= 1e-5
        place["global_tokens"] = other
        path.write_text(json.dumps(fields))
        assert distance(read(gs.load(tmp_path / given), ids), states[other]) <= 1e-5
        place["global_tokens"] = "all"
        path.write_text(json.dumps(fields))
        with pytest.raises(InputError, match=r"global_tokens is 'all'; it must be one of '?first'?, '?none'?$"):
            gs.load(tmp_path / given)


def test_transformers_carries_it_along_and_needs_a_mask(tmp_path: Path) -> None:
    new, _ = gs.lengthen(ours("roberta", "token-classification"), to=64, window=8)
    gs.save(new, tmp_path / "ours")
    theirs = LongformerForTokenClassification.from_pretrained(tmp_path / "ours").eval()
    theirs.save_pretrained(tmp_path / "theirs")
    again = gs.load(tmp_path / "theirs")
    assert again.architecture == new.architecture
    ids = torch.randint(4, 30, (2, 60), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        told = theirs(ids, global_attention_mask=first(ids).long()).logits
        assert distance(again(ids).logits, told) <= 1e-5
        assert distance(theirs(ids).logits, told) > 1e-3
    assert "`global_attention_mask[:, 0] = 1`" in (tmp_path / "ours" / "README.md").read_text()


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("none", "zeros with `global_attention_mask[:, 0] = 1`"),
        ("masked-lm", "zeros with `global_attention_mask[:, 0] = 1`"),
        ("token-classification", "zeros with `global_attention_mask[:, 0] = 1`"),
        ("embed", 'sentence-transformers has no place for it: for its vectors write "none"'),
        ("question-answering", "So is the question"),
        ("multiple-choice", "of 1 for the first token and all behind the context's separator"),
        ("sequence-classification", None),
    ],
)
def test_the_card_says_what_transformers_needs(head: str, said: str | None, tmp_path: Path) -> None:
    for which in ("first", "none"):
        new, _ = gs.lengthen(ours("roberta", head), to=64, window=8, global_tokens=which)
        card = (gs.save(new, tmp_path / which) / "README.md").read_text()
        assert ("global_attention_mask" in card) == (which == "first" and said is not None)
        assert said is None or (said in card) == (which == "first")


def test_longformers_of_others_keep_the_habit_of_transformers(tmp_path: Path) -> None:
    """A file without the line: nothing is global for a tagger, and none is written."""
    new, _ = gs.lengthen(ours("roberta", "token-classification"), to=64, window=8)
    gs.save(new, tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    fields = json.loads(path.read_text())
    del fields["global_tokens"]
    path.write_text(json.dumps(fields))
    model, ids = gs.load(tmp_path / "model"), torch.randint(4, 30, (1, 60))
    assert model.architecture.global_tokens == "none"
    again = gs.save(model, tmp_path / "again")
    assert "global_tokens" not in json.loads((again / "config.json").read_text())
    assert distance(read(model, ids), read(new, ids, global_mask=first(ids) & False)) <= 1e-5
    with torch.no_grad():
        theirs = LongformerForTokenClassification.from_pretrained(tmp_path / "model").eval()(ids).logits
        assert distance(model(ids).logits, theirs) <= 1e-5


@pytest.fixture(scope="module")
def minilm_both(minilm: Path) -> dict[str, Model]:
    """MiniLM lengthened to 1,024 with windows of 128, by its global tokens."""
    original = gs.load(minilm)
    return {which: gs.lengthen(original, to=1024, window=128, global_tokens=which)[0] for which in ("first", "none")}


def test_short_texts_of_the_real_model_stay_as_they_were(minilm: Path, minilm_both: dict[str, Model]) -> None:
    """Up to half the window and one token: 65 of 128."""
    short, ids = gs.load(minilm), gs.load(minilm).tokenizer(speeches()[3].text, max_length=65)["input_ids"]
    assert ids.shape == (1, 65)
    for long in minilm_both.values():
        assert distance(read(long, ids), read(short, ids)) <= 1e-5


def test_embedding_a_long_text_has_it_in_every_pass(minilm_both: dict[str, Model]) -> None:
    """Spans of a text of two passes, by hand: each pass begins with a [CLS] that sees all of it."""
    long = minilm_both["first"]
    text = " ".join(speeches()[5].text.split()[:1100])
    embed = gs.task("embed", long)
    found = embed(text, spans=100)
    assert found.passes == [2]
    ids, _ = long.tokenizer.encode_plain(text)
    length = -(-(len(ids) + 1022 // 8) // 2)
    for start, stop, row in ((0, length, 0), (len(ids) - length, len(ids), -1)):
        framed = torch.tensor([[long.tokenizer.cls_id, *ids[start:stop], long.tokenizer.sep_id]])
        states = read(long, framed, global_mask=first(framed))[0, 1:-1]
        edge = 0 if row == 0 else (len(ids) - 1) // 100 * 100
        part = states[edge - start : min(edge + 100, len(ids)) - start]
        expected = torch.nn.functional.normalize(part.mean(0), dim=0)
        assert torch.allclose(found.vectors[row], expected, atol=1e-5)
    without = gs.task("embed", minilm_both["none"])(text, spans=100)
    assert distance(without.vectors, found.vectors) > 1e-2


@pytest.mark.parametrize("task", ["tag", "fill-mask"])
def test_tagging_and_filling_in_read_it_too(minilm: Path, task: str) -> None:
    """Against the model itself, given the mask."""
    head = TokenClassification(labels=("O", "B-A")) if task == "tag" else MaskedLM()
    torch.manual_seed(0)
    long, _ = gs.lengthen(gs.load(minilm, head=head), to=600, window=64)
    text = " ".join(speeches()[5].text.split()[:300]) + (" [MASK]" if task == "fill-mask" else "")
    seen = []
    handle = long.register_forward_hook(lambda *given: seen.append(given[2]))
    gs.task(task, long)(text)
    handle.remove()
    ids = long.tokenizer(text)["input_ids"]
    with torch.no_grad():
        expected, without = (read(long, ids, global_mask=one) for one in (first(ids), first(ids) & False))
    assert len(seen) == 1
    assert distance(seen[0].last_hidden_state, expected) <= 1e-5
    assert distance(seen[0].last_hidden_state, without) > 1e-3


def test_in_transformers_the_real_model_gives_the_same_with_padding(
    minilm_both: dict[str, Model], tmp_path: Path
) -> None:
    directory = gs.save(minilm_both["first"], tmp_path / "long")
    theirs, tokenizer = AutoModel.from_pretrained(directory).eval(), AutoTokenizer.from_pretrained(directory)
    texts = [" ".join(speeches()[i].text.split()[:words]) for i, words in ((3, 600), (5, 150))]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        expected = theirs(**batch, global_attention_mask=first(real).long()).last_hidden_state
        found = minilm_both["first"](batch["input_ids"], attention_mask=real).last_hidden_state
    assert distance(found[real], expected[real]) <= 1e-5


@pytest.mark.parametrize("value", ["all", 1, ["first"]])
def test_other_global_tokens_are_refused(value: Any) -> None:
    with pytest.raises(InputError, match=r"^global_tokens is .*; it must be 'first' or 'none'$"):
        gs.lengthen(bert(CONFIG, None), to=40, window=8, global_tokens=value)


@pytest.mark.parametrize(("window", "said"), [(18, "1.12"), (26, "1.62"), ([8, 26], "1.62")])
def test_a_window_wider_than_the_old_length_is_noted(window: Any, said: str) -> None:
    _, receipt = gs.lengthen(bert(CONFIG, None), to=40, window=window)
    (note,) = receipt.notes
    assert note.startswith(f"window is {max(window) if isinstance(window, list) else window}, {said} times the 16 ")
    assert note.endswith("a window of 8 is as good and cheaper")
    assert f"note: {note}" in str(receipt)
    assert f"Note: {note}." in receipt.to_markdown()
    assert receipt.to_dict()["notes"] == [note]


@pytest.mark.parametrize("window", [28, 30, 80, [8, 28]])
def test_one_that_holds_most_positions_twice_is_refused_unless_forced(window: Any) -> None:
    """From 1.75 times on; 80 covers every text, as full attention would."""
    widest = max(window) if isinstance(window, list) else window
    said = rf"^window is {widest}, .* times the 16 positions .*; take 8 .*force=True to try it$"
    with pytest.raises(InputError, match=said):
        gs.lengthen(bert(CONFIG, None), to=40, window=window)
    with pytest.warns(Remark, match=f"^window is {widest}, .* times the 16 positions"):
        _, receipt = gs.lengthen(bert(CONFIG, None), to=40, window=window, force=True)
    assert receipt.settings["force"] is True
    assert len(receipt.notes) == 1


def test_where_no_position_is_copied_any_window_goes() -> None:
    for given in ({"to": 16, "window": 32}, {"to": 40, "window": 16}, {"to": 40, "window": 40, "positions": "random"}):
        assert gs.lengthen(bert(CONFIG, None), **given)[1].notes == ()  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^force is 1; it must be true or false$"):
        gs.lengthen(bert(CONFIG, None), to=40, window=8, force=1)  # type: ignore[arg-type]


def test_the_verb_has_both_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gs.save(ours("bert", "masked-lm"), tmp_path / "model")
    call = ["lengthen", str(tmp_path / "model"), "--to", "64", "--out", str(tmp_path / "long"), "--json"]
    assert run([*call, "--window", "8", "--global-tokens", "none"]) == 0
    assert json.loads(capsys.readouterr().out)["receipt"]["settings"]["global_tokens"] == "none"
    assert gs.load(tmp_path / "long").architecture.global_tokens == "none"
    assert run([*call, "--window", "28"]) == 2
    assert "give --force to try it" in capsys.readouterr().err
    assert run([*call, "--window", "28", "--force"]) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("gossamer: window is 28, 1.75 times the 16 positions")
    assert json.loads(printed.out)["receipt"]["settings"] == {
        "to": 64, "window": 28, "global_tokens": "first", "force": True,
    }  # fmt: skip
    assert run([*call, "--window", "8", "--global-tokens", "all"]) == 2
    assert "'all'" in capsys.readouterr().err


@pytest.mark.parametrize("family", ["roberta", "bert", "distilbert"])
@pytest.mark.parametrize("padding", [1, 3])
def test_the_rows_for_padding_are_those_of_the_original(family: str, padding: int) -> None:
    """RoBERTa has some before position 0, all of which stay; those of the others are new, zeros."""
    model = ours(family, "none", config(family, pad_token_id=padding))
    new, _ = gs.lengthen(model, to=40, window=8)
    old, table = (one.state_dict()["embeddings.position.weight"] for one in (model, new))
    before = table[: padding + 1]
    assert torch.equal(before, old[: padding + 1] if family == "roberta" else torch.zeros_like(before))
    for i in range(40):
        assert torch.equal(table[padding + 1 + i], old[model.architecture.embeddings.positions.offset + i % 16])
    if family == "roberta":
        ids = torch.tensor([[5, 9, padding, 7, padding]])
        embedded = [one(ids, output_hidden_states=True).hidden_states[0] for one in (model, new)]
        assert torch.equal(*embedded)


def test_training_and_healing_read_it(tmp_path: Path) -> None:
    """The global projections learn, and what is healed still says that its first token is global."""
    torch.manual_seed(0)
    long, _ = gs.lengthen(gs.load("sample:minilm", head=MaskedLM()), to=544, window=64)
    (tmp_path / "text.txt").write_text("\n".join(" ".join(one.text.split()[:900]) for one in speeches()[:3]))
    settings = {
        "data": {"train": str(tmp_path / "text.txt"), "split": "lines"},
        "batch": {"rows": 1}, "steps": 1, "journal": {"live": False}, "threads": 1, "output": str(tmp_path / "out"),
    }  # fmt: skip
    healed, _ = heal(long, settings)
    assert healed.architecture == long.architecture
    for i in (0, 5):
        name = f"attention.{i}.value_global.weight"
        assert not torch.equal(healed.state_dict()[name], long.state_dict()[name])
    assert gs.load(tmp_path / "out" / "last").architecture.global_tokens == "first"
