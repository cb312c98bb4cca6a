"""The model: embeddings, a stack of layers, and a head; built from an `Architecture` and nothing else."""

from dataclasses import replace
from typing import Any, cast

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer.errors import InputError, quote
from gossamer.layers import (
    Linear,
    OtherStates,
    SequenceSplit,
    TokenInfo,
    count_positions,
)
from gossamer.models.architecture import Architecture
from gossamer.models.building import (
    build_attention,
    build_distance_bias,
    build_embeddings,
    build_feed_forward,
    norm_module,
    store_maps,
)
from gossamer.models.cache import Cache
from gossamer.models.decoder_stack import Decoder
from gossamer.models.global_tokens import default_global_mask
from gossamer.models.heads import (
    CausalLM,
    CausalLMHead,
    Head,
    HeadModule,
    Labels,
    MaskedLM,
    Seq2SeqLM,
    Seq2SeqLMHead,
    Sizes,
    Tokens,
)
from gossamer.models.initial import draw_weights
from gossamer.models.inputs import as_mask, check_inputs, check_length, check_positions, flatten_choices
from gossamer.models.next_token import IGNORED, next_token_loss, next_tokens
from gossamer.models.output import Output
from gossamer.models.stack import check_distances, drops, run_layers
from gossamer.models.tensors import describe
from gossamer.models.text_decoder import TextDecoder, check_second_text, shift_right

__all__ = ["Model"]


class Model(nn.Module):
    """A transformer encoder or decoder with fresh weights, as `architecture` describes it.

    `attention`, `feed_forward` and `distance_bias` hold one module per weight set; layers that name the same set share
    it, and where no layer has a table by distance `distance_bias` is empty. `family` is the public format it was read
    from ("gossamer": none), `tokenizer` reads text for it, `receipt` says what a recipe changed, `extra_config` keeps
    the checkpoint's settings that do not change its mathematics, `generation_config` what the file of this name says,
    `usual_end_id` the token that ends texts where neither these nor the tokenizer name one, `card` what its card says
    of license, language, base and task, and `notes` what is to be known of how it was read, a
    line each. With a `split` it reads whole texts and has states of this process's part of them alone.

    `labels` are [batch, length] (masked LM, token classification), [batch] (one of the labels, choices), [batch,
    labels] (several labels, regression), [batch, 2] (first and last token of the answer), or (tokens, pairs) for the
    pre-training head. The labels of a decoder are its input_ids, -100 for padding, which stands on the right: each
    state is compared with its document's next token, in tiles, without logits.

    A model of two texts, with a `decoder`, reads the second one as `decoder_input_ids`, start first, of which a mask
    may say what is real; its `labels`, [batch, written], are what is to be told at each of its places, and where no
    `decoder_input_ids` are given, these are the labels moved one place to the right. With a `cache` the first text is
    read at the first call, and left out at later ones. States, logits and the cache are then of the second text,
    `encoder_last_hidden_state` is of the first. A head of labels reads the states of the same text, written once more.
    """

    cross_attention: nn.ModuleList | None = None

    def __init__(self, architecture: Architecture, *, family: str = "gossamer", tokenizer: Any = None) -> None:
        super().__init__()
        self.architecture = architecture
        self.family = family
        self.tokenizer = tokenizer
        self.extra_config: dict[str, Any] = {}
        self.generation_config: dict[str, Any] = {}
        self.usual_end_id: int | None = None
        self.card: dict[str, str | list[str]] = {}
        self.notes: list[str] = []
        self.source: str | None = None
        self.split: SequenceSplit | None = None
        self.receipt: Any = None
        self.embeddings = build_embeddings(architecture.embeddings, architecture.hidden_size)
        self.attention = nn.ModuleList(build_attention(architecture.hidden_size, architecture.layers))
        self.distance_bias = nn.ModuleList(build_distance_bias(architecture.hidden_size, architecture.layers))
        self.feed_forward = nn.ModuleList(build_feed_forward(architecture.hidden_size, architecture.layers))
        norm = architecture.final_norm
        self.final_norm = None if norm is None else norm_module(norm, architecture.output_size)
        self.pooler = Linear(*2 * (architecture.output_size,)) if architecture.pooler else None
        decoder = architecture.decoder
        self.decoder = None if decoder is None else TextDecoder(decoder, architecture.hidden_size)
        self.head = None if architecture.head is None else architecture.head.build(architecture)
        self.reset_parameters()
        store_maps(self, architecture)

    def reading_length(self, max_length: int | None = None) -> int:
        """How many tokens of a text, special ones included, are read at once: the one rule of tokenizer and tasks.

        That is the checkpoint's own limit (`tokenizer.max_length`: the least of the tokenizer's `model_max_length`,
        sentence-transformers' `max_seq_length` and the architecture's length), or `max_length`, up to the
        architecture's length. Raises InputError for another one.
        """
        most = self.architecture.length
        if max_length is None:
            limit = None if self.tokenizer is None else self.tokenizer.max_length
            return most if limit is None else min(limit, most)
        if type(max_length) is not int or not 1 <= max_length <= most:
            raise InputError(
                f"max_length is {quote(max_length)}; it must be a whole number of tokens from 1 to {most}, all that "
                "the model can read at once"
            )
        return max_length

    def reset_parameters(self) -> None:
        """Draw fresh weights, as the architecture's `initializer` says: biases and padding rows 0, norms 1."""
        draw_weights(self, self.architecture)

    def forward(
        self,
        input_ids: Int[Tensor, "batch *choices length"] | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Int[Tensor, "batch *choices length"] | None = None,
        position_ids: Int[Tensor, "#batch *#choices length"] | None = None,
        segments: Int[Tensor, "batch *choices length"] | None = None,
        global_mask: Tensor | None = None,
        inputs_embeds: Float[Tensor, "batch *choices length size"] | None = None,
        decoder_input_ids: Int[Tensor, "batch written"] | None = None,
        decoder_attention_mask: Tensor | None = None,
        cache: Cache | None = None,
        labels: Labels | None = None,
        head_mask: Shaped[Tensor, "*layers heads"] | None = None,
        output_hidden_states: bool = False,
    ) -> Output:
        """Read a batch of texts. Masks are 1 or True for real (attention_mask) and for global tokens (global_mask).

        A multiple-choice head reads [batch, choices, length] and gives one score a choice, [batch, choices].
        `position_ids` are rows of the position table or, without one, positions, as in `transformers`.
        `segments` are document ids of texts packed into one row: nothing crosses them and positions start again.
        Without a `global_mask` the global tokens are those of `transformers`: the first (sequence classification), the
        question, all but the context (choices), or none; with `architecture.global_tokens` "first" each text's first
        real token, too. `labels` give a loss, -100 being ignored: see the class. With a `cache` the tokens follow those
        that it holds. `head_mask`, [heads] or [layers, heads], multiplies what each head gives: 0 switches it off. Of
        two texts `decoder_input_ids` are the second: see the class. Raises InputError for what this model cannot read.
        """
        written = (decoder_input_ids, decoder_attention_mask)
        if self.decoder is None and any(one is not None for one in written):
            raise InputError("decoder_input_ids and decoder_attention_mask are for models of two texts; give input_ids")
        if cache is not None:
            self._check_cached(cache, segments, labels)
        rows = {
            "input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids,
            "position_ids": position_ids, "segments": segments, "global_mask": global_mask,
        }  # fmt: skip
        if self.decoder is not None:
            written = (decoder_input_ids, decoder_attention_mask)
            return self._write(
                self.decoder, rows, inputs_embeds, written, cache, labels, head_mask, output_hidden_states
            )
        choices = None
        settings = self.architecture.head
        if settings is not None and settings.takes_choices:
            rows, inputs_embeds, choices = flatten_choices(rows, inputs_embeds)
        if not torch.compiler.is_compiling():
            shape = check_inputs(self.architecture, inputs_embeds, rows)
            if labels is not None:
                self._check_labels(labels, shape, choices, packed=segments is not None)
        kept_heads = None if head_mask is None else self._head_mask(head_mask)
        tokens, states = self._encode(rows, inputs_embeds, output_hidden_states, cache, kept_heads)
        if labels is not None and isinstance(self.head, CausalLMHead):
            out = Output(loss=self._next_token_loss(self.head, states[-1], cast(Tensor, labels), segments))
        else:
            out = self._read(states[-1], tokens, rows["input_ids"], choices)
            out.loss = self._loss(out, labels, tokens.key_mask)
        out.last_hidden_state, out.cache = states[-1], cache
        out.hidden_states = tuple(states) if output_hidden_states else None
        return out

    def _write(
        self,
        decoder: TextDecoder,
        rows: dict[str, Tensor | None],
        inputs_embeds: Tensor | None,
        written: tuple[Tensor | None, Tensor | None],
        cache: Cache | None,
        labels: Labels | None,
        head_mask: Tensor | None,
        keep: bool,
    ) -> Output:
        """What `forward` gives where a second text is written beside a first."""
        ids, mask = written
        head, settings = self.head, cast(Decoder, self.architecture.decoder)
        if rows["segments"] is not None:
            raise InputError("segments were given to a model of two texts, which reads one pair a row: leave them out")
        read = cache is not None and cache.holds_other_states
        checks = not torch.compiler.is_compiling()
        if read:
            first = {**rows, "inputs_embeds": inputs_embeds, "head_mask": head_mask}
            for name, one in first.items():
                if one is not None:
                    raise InputError(f"{name} was given with a cache that holds the first text: leave it out")
        elif checks:
            batch = check_inputs(self.architecture, inputs_embeds, rows)
            if ids is None or labels is not None:
                self._check_told(settings, labels, ids, batch)
        if ids is None:
            ids = shift_right(self._told(rows["input_ids"], labels), settings)
        if checks:
            check_second_text(settings, ids, mask, len(ids) if read else batch[0])
        other, encoded = None, None
        if not read:
            kept_heads = None if head_mask is None else self._head_mask(head_mask)
            tokens, states = self._encode(rows, inputs_embeds, False, None, kept_heads)
            encoded = F.dropout(states[-1], self.architecture.final_dropout, self.training)
            other = OtherStates(states=encoded, tokens=TokenInfo(key_mask=tokens.key_mask))
        words = (self.embeddings if settings.shared_words else decoder.embeddings).words(ids)
        every = decoder.read(settings, words, as_mask("decoder_attention_mask", mask), other, cache, keep)
        if isinstance(head, Seq2SeqLMHead) and labels is not None:
            out = Output(loss=next_token_loss(*head.factors(every[-1], self.written_words), cast(Tensor, labels)))
        else:
            key_mask = as_mask("attention_mask", rows["attention_mask"])
            out = self._read(every[-1], TokenInfo(key_mask=key_mask), rows["input_ids"], None)
            out.loss = self._loss(out, labels, key_mask)
        out.last_hidden_state, out.cache, out.encoder_last_hidden_state = every[-1], cache, encoded
        out.hidden_states = tuple(every) if keep else None
        return out

    def _check_told(self, decoder: Decoder, labels: Labels | None, ids: Tensor | None, batch: torch.Size) -> None:
        """Refuse labels that fit neither the head nor the second text, and a second text where there is none to be."""
        if self._reads_again:
            if ids is not None:
                raise InputError(
                    "decoder_input_ids were given to a head that reads the first text again: leave them out"
                )
            if labels is not None:
                self._check_labels(labels, batch, None, packed=False)
            return
        if isinstance(labels, Tensor) and labels.dim() == 2 and labels.shape[1] > decoder.length:
            raise InputError(
                f"labels are {labels.shape[1]} tokens long, the decoder tells {decoder.length}: shorten them"
            )
        if labels is None:
            return
        is_row = isinstance(labels, Tensor) and labels.dim() == 2 and labels.shape[1] > 0
        written = (cast(Tensor, labels).shape[1] if is_row else 1) if ids is None else ids.shape[-1]
        self._check_labels(labels, torch.Size((batch[0], written)), None, packed=False)

    @property
    def _reads_again(self) -> bool:
        """Whether the head reads the states of the first text, written once more."""
        head = self.architecture.head
        return head is not None and not isinstance(head, Seq2SeqLM)

    def _told(self, input_ids: Tensor | None, labels: Labels | None) -> Tensor:
        """The tokens that a decoder is to tell: the labels', or where a head reads its states, the first text's own."""
        told = input_ids if self._reads_again else labels
        if not isinstance(told, Tensor):
            other = "input_ids" if self._reads_again else "labels to make them of"
            raise InputError(f"there is no second text: give decoder_input_ids, or {other}")
        return told

    @property
    def written_words(self) -> Float[Tensor, "vocabulary size"]:
        """The word table that a tied head compares states with: that of the text which is written."""
        decoder = self.architecture.decoder
        if decoder is None or decoder.shared_words:
            return self.embeddings.word.weight
        return cast(TextDecoder, self.decoder).embeddings.word.weight

    def scores(self, hidden: Float[Tensor, "*rest hidden"]) -> Float[Tensor, "*rest vocabulary"]:
        """The logits of some states of a model with a head that scores tokens. Raises InputError for another."""
        if not isinstance(self.architecture.head, CausalLM | MaskedLM | Seq2SeqLM):
            raise InputError(
                f"the model's head is {_kind(self.architecture.head)}; scores are those of causal-lm, masked-lm or "
                "seq2seq-lm"
            )
        tokens = Tokens(word_table=self.written_words)
        return cast(Tensor, cast(HeadModule, self.head)(hidden, tokens).logits)

    def _next_token_loss(
        self, head: CausalLMHead, hidden: Tensor, labels: Tensor, segments: Tensor | None
    ) -> Float[Tensor, ""]:
        """Of a split sequence so many times this process's share of the mean as there are processes."""
        following = next_tokens(labels, segments, self.architecture.prefix)
        table = head.table(self.embeddings.word.weight)
        if (split := self.split) is None:
            return next_token_loss(hidden, table, following)
        own = following[:, split.share(labels.shape[1])]
        every, mine = (int((one != IGNORED).sum()) for one in (following, own))
        if not mine:
            return 0.0 * (hidden.sum() + table.sum())
        return next_token_loss(hidden, table, own) * (split.count * mine / every)

    def _check_cached(self, cache: object, segments: Tensor | None, labels: Labels | None) -> None:
        head = self.architecture.head
        if head is not None and not self.architecture.is_decoder and self.decoder is None:
            raise InputError(f"a cache is for decoders; this model's head is {_kind(head)}")
        if not isinstance(cache, Cache):
            raise InputError(f"cache is {quote(cache)}; make one with gossamer.models.Cache(model.architecture)")
        if cache.layers is not self.architecture.writing_layers and cache.layers != self.architecture.writing_layers:
            raise InputError("the cache was made for another model: make one with Cache(model.architecture)")
        for name, given in (("segments", segments), ("labels", labels)):
            if given is not None:
                raise InputError(f"{name} were given with a cache, which holds one text a row; leave one of them out")
        if self.training and _drops(self.architecture):
            raise InputError(
                "the model is in training mode, and reading with a cache has no dropout: call model.eval()"
            )

    def _encode(
        self,
        rows: dict[str, Tensor | None],
        inputs_embeds: Tensor | None,
        keep: bool,
        cache: Cache | None,
        kept_heads: Float[Tensor, "layers heads"] | None,
    ) -> tuple[TokenInfo, list[Float[Tensor, "batch length hidden"]]]:
        """The tokens of a batch and its states: the embeddings', then every layer's, or the last alone."""
        input_ids, segments = rows["input_ids"], rows["segments"]
        given = cast(Tensor, input_ids if input_ids is not None else inputs_embeds)
        tokens = self._tokens(rows, given)
        position_ids = rows["position_ids"]
        if cache is not None:
            check_distances(self.architecture.layers, position_ids, "position_ids")
            next_ones = cache.position_ids(given.shape[:2], tokens.key_mask).to(given.device)
            if position_ids is None:
                position_ids = next_ones + self.architecture.embeddings.positions.offset
        position_ids = self._positions(input_ids, given, position_ids, segments)
        tokens = replace(tokens, positions=position_ids)
        split = None if cache is not None else self.split
        mine = [input_ids, rows["token_type_ids"], position_ids, inputs_embeds]
        if split is not None:
            head = self.architecture.head
            if head is not None and not isinstance(head, CausalLM):
                raise InputError(
                    f"sequences are split over processes, which takes causal-lm; the head is {_kind(head)}"
                )
            own = split.share(given.shape[1])
            mine = [None if one is None else one[:, own] for one in mine]
        states = run_layers(
            self, self.architecture.layers, self.embeddings(*mine), tokens, split=split,
            cache=cache, head_mask=kept_heads, keep_all=keep, reversible=self.architecture.reversible,
            slice_length=self.architecture.slice_length,
        )  # fmt: skip
        return tokens, states

    def _tokens(self, rows: dict[str, Tensor | None], like: Tensor) -> TokenInfo:
        """What was said of the tokens, with the model's own global tokens where none were."""
        key_mask, is_global = (as_mask(name, rows[name]) for name in ("attention_mask", "global_mask"))
        if is_global is None:
            is_global = default_global_mask(self.architecture, rows["input_ids"], like, key_mask, rows["segments"])
        if is_global is not None and key_mask is not None:
            is_global = is_global & key_mask
        return TokenInfo(key_mask=key_mask, segments=rows["segments"], global_mask=is_global)

    def _head_mask(self, head_mask: Tensor) -> Float[Tensor, "layers heads"]:
        layers = len(self.architecture.layers)
        heads = max(one.attention.heads for one in self.architecture.layers)
        if not isinstance(head_mask, Tensor) or head_mask.shape not in ((heads,), (layers, heads)):
            found = describe(head_mask)
            raise InputError(f"head_mask is {found}; it must be shaped [{heads}] or [{layers}, {heads}]: layers, heads")
        numbers = head_mask if head_mask.is_floating_point() else head_mask.float()
        return numbers.expand(layers, heads)

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

    def _read(self, hidden: Tensor, info: TokenInfo, input_ids: Tensor | None, choices: int | None) -> Output:
        head = self.architecture.head
        # A packed row holds several texts; one vector or one label of all of them would mean nothing.
        if info.segments is not None and head is not None and head.reads_whole_texts:
            raise InputError(f"{head.kind} reads one text a row; give packed texts (segments) in rows of their own")
        tokens = Tokens(
            word_table=self.written_words, input_ids=input_ids, key_mask=info.key_mask,
            segments=info.segments,
        )  # fmt: skip
        out = Output() if self.head is None else self.head(hidden, tokens)
        if head is not None:
            out = head.read(hidden, tokens, out)
        elif self.pooler is not None:
            out.pooled = torch.tanh(self.pooler(hidden[:, 0]))
        if choices is not None:
            out.logits = cast(Tensor, out.logits).view(-1, choices)
        return out

    def _loss(self, out: Output, labels: Labels | None, key_mask: Tensor | None) -> Float[Tensor, ""] | None:
        head = self.architecture.head
        return None if labels is None or head is None else head.loss(out, head.counted_labels(labels, key_mask))

    def _check_labels(self, labels: Labels, shape: torch.Size, choices: int | None, packed: bool) -> None:
        head = self.architecture.head
        if head is None:
            raise InputError("labels were given but this model has no head: load it with a head that has a loss")
        decoder = self.architecture.decoder
        words = self.architecture.embeddings if decoder is None else decoder.embeddings
        vocabulary = words.vocabulary_size
        head.check_labels(labels, Sizes(rows=shape[0], length=shape[1], vocabulary=vocabulary, choices=choices))
        if packed and isinstance(labels, tuple) and len(labels) > 1:
            raise InputError("labels of pairs were given for packed texts (segments): give those of tokens alone")


def _drops(architecture: Architecture) -> bool:
    decoder = architecture.decoder
    rates = [] if decoder is None else [decoder.embeddings.dropout, decoder.final_dropout, architecture.final_dropout]
    every = architecture.layers if decoder is None else (*architecture.layers, *decoder.layers)
    return any(rate > 0 for rate in (architecture.embeddings.dropout, *rates)) or drops(every)


def _kind(head: Head | None) -> str:
    return "missing" if head is None else repr(head.kind)
