"""A tokenizer that reads "[SEP]" or "<|endoftext|>", written in a text, as letters."""

import json
from typing import Any

import tokenizers

__all__ = ["without_control_tokens"]

# No text holds these: U+FDD0 is a noncharacter, and nothing may stand for it in interchange.
_HIDDEN = "\ufdd0{}\ufdd0"


def without_control_tokens(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """A copy in which no text can spell a special token; ids, and the tokens that are put around a text, stay.

    Their names are replaced by ones that no text holds. `encode_special_tokens` alone would not do: a unigram
    vocabulary has pieces such as "</s>", which it would go on finding in a text.
    """
    data: dict[str, Any] = json.loads(backend.to_str())
    special = [token["content"] for token in data["added_tokens"] if token["special"]]
    hidden = {name: _HIDDEN.format(i) for i, name in enumerate(special)}
    for token in data["added_tokens"]:
        token["content"] = hidden.get(token["content"], token["content"])
    model = data["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {hidden.get(name, name): number for name, number in model["vocab"].items()}
    else:
        model["vocab"] = [[hidden.get(piece, piece), score] for piece, score in model["vocab"]]
    if model.get("unk_token") is not None:
        model["unk_token"] = hidden.get(model["unk_token"], model["unk_token"])
    return tokenizers.Tokenizer.from_str(json.dumps(data))
