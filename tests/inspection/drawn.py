"""Drawn architectures: sizes, narrow embeddings, sharing, patterns, every head."""

from typing import Any

from hypothesis import strategies as st

from gossamer.models import (
    Architecture,
    Attention,
    DistanceTable,
    Embeddings,
    FeedForward,
    Layer,
    MaskedLM,
    MultipleChoice,
    NextSentence,
    Norm,
    Positions,
    PreTraining,
    QuestionAnswering,
    ReplacedToken,
    Rotary,
    SentenceEmbedding,
    SequenceClassification,
    TokenClassification,
)
from gossamer.patterns import Fixed, Full, Global, Pattern, PerHead, Strided, Window

LENGTH = 40
NORMS = st.builds(Norm, bias=st.booleans()) | st.builds(Norm, kind=st.just("rms"), bias=st.just(False))
PLACES = st.sampled_from(["post", "pre", "both", "none"])
NO_BIAS = Norm(eps=1e-5, bias=False)
LABELS = ("no", "yes", "who knows")
HEADS = [
    None,
    MaskedLM(),
    MaskedLM(tied=False),
    PreTraining(),
    PreTraining(tied=False),
    NextSentence(),
    ReplacedToken(),
    SequenceClassification(labels=LABELS),
    SequenceClassification(labels=LABELS, reads="last"),
    TokenClassification(labels=LABELS[:2]),
    QuestionAnswering(),
    MultipleChoice(),
    SentenceEmbedding(),
    MaskedLM(dense_bias=False, norm_bias=False, bias=False),
    SequenceClassification(labels=LABELS, reads="mean", dense_bias=False, norm=NO_BIAS, pooler_activation="gelu"),
    TokenClassification(labels=LABELS[:2], dense_activation="gelu", dense_bias=False, norm=NO_BIAS),
    QuestionAnswering(dense_activation="silu", norm=NO_BIAS),
    MultipleChoice(reads="first-real", norm=NO_BIAS, pooler_activation="gelu"),
]


@st.composite
def architectures(draw: st.DrawFn, full: bool = False) -> Architecture:
    hidden, layers = draw(st.integers(2, 24)), draw(st.integers(1, 5))
    projection = draw(st.booleans())
    scheme = draw(st.sampled_from(["learned", "learned", "sinusoidal", "none"]))
    table = {"length": LENGTH, "offset": draw(st.integers(0, 2))} if scheme == "learned" else {}
    positions = Positions(scheme=scheme, **table)
    embeddings = Embeddings(
        vocabulary_size=draw(st.integers(5, 60)),
        size=draw(st.integers(1, 24)) if projection else hidden,
        projection=projection,
        positions=positions,
        token_types=draw(st.integers(0, 3)),
        norm=draw(st.none() | NORMS),
    )
    heads, head_size = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    projections, width = draw(st.booleans()), draw(st.integers(1, 40))
    norm, bricks = draw(NORMS), draw(_attention_bricks(heads, head_size, projections))
    place = draw(PLACES | st.tuples(PLACES, PLACES))
    of_feed_forward = {"gated": draw(st.booleans()), "bias": draw(st.booleans())}
    tables = draw(_sets(layers)) if not projections and draw(st.booleans()) else [None] * layers
    applied = tuple(
        Layer(
            attention=Attention(
                pattern=Full() if full else draw(patterns(heads)),
                heads=heads,
                head_size=head_size,
                weights=attention,
                global_projections=projections,
                distance_bias=None if table is None else DistanceTable(before=table + 3, after=2, weights=table),
                **bricks,
            ),
            feed_forward=FeedForward(width=width, weights=feed_forward, **of_feed_forward),
            norm=norm,
            norm_place=place,
        )
        for attention, feed_forward, table in zip(draw(_sets(layers)), draw(_sets(layers)), tables, strict=True)
    )
    head = draw(st.sampled_from(HEADS))
    pooler = draw(st.booleans())
    return Architecture(
        hidden_size=hidden, embeddings=embeddings, layers=applied, pooler=pooler, head=head,
        final_norm=draw(st.none() | NORMS), length=LENGTH,
    )  # fmt: skip


@st.composite
def _attention_bricks(draw: st.DrawFn, heads: int, head_size: int, projections: bool) -> dict[str, Any]:
    divisors = [one for one in range(1, heads + 1) if heads % one == 0]
    turns = head_size % 2 == 0 and not projections and draw(st.booleans())
    return {
        "key_heads": draw(st.sampled_from([None, *divisors])),
        "bias": draw(st.booleans()),
        "output_bias": draw(st.booleans()),
        "query_key_norm": draw(st.none() | NORMS),
        "rotary": Rotary() if turns else None,
    }


def patterns(heads: int) -> st.SearchStrategy[Pattern]:
    windows = st.builds(Window, st.integers(0, 9), st.integers(1, 9), st.just(1))
    strides = st.integers(2, 9)
    causal = st.builds(Strided, strides) | st.builds(Fixed, strides, st.integers(1, 2))
    single = st.just(Full()) | windows | windows.map(lambda one: one | Global()) | causal
    return single | single.map(lambda one: PerHead((one, heads)))


@st.composite
def _sets(draw: st.DrawFn, layers: int) -> list[int]:
    """Weight sets of the layers, numbered in order of their first use: all their own, all one, or mixed."""
    raw = draw(st.lists(st.integers(0, layers - 1), min_size=layers, max_size=layers))
    order = list(dict.fromkeys(raw))
    return [order.index(one) for one in raw]
