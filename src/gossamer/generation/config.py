"""What a checkpoint's generation_config.json asks for: what ends a text is done, the rest is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gossamer.errors import quote

__all__ = ["unfollowed"]

_DRAWING = ("temperature", "top_k", "top_p")
# Ids that need no doing here (texts end at eos_token_id, nothing is put before a prompt, nobody sees padding), and how
# transformers computes and reports.
_SILENT = {
    *("eos_token_id", "bos_token_id", "pad_token_id", "decoder_start_token_id", "transformers_version"),
    *("_from_model_config", "do_sample", "use_cache", "cache_implementation", "return_dict_in_generate"),
    *("output_attentions", "output_hidden_states", "output_scores", "output_logits", "diversity_penalty"),
    *("renormalize_logits", "remove_invalid_values"),
}
_OF_BEAMS = ("length_penalty", "early_stopping", "num_return_sequences")
"""What says nothing without beams."""
_NEUTRAL: tuple[Any, ...] = (None, False, 0, 1, [], {}, "")
"""Values with which a setting does nothing: no penalty, one beam, no list."""


def unfollowed(config: Mapping[str, Any], used: Mapping[str, Any]) -> list[str]:
    """A remark on what the file asks for and was not done, or none; `used` are the options of the call.

    How tokens are drawn counts where the file says `do_sample`: without it, `transformers` draws none.
    """
    asked = {name: value for name, value in config.items() if name not in _SILENT and name not in _DRAWING}
    asked = {name: value for name, value in asked.items() if value not in _NEUTRAL}
    if config.get("do_sample") is True:
        asked |= {name: config[name] for name in _DRAWING if config.get(name) is not None}
    of_beams = used.get("num_beams", 1) > 1
    if config.get("do_sample") is True and of_beams:
        asked["do_sample"] = True  # the likeliest texts are searched for, none is drawn
    asked = {name: value for name, value in asked.items() if of_beams or name not in _OF_BEAMS}
    other = [f"{name} {quote(value)}" for name, value in asked.items() if not _alike(used.get(name), value)]
    if not other:
        return []
    return [f"generation_config.json says {', '.join(other)}: not followed, the options of the call decide"]


def _alike(used: Any, asked: Any) -> bool:
    """Whether they are one, a list being the same as a tuple, and a number as that alone."""
    ours, theirs = (_plain(one) if isinstance(one, list | tuple) else (one,) for one in (used, asked))
    return bool(ours == theirs)


def _plain(value: Any) -> Any:
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value
