"""The tokenizer of byte-level models: an id is a byte, and one more ends a document."""

from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors

from gossamer.text.tokenizer import Tokenizer

__all__ = ["byte_letters", "byte_tokenizer", "is_byte_tokenizer"]

END, MASK, FIRST, SEPARATOR = "<|endoftext|>", "<|mask|>", "<|first|>", "<|separator|>"
_PROBE = " Ab\n\t  \x00é日👍"


def byte_tokenizer(*, mask: bool = False, pairs: bool = False) -> Tokenizer:
    """Ids 0 to 255 are the bytes of the text's UTF-8, 256 is the end of a document (and pads).

    mask: add 257, the token to be filled in, for masked language models. pairs: besides that 258, before a text or two,
    and 259, behind each of them, as BERT has them. Special tokens are never cut out of a text: it may spell their
    names. What is saved is an ordinary tokenizer.json (byte-level BPE without merges), whose reader
    does cut them out.
    """
    letters = byte_letters()
    backend = tokenizers.Tokenizer(models.BPE({letter: byte for byte, letter in enumerate(letters)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    names = (END, MASK, FIRST, SEPARATOR) if pairs else (END, MASK) if mask else (END,)
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    backend.encode_special_tokens = True
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "attention_mask"],
        "eos_token": END,
        "pad_token": END,
        "clean_up_tokenization_spaces": False,
    }
    settings |= {"mask_token": MASK} if mask or pairs else {}
    if pairs:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{FIRST} $A {SEPARATOR}",
            pair=f"{FIRST} $A {SEPARATOR} $B:1 {SEPARATOR}:1",
            special_tokens=[(name, backend.token_to_id(name)) for name in (FIRST, SEPARATOR)],
        )
        settings |= {"cls_token": FIRST, "sep_token": SEPARATOR}
        settings |= {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
    return Tokenizer(backend, settings)


def byte_letters() -> list[str]:
    """How byte-level vocabularies spell each byte: printable ones as themselves, others from U+0100 on (GPT-2's)."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def is_byte_tokenizer(tokenizer: Tokenizer) -> bool:
    """Whether a tokenizer's ids of a text are its bytes."""
    if tokenizer.vocabulary_size > 260 or tokenizer.tokens(range(256)) != byte_letters():
        return False
    return tokenizer.encode_plain(_PROBE)[0] == list(_PROBE.encode())
