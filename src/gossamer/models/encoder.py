"""The encoder: embeddings, the applied layers in order, and a head; built from an `Architecture` and nothing else."""

from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer.errors import InputError
from gossamer.layers import FeedForwardNetwork, Masks, SelfAttention, TokenEmbeddings, count_positions
from gossamer.models.architecture import Architecture, Layer
from gossamer.models.global_tokens import default_global_mask
from gossamer.models.head_settings import (
    Head,
    MultipleChoice,
    NextSentence,
    PreTraining,
    SentenceEmbedding,
    SequenceClassification,
)
from gossamer.models.heads import build_head, pool
from gossamer.models.inputs import as_mask, check_inputs, check_length, check_positions, flatten_choices
from gossamer.models.losses import Labels, check_labels, labels_loss
from gossamer.models.output import Output

__all__ = ["Model", "initialise"]

_OF_WHOLE_TEXTS = (SequenceClassification, NextSentence, MultipleChoice)


def initialise(module: nn.Module, width: float) -> None:
    """Draw fresh weights for a module and its parts: normal of this width, biases and padding rows 0, norms 1."""
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Embedding)):
            nn.init.normal_(part.weight, std=width)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
        if isinstance(part, nn.Embedding) and part.padding_idx is not None:
            nn.init.zeros_(part.weight[part.padding_idx])


class Model(nn.Module):
    """A transformer encoder with fresh weights, as `architecture` describes it.

    `attention` and `feed_forward` hold one module per weight set; layers that name the same set share it. `family` is
    the public format it was read from ("gossamer": none), `tokenizer` reads text for it, `receipt` says what a recipe
    changed, and `extra_config` keeps the checkpoint's settings that do not change its mathematics.
    """

    def __init__(self, architecture: Architecture, *, family: str = "gossamer", tokenizer: Any = None) -> None:
        super().__init__()
        self.architecture = architecture
        self.family = family
        self.tokenizer = tokenizer
        self.extra_config: dict[str, Any] = {}
        self.source: str | None = None
        self.receipt: Any = None
        self.embeddings = _build_embeddings(architecture)
        self.attention = nn.ModuleList(_build_attention(architecture))
        self.feed_forward = nn.ModuleList(_build_feed_forward(architecture))
        self.pooler = nn.Linear(*2 * (architecture.hidden_size,)) if architecture.pooler else None
        self.head = build_head(architecture)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw fresh weights: normal of width `initializer_range`, biases and padding rows 0, norms 1, as BERT does."""
        initialise(self, self.architecture.initializer_range)

    def forward(
        self,
        input_ids: Int[Tensor, "batch length"] | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Int[Tensor, "batch length"] | None = None,
        position_ids: Int[Tensor, "#batch length"] | None = None,
        segments: Int[Tensor, "batch length"] | None = None,
        global_mask: Tensor | None = None,
        inputs_embeds: Float[Tensor, "batch length size"] | None = None,
        decoder_input_ids: None = None,
        decoder_attention_mask: None = None,
        cache: None = None,
        labels: Labels | None = None,
        output_hidden_states: bool = False,
    ) -> Output:
        """Read a batch of texts. Masks are 1 or True for real (attention_mask) and for global tokens (global_mask).

        A multiple-choice head reads [batch, choices, length] and gives one score a choice, [batch, choices].
        `position_ids` are rows of the position table, as in `transformers`. `segments` are document ids of texts packed
        into one row: nothing crosses them and positions start again. Without a `global_mask` the global tokens are
        those of `transformers`: the first (sequence classification), the question, all but the context (multiple
        choice), or none. `labels` give a loss, -100 being ignored: [batch, length] (masked LM, token classification),
        [batch] (one of the labels, choices), [batch, labels] (several labels, regression), [batch, 2] (first and last
        token of the answer), or (tokens, pairs) for the pre-training head. Raises InputError for shapes, types, ids and
        lengths this model cannot read.
        """
        if decoder_input_ids is not None or decoder_attention_mask is not None or cache is not None:
            raise InputError("decoder_input_ids, decoder_attention_mask and cache are for decoders; this is an encoder")
        rows = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
            "position_ids": position_ids,
            "segments": segments,
            "global_mask": global_mask,
        }
        choices = None
        if isinstance(self.architecture.head, MultipleChoice):
            rows, inputs_embeds, choices = flatten_choices(rows, inputs_embeds)
        if not torch.compiler.is_compiling():
            shape = check_inputs(self.architecture, inputs_embeds, rows)
            if labels is not None:
                check_labels(self.architecture, labels, shape, choices)
                if segments is not None and isinstance(labels, tuple) and len(labels) > 1:
                    raise InputError(
                        "labels of pairs were given for packed texts (segments): give those of tokens alone"
                    )
        masks, states = self._encode(rows, inputs_embeds, output_hidden_states)
        out = self._read(states[-1], masks, choices)
        out.hidden_states = tuple(states) if output_hidden_states else None
        out.loss = None if labels is None else labels_loss(cast(Head, self.architecture.head), out, labels)
        return out

    def _encode(
        self, rows: dict[str, Tensor | None], inputs_embeds: Tensor | None, keep: bool
    ) -> tuple[Masks, list[Float[Tensor, "batch length hidden"]]]:
        """The masks of a batch and its states: the embeddings', then every layer's, or the last alone."""
        input_ids, segments = rows["input_ids"], rows["segments"]
        given = cast(Tensor, input_ids if input_ids is not None else inputs_embeds)
        flagged = rows["global_mask"]
        if flagged is None:
            flagged = default_global_mask(self.architecture, input_ids, given)
        masks = _masks(rows["attention_mask"], segments, flagged)
        position_ids = self._positions(input_ids, given, rows["position_ids"], segments)
        states = [self.embeddings(input_ids, rows["token_type_ids"], position_ids, inputs_embeds)]
        for layer in self.architecture.layers:
            hidden = self._apply_layer(layer, states[-1], masks)
            states = [*states, hidden] if keep else [hidden]
        return masks, states

    def _apply_layer(
        self, layer: Layer, hidden: Float[Tensor, "batch length hidden"], masks: Masks
    ) -> Float[Tensor, "batch length hidden"]:
        attention = cast(SelfAttention, self.attention[layer.attention.weights])
        out = attention(hidden, layer.attention.pattern, masks, layer.attention.dropout)
        hidden = attention.norm(hidden + F.dropout(out, layer.attention.residual_dropout, self.training))
        feed_forward = cast(FeedForwardNetwork, self.feed_forward[layer.feed_forward.weights])
        out = F.dropout(feed_forward(hidden), layer.feed_forward.residual_dropout, self.training)
        return feed_forward.norm(hidden + out)

    def _positions(
        self, input_ids: Tensor | None, main: Tensor, given: Tensor | None, segments: Tensor | None
    ) -> Int[Tensor, "rows length"]:
        checked = not torch.compiler.is_compiling()
        if given is not None:
            if checked:
                check_positions(given, self.architecture)
            return given
        settings = self.architecture.embeddings.positions
        first = settings.offset - 1
        if settings.from_padding and input_ids is not None:
            count = count_positions(input_ids.ne(cast(int, self.architecture.embeddings.padding_id)), segments)
        elif segments is not None:
            count = count_positions(torch.ones(main.shape[:2], dtype=torch.bool, device=main.device), segments)
        else:
            count = torch.arange(1, main.shape[1] + 1, device=main.device)[None]
        if checked and main.shape[1] > self.architecture.length:
            check_length(int(count.max()), self.architecture)
        return count + first

    def _read(self, hidden: Tensor, masks: Masks, choices: int | None) -> Output:
        head = self.architecture.head
        # A packed row holds several texts; one vector or one label of all of them would mean nothing.
        packed = masks.segments is not None
        if packed and isinstance(head, _OF_WHOLE_TEXTS):
            raise InputError(f"{head.kind} reads one text a row; give packed texts (segments) in rows of their own")
        out = Output() if self.head is None else self.head(hidden, self.embeddings.word.weight)
        if packed and isinstance(head, PreTraining):
            out.pair_logits = out.pooled = None
        if isinstance(head, SentenceEmbedding):
            out.pooled = None if packed else pool(head, hidden, masks.key_mask)
        elif head is None and self.pooler is not None:
            out.pooled = torch.tanh(self.pooler(hidden[:, 0]))
        if choices is not None:
            out.logits = cast(Tensor, out.logits).view(-1, choices)
        out.last_hidden_state = hidden
        return out


def _masks(
    attention_mask: Tensor | None, segments: Tensor | None, global_mask: Bool[Tensor, "batch length"] | None
) -> Masks:
    key_mask, flagged = as_mask("attention_mask", attention_mask), as_mask("global_mask", global_mask)
    if flagged is not None and key_mask is not None:
        flagged = flagged & key_mask
    return Masks(key_mask=key_mask, segments=segments, global_mask=flagged)


def _build_embeddings(architecture: Architecture) -> TokenEmbeddings:
    settings = architecture.embeddings
    positions = settings.positions
    return TokenEmbeddings(
        settings.vocabulary_size,
        settings.size,
        positions=positions.offset + positions.length,
        token_types=settings.token_types,
        padding_id=settings.padding_id,
        position_padding=positions.offset - 1 if positions.from_padding else None,
        norm_eps=settings.norm_eps,
        dropout=settings.dropout,
        projected_size=architecture.hidden_size if settings.projection else None,
    )


def _build_attention(architecture: Architecture) -> list[SelfAttention]:
    sets = {one.attention.weights: one for one in reversed(architecture.layers)}
    return [
        SelfAttention(
            architecture.hidden_size,
            layer.attention.heads,
            layer.attention.head_size,
            norm_eps=layer.norm_eps,
            global_projections=layer.attention.global_projections,
        )
        for _, layer in sorted(sets.items(), key=lambda item: item[0])
    ]


def _build_feed_forward(architecture: Architecture) -> list[FeedForwardNetwork]:
    sets = {one.feed_forward.weights: one for one in reversed(architecture.layers)}
    return [
        FeedForwardNetwork(
            architecture.hidden_size,
            layer.feed_forward.width,
            activation=layer.feed_forward.activation,
            norm_eps=layer.norm_eps,
        )
        for _, layer in sorted(sets.items(), key=lambda item: item[0])
    ]
