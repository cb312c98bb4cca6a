"""Hashed attention, as released, and local chunks, against those of Reformer in `transformers`."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import ReformerConfig
from transformers.models.reformer.modeling_reformer import LocalSelfAttention, LSHSelfAttention

import gossamer as gs


@st.composite
def configs(draw: st.DrawFn) -> ReformerConfig:
    return ReformerConfig(
        hidden_size=24, num_attention_heads=draw(st.sampled_from([1, 2, 3])), attention_head_size=8,
        num_buckets=draw(st.sampled_from([2, 4, 16, [2, 4], [4, 2, 2]])), num_hashes=draw(st.integers(1, 4)),
        lsh_attn_chunk_length=draw(st.sampled_from([4, 8])), lsh_num_chunks_before=draw(st.integers(0, 2)),
        lsh_num_chunks_after=draw(st.integers(0, 2)), is_decoder=draw(st.booleans()), hash_seed=draw(st.integers(0, 9)),
        lsh_attention_probs_dropout_prob=0.0,
    )  # fmt: skip


@pytest.mark.parametrize("backend", ["reference", "blocked", "cpu"])
@given(config=configs(), chunks=st.integers(1, 6), seed=st.integers(0, 99), padded=st.booleans())
def test_lsh_attention(backend: str, config: ReformerConfig, chunks: int, seed: int, padded: bool) -> None:
    rounds, size = config.num_hashes, config.lsh_attn_chunk_length
    looks = config.lsh_num_chunks_before, config.lsh_num_chunks_after
    if chunks > 1 and max(looks) > chunks * rounds:
        return  # there it forgets to go on around the ring
    torch.manual_seed(seed)
    theirs = LSHSelfAttention(config, layer_idx=0).eval()
    length = chunks * size
    states = torch.randn(2, length, config.hidden_size)
    real = (torch.rand(2, length) < 0.7) if padded else None
    if real is not None:
        real[:, 0] = True
    wanted = theirs(states, attention_mask=real)
    buckets = config.num_buckets
    pattern = gs.Hashed(
        rounds=rounds, buckets=tuple(buckets) if isinstance(buckets, list) else buckets, chunk=size,
        causal=config.is_decoder, reading="released", seed=config.hash_seed, before=looks[0], after=looks[1],
    )  # fmt: skip
    heads, head_size = config.num_attention_heads, config.attention_head_size
    q, v = (
        (states @ one.weight.T).unflatten(-1, (heads, head_size)).transpose(1, 2)
        for one in (theirs.query_key, theirs.value)
    )
    k = q * (q.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    # A rounding of the largest number would change a bucket.
    assume(torch.equal(pattern.hashes.hashed(q, config.hash_seed), pattern.hashes.hashed(k, config.hash_seed)))
    out = gs.attend(q, k, v, pattern, key_mask=real, backend=backend).transpose(1, 2).flatten(2)
    at = torch.ones(2, length, dtype=torch.bool) if real is None else real
    torch.testing.assert_close(out[at], wanted.hidden_states[at], rtol=1e-5, atol=1e-5)


@st.composite
def local_configs(draw: st.DrawFn) -> ReformerConfig:
    is_decoder = draw(st.booleans())
    return ReformerConfig(
        hidden_size=24, num_attention_heads=draw(st.sampled_from([1, 3])), attention_head_size=8,
        local_attn_chunk_length=draw(st.sampled_from([1, 4, 8])), local_num_chunks_before=draw(st.integers(0, 2)),
        local_num_chunks_after=0 if is_decoder else draw(st.integers(0, 2)), is_decoder=is_decoder,
        local_attention_probs_dropout_prob=0.0,
    )  # fmt: skip


@pytest.mark.parametrize("backend", ["reference", "blocked", "cpu"])
@given(
    config=local_configs(), chunks=st.integers(1, 6), missing=st.integers(0, 20), seed=st.integers(0, 99),
    padded=st.booleans(), multiple=st.sampled_from([1, 2, 3]),
)  # fmt: skip
def test_local_attention(
    backend: str, config: ReformerConfig, chunks: int, missing: int, seed: int, padded: bool, multiple: int
) -> None:
    """Of texts that their model fills up to a multiple of both kinds of chunks, ours are any length."""
    size, looks = config.local_attn_chunk_length, (config.local_num_chunks_before, config.local_num_chunks_after)
    whole = chunks * multiple * size
    length = max(1, whole - missing)
    if whole - length >= multiple * size or length <= size < whole:
        return
    if max(looks) > whole // size - config.is_decoder and whole > size:
        return  # there causal layers meet their own chunk twice, and others forget to go on around the ring
    torch.manual_seed(seed)
    theirs = LocalSelfAttention(config, layer_idx=0).eval()
    states = torch.randn(2, whole, config.hidden_size)
    real = torch.arange(whole).expand(2, -1) < length
    if padded:
        real = real & ((torch.rand(2, whole) < 0.7) | (torch.arange(whole) == 0))
    wanted = theirs(states, attention_mask=real).hidden_states[:, :length]
    is_ring = not config.is_decoder and sum(looks) > 0
    pattern = gs.Chunks(size, config.is_decoder, *looks, ring=multiple * size if is_ring else 0)
    heads = config.num_attention_heads
    q, k, v = (
        (states[:, :length] @ one.weight.T).unflatten(-1, (heads, 8)).transpose(1, 2)
        for one in (theirs.query, theirs.key, theirs.value)
    )
    key_mask = real[:, :length] if padded else None
    out = gs.attend(q, k, v, pattern, key_mask=key_mask, backend=backend).transpose(1, 2).flatten(2)
    at = real[:, :length]
    if padded:  # there a query that sees no real key gets the mean of what it might see
        seen = gs.attend(q, k, v, pattern, key_mask=key_mask, return_lse=True)[1].isfinite().all(1)
        at = at & seen
    torch.testing.assert_close(out[at], wanted[at], rtol=1e-5, atol=1e-5)
