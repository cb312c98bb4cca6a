"""The verb generate on a small decoder: a stream, several texts, JSON, files, and what it refuses."""

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import gossamer as gs
from gossamer.cli.output import harmless
from gossamer.models import Architecture, Attention, CausalLM, Embeddings, FeedForward, Layer, Model, Norm, Positions
from gossamer.patterns import Full, Window
from gossamer.text import byte_tokenizer

Command = Callable[..., Any]


@pytest.fixture(scope="session")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved decoder of bytes, 2 layers x 16, that reads 64 tokens."""
    layers = tuple(
        Layer(
            attention=Attention(pattern=pattern, heads=2, head_size=8, weights=i),
            feed_forward=FeedForward(width=32, weights=i),
            norm_place="pre",
        )
        for i, pattern in enumerate((Window(9, 0), Full(causal=True)))
    )
    architecture = Architecture(
        hidden_size=16,
        embeddings=Embeddings(
            vocabulary_size=257, size=16, positions=Positions(length=64), token_types=0, padding_id=None
        ),
        layers=layers,
        head=CausalLM(),
        final_norm=Norm(eps=1e-5),
    )
    torch.manual_seed(0)
    return gs.save(Model(architecture, tokenizer=byte_tokenizer()), tmp_path_factory.mktemp("models") / "writer")


def test_one_text_is_streamed(gossamer: Command, writer: Path) -> None:
    expected = gs.generate(gs.load(writer), "Once", max_new_tokens=20, seed=7)
    for args in (("Once",), ("--prompt", "Once"), ("-p", "Once")):
        done = gossamer("generate", writer, *args, "--max-new-tokens", 20, "--seed", 7)
        assert (done.code, done.err) == (0, "")
        assert done.out == f"Once{expected.texts[0]}\n"


def test_json_holds_what_generate_gives(gossamer: Command, writer: Path) -> None:
    options = ("--max-new-tokens", 12, "--temperature", 0.7, "--top-k", 40, "--top-p", 0.8, "--seed", 3)
    done = gossamer("generate", writer, "Once", "--prompt", "Twice", *options, "--stop", "e", "--json")
    assert (done.code, done.err) == (0, "")
    expected = gs.generate(
        gs.load(writer), ["Once", "Twice"], max_new_tokens=12, temperature=0.7, top_k=40, top_p=0.8, seed=3, stop="e"
    )
    assert done.json["texts"] == [
        {
            "source": f"argument {i + 1}",
            "prompt": prompt,
            "text": expected.texts[i],
            "ids": expected.ids[i],
            "tokens": len(prompt),
            "stopped": expected.stopped[i],
            "stop": expected.stop[i],
            "seed": 3 + i,
        }
        for i, prompt in enumerate(("Once", "Twice"))
    ]
    assert done.json["notes"] == []
    assert done.json["tokens_per_second"] > 0


def test_several_texts_follow_one_another(gossamer: Command, writer: Path) -> None:
    done = gossamer("generate", writer, "Once", "Twice", "--max-new-tokens", 5, "--temperature", 0)
    found = gs.generate(gs.load(writer), ["Once", "Twice"], max_new_tokens=5, temperature=0)
    assert done.out == f"Once{found.texts[0]}\n\nTwice{found.texts[1]}\n\n"


def test_files_and_standard_input(
    gossamer: Command, writer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("Once\n")
    (tmp_path / "b.jsonl").write_text('{"body": "Twice\\n"}\n')
    (tmp_path / "arguments.txt").write_text("Four\n")
    args = ("--field", "body", "--max-new-tokens", 3, "--json")
    done = gossamer("generate", writer, "--file", tmp_path / "a.txt", tmp_path / "b.jsonl", *args)
    assert [one["prompt"] for one in done.json["texts"]] == ["Once", "Twice\n"]
    assert [one["source"] for one in done.json["texts"]] == [str(tmp_path / "a.txt"), f"{tmp_path / 'b.jsonl'}:1"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Thrice\r\n")))
    done = gossamer("generate", writer, "--file", "-", "--max-new-tokens", 3, "--json")
    assert [one["prompt"] for one in done.json["texts"]] == ["Thrice"]
    monkeypatch.chdir(tmp_path)
    done = gossamer("generate", writer, "Five\n", "--file", "arguments.txt", "--max-new-tokens", 3, "--json")
    assert [one["prompt"] for one in done.json["texts"]] == ["Five\n", "Four"]


def test_a_drawn_seed_is_told_and_gives_the_same_again(gossamer: Command, writer: Path) -> None:
    options = ("Once", "Twice", "--max-new-tokens", 8)
    drawn = gossamer("generate", writer, *options)
    (seed,) = re.findall(r"^gossamer: seed (\d+): the same again with --seed \1$", drawn.err, re.MULTILINE)
    again = gossamer("generate", writer, *options, "--seed", seed)
    assert (again.out, again.err) == (drawn.out, "")
    assert gossamer("generate", writer, *options, "--json").err == ""
    assert gossamer("generate", writer, *options, "--temperature", 0).err == ""


def test_a_stop_may_be_the_end_of_a_line(gossamer: Command, writer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = iter(b"one\\two\nthree")
    monkeypatch.setattr("gossamer.generation.loop.choose", lambda *_: torch.tensor([next(said)]))
    done = gossamer("generate", writer, "Once ", "--stop", r"\n", "--json")
    assert done.json["texts"][0]["text"] == "one\\two"
    assert done.json["texts"][0]["stop"] == "\n"


def test_only_the_choices_are_written(gossamer: Command, writer: Path) -> None:
    options = ("--choice", "red", "--choice", "blue", "--seed", 4, "--json")
    done = gossamer("generate", writer, "Once", "Twice", *options)
    expected = gs.generate(gs.load(writer), ["Once", "Twice"], choices=["red", "blue"], seed=4)
    assert [one["text"] for one in done.json["texts"]] == expected.texts
    assert set(expected.texts) <= {"red", "blue"}


def test_the_models_length_is_told(gossamer: Command, writer: Path) -> None:
    done = gossamer("generate", writer, "a" * 60, "--seed", 0, "--json")
    assert done.error == ("gossamer: argument 1 of 60 tokens: stopped after 5 new ones, because the model reads 64")
    assert done.json["notes"] == [done.error.removeprefix("gossamer: ")]
    assert done.json["texts"][0]["stopped"] == "length"


def test_a_terminal_gets_the_speed_and_nothing_that_moves_its_cursor(
    gossamer: Command, writer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = iter(b"a\x1b[2Jb")
    monkeypatch.setattr("gossamer.generation.loop.choose", lambda *_: torch.tensor([next(said)]))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    done = gossamer("generate", writer, "On\tce", "--max-new-tokens", 6, "--seed", 11)
    assert done.out == "\033[1mOn\tce\033[0ma\ufffd[2Jb\n"
    assert done.error.startswith("gossamer: 6 tokens at ")
    assert done.error.endswith(" a second, seed 11")
    assert harmless("a\r\x07\n\u202e日") == "a\ufffd\ufffd\n\ufffd日"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["/nowhere"], "there is no text; give TEXT, or --file FILE"),
        (["/nowhere", "a", "--max-new-tokens", "0"], "--max-new-tokens is 0; it must be a whole number, 1 or more"),
        (["/nowhere", "a", "--top-k", "0"], "--top-k is 0; it must be a whole number, 1 or more"),
        (["/nowhere", "a", "--top-k", "x"], "--top-k is 'x'; it must be a whole number"),
        (["/nowhere", "a", "--temperature", "-1"], "temperature is -1.0; it must be a finite number, 0"),
        (["/nowhere", "a", "--top-p", "2"], "top_p is 2.0; it must be above 0 and at most 1"),
        (["{writer}", "a", "--length-penalty", "2"], "length_penalty is 2.0; it is for beams: give their number, too"),
        (["{writer}", "a", "--beams", "2", "--returned", "3"], "num_return_sequences is 3; it must be at most num_be"),
        (["{writer}", "a", "--seed", "-1"], "seed is -1; it must be a whole number from 0"),
        (["{writer}", "a", "--choice", ""], "choices holds ''; give texts of one character or more"),
        (["{writer}", "b", "a" * 65], "argument 2 is 65 tokens long, the model reads 64: shorten it"),
        (["{small}", "a"], "the model's head is 'embed', so it cannot generate text: take a model with"),
    ],
    ids=lambda one: " ".join(one)[:40] if isinstance(one, list) else "",
)
def test_mistakes_are_told_in_one_line(
    gossamer: Command, writer: Path, small: Path, args: list[str], said: str
) -> None:
    done = gossamer("generate", *[one.format(writer=writer, small=small) for one in args])
    assert (done.code, done.out) == (2, "")
    assert said in done.error
