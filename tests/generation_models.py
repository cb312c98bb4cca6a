"""Small decoders with weights at which nothing is trivial, and causal patterns for hypothesis to draw."""

import functools
import operator
from collections.abc import Sequence
from typing import Any

import torch
from hypothesis import strategies as st

from gossamer.models import (
    Architecture,
    Attention,
    CausalLM,
    Embeddings,
    FeedForward,
    Layer,
    Model,
    Norm,
    Positions,
    Rotary,
)
from gossamer.patterns import Chunks, Fixed, Full, Pattern, PerHead, Sink, Strided, Window

HEADS, SIZE, VOCABULARY = 4, 4, 37

windows = st.builds(Window, st.integers(0, 6), st.just(0), st.sampled_from([1, 1, 2, 3, 7]))
strided = st.builds(Strided, st.integers(1, 7), st.sampled_from(["both", "local", "column"]))


@st.composite
def fixed(draw: st.DrawFn) -> Fixed:
    stride = draw(st.integers(1, 8))
    summary = draw(st.integers(1, stride))
    part = draw(st.sampled_from(["both", "block", "summary"]))
    return Fixed(stride, summary, part, draw(st.integers(0, stride - summary)))


firsts = st.one_of(st.builds(Sink, st.integers(1, 9)), st.builds(Chunks, st.integers(1, 9)))
singles = st.one_of(st.just(Full(causal=True)), windows, strided, fixed(), firsts)
unions = st.lists(singles, min_size=2, max_size=3).map(lambda drawn: functools.reduce(operator.or_, drawn))
flat = st.one_of(singles, unions)


@st.composite
def per_head(draw: st.DrawFn) -> PerHead:
    sizes = draw(st.sampled_from([(1, 3), (2, 2), (1, 1, 2), (4,)]))
    return PerHead(*((draw(flat), size) for size in sizes))


patterns = st.one_of(singles, unions, per_head())


def decoder(
    layers: Sequence[Pattern],
    *,
    length: int = 64,
    norm: Any = "pre",
    tied: bool = True,
    shared: bool = False,
    offset: int = 0,
    scale: float | None = None,
    dtype: torch.dtype = torch.float64,
    tokenizer: Any = None,
    vocabulary: int = VOCABULARY,
    llama: bool = False,
) -> Model:
    """A decoder of one layer a pattern, in evaluation mode; `llama`: of that family's bricks, half of a head turns."""
    bricks: dict[str, Any] = {"key_heads": 2, "bias": False, "rotary": Rotary(base=50.0, share=0.5)} if llama else {}
    kind = Norm(kind="rms", bias=False, eps=1e-5) if llama else Norm(eps=1e-5)
    described = tuple(
        Layer(
            attention=Attention(
                pattern=one, heads=HEADS, head_size=SIZE, weights=0 if shared else i, scale=scale, **bricks
            ),
            feed_forward=FeedForward(width=12, weights=i, gated=llama, bias=not llama),
            norm=kind,
            norm_place=norm,
        )
        for i, one in enumerate(layers)
    )
    embeddings = Embeddings(
        vocabulary_size=vocabulary, size=8, token_types=0, padding_id=None, norm=kind,
        positions=Positions(scheme="none") if llama else Positions(length=length, offset=offset),
    )  # fmt: skip
    architecture = Architecture(
        hidden_size=8,
        embeddings=embeddings,
        layers=described,
        head=CausalLM(tied=tied),
        length=length,
        final_norm=kind if norm == "pre" else None,
    )
    torch.manual_seed(1)
    built = Model(architecture, tokenizer=tokenizer).double().eval()
    with torch.no_grad():
        for weight in built.parameters():
            weight.add_(torch.randn_like(weight) * 0.4)
    return built.to(dtype)


@st.composite
def decoders(draw: st.DrawFn, dtype: torch.dtype = torch.float64) -> Model:
    return decoder(
        draw(st.lists(patterns, min_size=1, max_size=3)),
        norm=draw(st.sampled_from(["pre", "post"])),
        tied=draw(st.booleans()),
        shared=draw(st.booleans()),
        offset=draw(st.sampled_from([0, 2])),
        scale=draw(st.sampled_from([None, 0.7])),
        llama=draw(st.booleans()),
        dtype=dtype,
    )


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))
