"""The encoder: embeddings, the applied layers in order, and a head; built from an `Architecture` and nothing else."""

from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer.errors import InputError
from gossamer.layers import FeedForwardNetwork, Masks, SelfAttention, TokenEmbeddings, count_positions
from gossamer.models.architecture import Architecture, Layer, MaskedLM, SentenceEmbedding
from gossamer.models.heads import MaskedLMHead, masked_lm_loss, pool
from gossamer.models.inputs import as_mask, check_inputs, check_length, check_positions
from gossamer.models.output import Output

__all__ = ["Model"]


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
        head = architecture.head
        self.head = MaskedLMHead(architecture, head) if isinstance(head, MaskedLM) else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw fresh weights: normal of width `initializer_range`, biases and padding rows 0, norms 1, as BERT does."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=self.architecture.initializer_range)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
            if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                nn.init.zeros_(module.weight[module.padding_idx])

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
        labels: Int[Tensor, "batch length"] | None = None,
        output_hidden_states: bool = False,
    ) -> Output:
        """Read a batch of texts. Masks are 1 or True for real (attention_mask) and for global tokens (global_mask).

        `position_ids` are rows of the position table, as in `transformers`. `segments` are document ids of texts packed
        into one row: nothing crosses them and positions start again. `labels` (-100: ignored) give a loss. Raises
        InputError for shapes, types, ids and lengths this model cannot read.
        """
        if decoder_input_ids is not None or decoder_attention_mask is not None or cache is not None:
            raise InputError("decoder_input_ids, decoder_attention_mask and cache are for decoders; this is an encoder")
        if not torch.compiler.is_compiling():
            rows = {
                "attention_mask": attention_mask,
                "token_type_ids": token_type_ids,
                "position_ids": position_ids,
                "segments": segments,
                "global_mask": global_mask,
            }
            check_inputs(self.architecture, input_ids, inputs_embeds, rows, labels)
        masks = _masks(attention_mask, segments, global_mask)
        position_ids = self._positions(input_ids, inputs_embeds, position_ids, segments)
        hidden = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds)
        states = [hidden] if output_hidden_states else []
        for layer in self.architecture.layers:
            hidden = self._apply_layer(layer, hidden, masks)
            if output_hidden_states:
                states.append(hidden)
        out = self._read(hidden, masks, labels)
        out.hidden_states = tuple(states) or None
        return out

    def _apply_layer(
        self, layer: Layer, hidden: Float[Tensor, "batch length hidden"], masks: Masks
    ) -> Float[Tensor, "batch length hidden"]:
        attention = cast(SelfAttention, self.attention[layer.attention.weights])
        out = attention(hidden, layer.attention.pattern, masks, layer.attention.dropout)
        hidden = attention.norm(hidden + F.dropout(out, layer.dropout, self.training))
        feed_forward = cast(FeedForwardNetwork, self.feed_forward[layer.feed_forward.weights])
        return feed_forward.norm(hidden + F.dropout(feed_forward(hidden), layer.dropout, self.training))

    def _positions(
        self, input_ids: Tensor | None, inputs_embeds: Tensor | None, given: Tensor | None, segments: Tensor | None
    ) -> Int[Tensor, "rows length"]:
        main = input_ids if input_ids is not None else inputs_embeds
        assert main is not None
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

    def _read(self, hidden: Tensor, masks: Masks, labels: Tensor | None) -> Output:
        out = Output(last_hidden_state=hidden)
        if isinstance(self.head, MaskedLMHead):
            out.logits = self.head(hidden, self.embeddings.word.weight)
            out.loss = None if labels is None else masked_lm_loss(out.logits, labels)
        elif isinstance(self.architecture.head, SentenceEmbedding):
            # A packed row holds several texts; one vector of all of them would mean nothing.
            packed = masks.segments is not None
            out.pooled = None if packed else pool(self.architecture.head, hidden, masks.key_mask)
        elif self.pooler is not None:
            out.pooled = torch.tanh(self.pooler(hidden[:, 0]))
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
