"""What a language model is trained to predict: the next token, or tokens that were taken out."""

from dataclasses import dataclass
from typing import Literal

from gossamer.models.checks import require, require_choice, require_count, require_rate

__all__ = ["Masking", "Objective", "ObjectiveKind"]

ObjectiveKind = Literal["causal-lm", "masked-lm"]
Masking = Literal["token", "whole-word", "n-gram"]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What is predicted.

    kind: "causal-lm", the next token; "masked-lm", `share` of the text's tokens, drawn anew each time (Devlin et al.
    2019, section 3.1; dynamic as in Liu et al. 2019, section 4.1): 80% become the mask, 10% another token, 10% stay.
    masking: "token", each by itself; "whole-word", all pieces of a word together; "n-gram", spans of one to `longest`
    whole words, n of them in proportion to 1/n (ALBERT: Lan et al. 2020, section 4.1).
    """

    kind: ObjectiveKind = "causal-lm"
    masking: Masking = "token"
    share: float = 0.15
    longest: int = 3

    def __post_init__(self) -> None:
        require_choice(self, ObjectiveKind, "kind")
        require_choice(self, Masking, "masking")
        require_rate(self, "share")
        require(self.share > 0, "share", self.share, "a rate above 0 and below 1")
        require_count(self, "longest", most=64)
