"""Words: which characters belong together where every character is a token, and in tokenizers of every kind."""

import functools
import random
from collections.abc import Callable

import pytest
import tokenizers
from token_taggers import token_tagger
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

import gossamer as gs
from gossamer.text import Tokenizer, train_tokenizer
from gossamer.text.words import continues_word, trim


def character_tokenizer(text: str) -> Tokenizer:
    """A token a character, white space being nothing."""
    letters = sorted({char for char in text if not char.isspace()})
    backend = tokenizers.Tokenizer(models.WordLevel({char: i for i, char in enumerate(letters)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("", "isolated")]
    )
    return Tokenizer(backend, {})


def words_of(tokenizer: Tokenizer, text: str) -> list[str]:
    """The words of a text, without the white space at their ends."""
    ids, offsets = tokenizer.encode_plain(text)
    goes_on = continues_word(tokenizer, text, ids, offsets)
    assert len(goes_on) == len(ids)
    starts = [i for i, on in enumerate(goes_on) if not on or i == 0]
    spans = [(offsets[i][0], offsets[j - 1][1]) for i, j in zip(starts, [*starts[1:], len(ids)], strict=True)]
    return [text[slice(*trim(text, *span))] for span in spans if text[slice(*span)].strip()]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("they visit (Lisbon), often.", "they visit ( Lisbon ) , often ."),
        ("“Lisbon”—Porto… ¿Oslo?", "“ Lisbon ” — Porto … ¿ Oslo ?"),
        ("Lisbon/Porto Lisbon,Porto [Lisbon]", "Lisbon / Porto Lisbon , Porto [ Lisbon ]"),
        ("O'Brien doesn’t D'Angelo rock'n'roll", "O'Brien doesn’t D'Angelo rock'n'roll"),
        ("Lisbon's LISBON'S James' 'Oslo' it’s", "Lisbon ' s LISBON ' S James ' ' Oslo ' it ’ s"),
        ("l'Italie d’Artagnan aujourd'hui L'Oréal", "l ' Italie d ’ Artagnan aujourd'hui L'Oréal"),
        ("Jean-Luc state-of-the-art covid-19 -5 a--b", "Jean-Luc state-of-the-art covid-19 - 5 a - - b"),
        ("1,234.5 12:30 0.5% 3,a $5.50.", "1,234.5 12:30 0.5 % 3 , a $ 5.50 ."),
        ("U.S. (U.S.), a.b", "U.S . ( U.S . ) , a.b"),
        ("https://example.com/a-b?x=1", "https : / / example.com / a-b ? x = 1"),
        ("ada@example.org snake_case AT&T #tag @ada", "ada@example.org snake_case AT&T # tag @ ada"),
        ("Lisbon🎉 👍🏽👩‍👩‍👧🇵🇹", "Lisbon 🎉 👍🏽 👩‍👩‍👧 🇵🇹"),
        ("café cafe\u0301 e\u0301's ", "café cafe\u0301 e\u0301 ' s"),
        ("我住在里斯本。O'Brien住Oslo", "我 住 在 里 斯 本 。 O'Brien 住 Oslo"),
        ("東京・カナ ไทย 서울은", "東 京 ・ カ ナ ไ ท ย 서울은"),
        ("naïve_Ünï 2026-11-29 x²", "naïve_Ünï 2026-11-29 x²"),
    ],
)
def test_the_words_of_characters(text: str, words: str) -> None:
    assert words_of(character_tokenizer(text), text) == words.split(" ")


BAG = "Marta lives in Lisbon Porto and visits often (see map) the river is wide . , ' \" - n't O'Brien don't"
PLANTED = [
    "Marta lives in Lisbon.",
    "they visit (Lisbon), often",
    "is it “Lisbon”?",
    "Lisbon/Porto",
    "in Lisbon's map",
    "LISBON",
]


@functools.cache
def corpus() -> list[str]:
    """Lines in which a name stands with and without marks beside it, so that tokenizers keep it apart."""
    draw = random.Random(1)
    return [" ".join(draw.choice(BAG.split()) for _ in range(14)) for _ in range(400)] + PLANTED[:2] * 60 + PLANTED


def sentencepiece_bpe() -> Tokenizer:
    """BPE over "▁", as Llama's and CamemBERT's relatives have it."""
    backend = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation("isolated")]
    )
    backend.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=150, special_tokens=["<unk>"], show_progress=False)
    backend.train_from_iterator(corpus(), trainer)
    return Tokenizer(backend, {"unk_token": "<unk>"})


def wordpiece_without_punctuation() -> Tokenizer:
    """WordPiece whose words end at white space alone, so that a full stop is a "##." of the word."""
    words = ["[UNK]", "Lisbon", "(", "##Lisbon", "##)", "##,", "##.", "##'", "##s", "##”", "“", "##?", "##/", "##Porto"]
    backend = tokenizers.Tokenizer(
        models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]", max_input_chars_per_word=50)
    )
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return Tokenizer(backend, {"unk_token": "[UNK]"})


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "unigram": lambda: train_tokenizer(corpus(), family="xlm-roberta", vocabulary_size=90),
    "sentencepiece-bpe": sentencepiece_bpe,
    "byte-level": lambda: train_tokenizer(corpus(), family="roberta", vocabulary_size=500),
    "gpt2": lambda: train_tokenizer(corpus(), family="gpt2", vocabulary_size=500),
    "wordpiece": lambda: train_tokenizer(corpus(), family="bert", vocabulary_size=150, lower_case=False),
    "wordpiece-without-punctuation": wordpiece_without_punctuation,
}


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return TOKENIZERS[request.param]()


@pytest.mark.parametrize("text", PLANTED[:5])
def test_a_name_is_a_word_without_the_marks_beside_it(tokenizer: Tokenizer, text: str) -> None:
    assert "Lisbon" in words_of(tokenizer, text)


@pytest.mark.parametrize("text", PLANTED[:5])
@pytest.mark.parametrize("aggregation", ["simple", "first", "average", "max"])
def test_a_name_is_found_with_marks_beside_it_by_every_aggregation(
    tokenizer: Tokenizer, text: str, aggregation: str
) -> None:
    def label_of(token: str) -> str:
        return "B-LOC" if token.strip("\u0120\u2581").removeprefix("##") == "Lisbon" else "O"

    tag = gs.task("tag", token_tagger(tokenizer, ["O", "B-LOC", "I-LOC"], label_of))
    assert [(one.label, one.text) for one in tag(text, aggregation).entities[0]] == [("LOC", "Lisbon")]


def test_pieces_of_one_character_are_one_word() -> None:
    tokenizer = TOKENIZERS["byte-level"]()
    assert words_of(tokenizer, "in 🎉ß, 東京") == ["in", "🎉", "ß", ",", "東", "京"]
