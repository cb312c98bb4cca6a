"""What is read off a model's states, as frozen settings: one class a head, `kind` is its name everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from gossamer.errors import InputError, quote
from gossamer.models.checks import require, require_choice, require_count, require_flag, require_positive, require_rate

__all__ = [
    "HEADS",
    "LABELLED",
    "Activation",
    "CausalLM",
    "Head",
    "MaskedLM",
    "MultipleChoice",
    "NextSentence",
    "Pooling",
    "PreTraining",
    "ProblemType",
    "QuestionAnswering",
    "ScoreActivation",
    "SentenceEmbedding",
    "SequenceClassification",
    "Similarity",
    "TokenClassification",
]

Activation = Literal["gelu", "gelu_tanh", "gelu_sigmoid", "relu", "silu"]
Pooling = Literal["mean", "cls", "max"]
PoolerActivation = Literal["tanh", "relu"]
ScoreActivation = Literal["identity", "sigmoid"]
Similarity = Literal["cosine", "dot", "euclidean", "manhattan"]
ProblemType = Literal["regression", "single_label_classification", "multi_label_classification"]

MOST_LABELS = 2**20


def _require_labels(labels: object) -> None:
    if not isinstance(labels, tuple) or not 1 <= len(labels) <= MOST_LABELS:
        raise InputError(f"labels is {quote(labels)}; it must be a tuple of 1 to {MOST_LABELS:,} names")
    for label in labels:
        require(isinstance(label, str), "labels", label, "names, every one a string")


@dataclass(frozen=True, kw_only=True)
class MaskedLM:
    """Which token stands under each mask: dense, activation, norm, then the (tied) word table and a bias."""

    activation: Activation = "gelu"
    norm_eps: float = 1e-12
    tied: bool = True
    kind: Literal["masked-lm"] = "masked-lm"

    def __post_init__(self) -> None:
        require_choice(self, Activation, "activation")
        require_positive(self, "norm_eps")
        require_flag(self, "tied")


@dataclass(frozen=True, kw_only=True)
class CausalLM:
    """Which token comes next: the states against the (tied) word table (Radford et al. 2019)."""

    tied: bool = True
    kind: Literal["causal-lm"] = "causal-lm"

    def __post_init__(self) -> None:
        require_flag(self, "tied")


@dataclass(frozen=True, kw_only=True)
class PreTraining:
    """A masked LM, and of two texts whether the second follows the first: 0 it does, 1 it does not.

    Next sentence (Devlin et al. 2019, section 3.1: 1 is a text from elsewhere) or sentence order (Lan et al. 2020,
    section 3.1: 1 is the two exchanged). `pair_dropout` comes before the pair's last map.
    """

    activation: Activation = "gelu"
    norm_eps: float = 1e-12
    tied: bool = True
    pair_dropout: float = 0.0
    kind: Literal["pre-training"] = "pre-training"

    def __post_init__(self) -> None:
        require_choice(self, Activation, "activation")
        require_positive(self, "norm_eps")
        require_flag(self, "tied")
        require_rate(self, "pair_dropout")


@dataclass(frozen=True, kw_only=True)
class NextSentence:
    """BERT's question alone: does the second text follow the first (0), or is it from elsewhere (1)?"""

    kind: Literal["next-sentence"] = "next-sentence"


@dataclass(frozen=True, kw_only=True)
class SequenceClassification:
    """One score a label for the whole text, from its first token: dropout, dense, activation, dropout, linear.

    `problem_type` decides the loss: None leaves that to the number of labels and the type of the given ones.
    `score_activation` is what a cross-encoder of sentence-transformers makes of its scores when it answers: the numbers
    themselves, or the sigmoid of each; None: what is usual for the problem. The model's logits are without it.
    """

    labels: tuple[str, ...]
    problem_type: ProblemType | None = None
    score_activation: ScoreActivation | None = None
    pooler_activation: PoolerActivation = "tanh"
    input_dropout: float = 0.0
    dropout: float = 0.1
    kind: Literal["sequence-classification"] = "sequence-classification"

    def __post_init__(self) -> None:
        _require_labels(self.labels)
        if self.problem_type is not None:
            require_choice(self, ProblemType, "problem_type")
        if self.problem_type == "single_label_classification":
            require(len(self.labels) > 1, "labels", self.labels, "two or more for single_label_classification")
        named = self.score_activation
        is_known = named is None or (isinstance(named, str) and named in get_args(ScoreActivation))
        allowed = "'identity', 'sigmoid' or None (in config.json, activation_fn torch.nn.Identity or torch.nn.Sigmoid)"
        require(is_known, "score_activation", named, allowed)
        require_choice(self, PoolerActivation, "pooler_activation")
        require_rate(self, "input_dropout", "dropout")


@dataclass(frozen=True, kw_only=True)
class TokenClassification:
    """One score a label for every token: dropout, linear."""

    labels: tuple[str, ...]
    dropout: float = 0.1
    kind: Literal["token-classification"] = "token-classification"

    def __post_init__(self) -> None:
        _require_labels(self.labels)
        require_rate(self, "dropout")


@dataclass(frozen=True, kw_only=True)
class QuestionAnswering:
    """Where the answer starts and ends: two scores for every token."""

    dropout: float = 0.0
    kind: Literal["question-answering"] = "question-answering"

    def __post_init__(self) -> None:
        require_rate(self, "dropout")


@dataclass(frozen=True, kw_only=True)
class MultipleChoice:
    """One score a choice, from the first token of each: dense, activation, dropout, linear."""

    pooler_activation: PoolerActivation = "tanh"
    dropout: float = 0.1
    kind: Literal["multiple-choice"] = "multiple-choice"

    def __post_init__(self) -> None:
        require_choice(self, PoolerActivation, "pooler_activation")
        require_rate(self, "dropout")


@dataclass(frozen=True, kw_only=True)
class SentenceEmbedding:
    """One vector a text: the mean, maximum or first of its token states, of length 1 where `normalized`.

    The others say, in the words of sentence-transformers, what belongs to a vector beyond the model's own computing:
    `prompts`, texts by name (a mapping is taken, too), one of which may be put before each text, that of
    `default_prompt_name` unless asked for another; `include_prompt`, whether the prompt's tokens are pooled;
    `truncate_dim`, how many of a vector's numbers are kept, the first ones; and how two vectors are compared.
    """

    pooling: Pooling = "mean"
    normalized: bool = False
    prompts: tuple[tuple[str, str], ...] = ()
    default_prompt_name: str | None = None
    include_prompt: bool = True
    truncate_dim: int | None = None
    similarity_fn_name: Similarity = "cosine"
    kind: Literal["embed"] = "embed"

    def __post_init__(self) -> None:
        require_choice(self, Pooling, "pooling")
        require_choice(self, Similarity, "similarity_fn_name")
        require_flag(self, "normalized", "include_prompt")
        object.__setattr__(self, "prompts", _read_prompts(self.prompts))
        if self.truncate_dim is not None:
            require_count(self, "truncate_dim")
        if self.default_prompt_name is not None:
            self._check_name("default_prompt_name", self.default_prompt_name)

    def resolve_prompt(self, prompt: str | None = None, prompt_name: str | None = None) -> str:
        """The text to be put before each text: `prompt` itself, the one called `prompt_name`, or the default; "": none.

        Raises InputError for a name that the model does not have, for both at once, and for what is no string.
        """
        if prompt is not None:
            require(isinstance(prompt, str), "prompt", prompt, "a string")
            if prompt_name is not None:
                raise InputError(f"prompt_name is {quote(prompt_name)}, but there is a prompt, too; give one of them")
            return prompt
        name = self.default_prompt_name if prompt_name is None else prompt_name
        return "" if name is None else dict(self.prompts)[self._check_name("prompt_name", name)]

    def _check_name(self, field: str, name: object) -> str:
        names = [one for one, _ in self.prompts]
        if not isinstance(name, str) or name not in names:
            listed = ", ".join(map(quote, names))
            known = f"one of the prompts' names, {listed}" if names else "None: there are no prompts"
            raise InputError(f"{field} is {quote(name)}; it must be {known}")
        return name


def _read_prompts(prompts: Any) -> tuple[tuple[str, str], ...]:
    """Names and texts as pairs. InputError for what is neither a mapping nor pairs of strings, and for a name twice."""
    pairs = tuple(prompts.items()) if isinstance(prompts, Mapping) else prompts
    allowed = "an object, or pairs, of names and texts, each name once"
    require(isinstance(pairs, tuple | list), "prompts", prompts, allowed)
    for pair in pairs:
        is_pair = isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(one, str) for one in pair)
        require(is_pair, "prompts", prompts, allowed)
    require(len({name for name, _ in pairs}) == len(pairs), "prompts", prompts, allowed)
    return tuple((name, text) for name, text in pairs)


Head = (
    MaskedLM
    | CausalLM
    | PreTraining
    | NextSentence
    | SequenceClassification
    | TokenClassification
    | QuestionAnswering
    | MultipleChoice
    | SentenceEmbedding
)
LABELLED = (SequenceClassification, TokenClassification)
HEADS: dict[str, type] = {
    "masked-lm": MaskedLM,
    "causal-lm": CausalLM,
    "pre-training": PreTraining,
    "next-sentence": NextSentence,
    "sequence-classification": SequenceClassification,
    "token-classification": TokenClassification,
    "question-answering": QuestionAnswering,
    "multiple-choice": MultipleChoice,
    "embed": SentenceEmbedding,
}
