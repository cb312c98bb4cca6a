"""Proof that parity bites: the kernels with one thing broken must differ from the reference; unbroken they must not.

A mutant replaces one piece of text, which must be there exactly once, in a copy of the package under another name, so
that nothing of the real one is touched.
"""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

import gossamer.kernels
import gossamer.patterns
from gossamer import Chunks, Fixed, Full, Global, PerHead, Prefix, Sink, Strided, Window
from gossamer.kernels.backends.reference import reference
from gossamer.kernels.inputs import Inputs, make_inputs
from gossamer.patterns import Pattern

SOURCES, PATTERNS = Path(gossamer.kernels.__file__).parent, Path(gossamer.patterns.__file__).parent


@dataclass(frozen=True)
class Mutant:
    """In `module`, `old` becomes `new`; "blocked", "portable", "dense" or "cpu" must notice."""

    module: str
    old: str
    new: str
    backend: str = "blocked"


MUTANTS = {
    "key mask dropped": Mutant("tile_masks", "allowed &= _of_keys(tiles, keys.real)", "pass"),
    "padded tiles taken for real": Mutant("band", "n in (0, tiles.keys)", "n in (0, tiles.keys, tiles.keys - 1)"),
    "window one too far back": Mutant("patterns/window", "low=-self.before,", "low=-self.before - 1,"),
    "window one too short ahead": Mutant("patterns/window", "high=self.after,", "high=self.after - 1,"),
    "mask low off by one": Mutant("tile_masks", "tril(low - 1)", "tril(low)"),
    "mask high off by one": Mutant("tile_masks", "triu(high + 1)", "triu(high + 2)"),
    "query_start forgotten": Mutant("tile_masks", "- tiles.query_start - s.query_start", "- tiles.query_start"),
    "query_start forgotten by tiles": Mutant(
        "band", "band_tiles(queries, keys, low, high, s.query_start", "band_tiles(queries, keys, low, high, 0"
    ),
    "dilation ignored": Mutant("patterns/window", "dilation=self.dilation)", "dilation=1)"),
    "residue of the keys wrong": Mutant("sequence", "slice(residue, None, dilation)", "slice(first, None, dilation)"),
    "segments ignored": Mutant(
        "tile_masks", "_of_queries(tiles, queries.segments) == _of_keys(tiles, keys.segments)", "True"
    ),
    "positions ignored": Mutant("tile_masks", "queries.positions is not None", "False"),
    "scale forgotten": Mutant("tile_attention", "q @ k.mT * scale", "q @ k.mT"),
    "scale forgotten by the fused forward": Mutant(
        "torch_state", "= _fused(q, k, v, attn_mask=mask, scale=scale)", "= _fused(q, k, v, attn_mask=mask)"
    ),
    "scale forgotten by the gradients": Mutant("tile_attention", "grad_scores * scale", "grad_scores"),
    "gradients of keys and values swapped": Mutant("band", "add_keys(into.k, grad_k)", "add_keys(into.k, grad_v)"),
    "axes of the scores' gradient swapped": Mutant(
        "tile_attention", "of_products.mT @ q", "of_products.mT @ q.flip(2)"
    ),
    "log-sum-exp merge forgotten": Mutant("groups", "lse.copy_(total)", "pass"),
    "merge without weights": Mutant("groups", "piece * (piece_lse - total).exp_()[..., None]", "piece"),
    "flagged columns seen twice": Mutant("groups", "s.without_keys(columns)", "s"),
    "flagged rows merged as well": Mutant(
        "groups", "replace(rows, lse=rows.lse.masked_fill(s.queries.flags, SKIPPED))", "rows"
    ),
    "flagged rows forgotten": Mutant("groups", "if rows is not None and len(rows):", "if False:"),
    "flags of padding count": Mutant("inputs", "global_mask & key_mask", "global_mask"),
    "a tile's keys not added": Mutant(
        "tiles", "for first in range(0, self.keys, self.step):", "for first in range(self.step, self.keys, self.step):"
    ),
    "the first tile skipped backward": Mutant(
        "band",
        "            tile_rows = rows_part",
        "            if tiles.query_start == 0:\n                continue\n            tile_rows = rows_part",
    ),
    "log-sum-exp of the tile in the backward": Mutant(
        "tile_attention",
        "(_scores(q, k, mask, scale) - rows.lse[..., None]).exp_()",
        "_scores(q, k, mask, scale).softmax(-1)",
    ),
    "gradient of the log-sum-exp forgotten": Mutant("tile_attention", "row = row - rows.grad_lse", "pass"),
    "gradient of the log-sum-exp reversed": Mutant("tile_attention", "row - rows.grad_lse", "row + rows.grad_lse"),
    "row sums forgotten": Mutant("tile_attention", "(rows.grad_out * rows.out).sum(-1)", "0 * rows.lse"),
    "dropout not rescaled": Mutant("tile_attention", "return (x * keep).mul_(1 / (1 - rate))", "return x * keep"),
    "dropout forgotten by the values' gradient": Mutant(
        "tile_attention", "dropped = _dropped(probabilities, keep, rate)", "dropped = probabilities"
    ),
    "dropout alike in all heads": Mutant(
        "tile_masks",
        "torch.arange(s.first_head, s.first_head + s.q.shape[0], device=device)",
        "torch.zeros(s.q.shape[0], dtype=torch.long)",
    ),
    "dropout numbers gathered rows anew": Mutant(
        "sequence", "q_index=taken(self.q_index, at)", "q_index=taken(self.q_index, slice(0, len(self.q[0, at])))"
    ),
    "heads of a group shifted": Mutant(
        "blocked/attention", "yield b, heads, group", "yield b, slice(0, group.stop - group.start), group"
    ),
    "tiles without keys not written": Mutant("band", "tiles.query_view(lse_part).fill_(MASKED)", "pass"),
    "empty rows left as they are": Mutant("blocked/attention", "out.masked_fill_(empty[..., None], 0)", "pass"),
    "empty rows without -inf": Mutant("blocked/attention", 'lse.masked_fill_(empty, float("-inf"))', "pass"),
    "empty rows take part backward": Mutant(
        "blocked/attention", "rows.lse.masked_fill(rows.lse.isneginf(), SKIPPED)", "rows.lse"
    ),
    "NaN in the padding let in": Mutant("blocked/attention", "if call.keys.real is None:", "if True:"),
    "heads of the keys tiled, not repeated": Mutant(
        "inputs", "self.k.repeat_interleave(group, 1)", "self.k.repeat(1, group, 1, 1)"
    ),
    "cpu: key mask dropped": Mutant("rows", "known.real is None else known.real", "True else known.real", "cpu"),
    "cpu: flagged keys seen twice": Mutant(
        "rows", "_chosen(one, batch, band, False if flagged else None)", "_chosen(one, batch, band, None)", "cpu"
    ),
    "cpu: flagged rows see flagged keys only": Mutant(
        "rows", "_chosen(keys, batch, alike, None))", "_chosen(keys, batch, alike, True))", "cpu"
    ),
    "cpu: residue classes meet": Mutant("rows", "one.at.remainder(band.dilation)", "one.at * 0", "cpu"),
    "cpu: documents meet": Mutant("rows", "span = widest + 1 + max", "span = 1 + 0 * max", "cpu"),
    "cpu: query_start forgotten": Mutant(
        "cpu/attention", "call.groups, queries, start, keys", "call.groups, queries, 0, keys", "cpu"
    ),
    "cpu: query_start forgotten by lists": Mutant("cpu/attention", "start=start, known", "start=0, known", "cpu"),
    "cpu: pieces written over one another": Mutant(
        "cpu/attention", "one.resume = not direct\n        library", "one.resume = False\n        library", "cpu"
    ),
    "cpu: gradients of pieces written over one another": Mutant(
        "cpu/attention", "one.resume = not direct\n        one.dout", "one.resume = False\n        one.dout", "cpu"
    ),
    "cpu: gradient of the log-sum-exp forgotten": Mutant(
        "cpu/attention", "None if grad_lse is None else _from", "None and _from", "cpu"
    ),
    "cpu: scale forgotten": Mutant("cpu/attention", "one.scale = call.scale", "one.scale = 1.0", "cpu"),
    "cpu: pieces begin with a weight": Mutant(
        "cpu/attention", "torch.zeros_like(lse))", "torch.ones_like(lse))", "cpu"
    ),
    "cpu: seed forgotten": Mutant("cpu/attention", "int(call.seed) % 2**32", "int(0)", "cpu"),
    "cpu: heads of a group shifted": Mutant("cpu/attention", "key_heads), piece.start", "key_heads), 0", "cpu"),
    "portable: key mask dropped": Mutant("portable", "near & real.mT &", "near &", "portable"),
    "portable: window one too far": Mutant(
        "portable", "distance <= high - low", "distance <= high - low + 1", "portable"
    ),
    "portable: query_start forgotten": Mutant(
        "portable", "columns + low + query_start // step", "columns + low", "portable"
    ),
    "portable: classes mixed up": Mutant("portable", "slots % step * (blocks * ROWS)", "slots * 0", "portable"),
    "portable: flagged keys seen twice": Mutant("portable", "replace(s, real=s.real & ~k_flags)", "s", "portable"),
    "portable: flagged rows forgotten": Mutant(
        "portable", "torch.where(flagged, rows, out[:, :, at])", "out[:, :, at]", "portable"
    ),
    "portable: segments of columns ignored": Mutant(
        "portable",
        "allowed = flags[:, :, at].mT & (s.q_segments == s.k_segments[:, :, at].mT)",
        "allowed = flags[:, :, at].mT",
        "portable",
    ),
    "strided: column meets the local band": Mutant(
        "patterns/strided", "high=-2 if self.local", "high=-1 if self.local"
    ),
    "fixed: cells of the own block seen twice": Mutant(
        "patterns/fixed", "bands = (own,)", "bands = (replace(own, first=0, stop=0),)"
    ),
    "union: the window's farthest key seen twice": Mutant("patterns/pieces", "-reach - 1", "-reach"),
    "union: gaps of a dilated window forgotten": Mutant("patterns/pieces", "gaps >= -band.high", "False"),
    "union: gaps taken for everything": Mutant("patterns/pieces", "apart=window.dilation", "apart=0"),
    "union: the first gap seen twice": Mutant(
        "patterns/pieces", "replace(band, low=-gaps,", "replace(band, low=-gaps, high=0,"
    ),
    "sink: one too many": Mutant("patterns/sink", "stop=self.n", "stop=self.n + 1"),
    "prefix: it ends too soon": Mutant("patterns/prefix", "stop=self.n)", "stop=self.n - 1)"),
    "prefix: a query sees itself twice": Mutant("patterns/prefix", "low=1, high=None", "low=0, high=None"),
    "chunks: nobody looks ahead": Mutant(
        "patterns/chunks", "+ 1), 0 if self.causal else self.size * (self.after + 1) - 1", "+ 1), 0"
    ),
    "blocks: those before forgotten": Mutant("tiles", "max(place + band.low, -before * stride)", "max(place, 0)"),
    "cpu: blocks before forgotten": Mutant("rows", "blocks, (-before, after))", "blocks, (0, after))", "cpu"),
    "cpu: later keys of near blocks seen": Mutant("rows", "((band.low, band.high),)", "(EVERYWHERE,)", "cpu"),
    "places of documents forgotten": Mutant("inputs", "index = index - order.gather(1, run)", "pass"),
    "places of queries without query_start": Mutant("inputs", "((q_segments, query_start), ", "((q_segments, 0), "),
    "blocks: keys of the first one for all": Mutant("tiles", "block + first, block + last,", "first, last,"),
    "blocks: query_start forgotten": Mutant("tiles", "block + place - query_start, block", "block + place, block"),
    "blocks: cells of the own block let in": Mutant(
        "tile_masks", "outside[:, max(cells[0], 0)", "outside[:, max(cells[1], 0)"
    ),
    "blocks: documents' own block forgotten": Mutant("tile_masks", "same & ~((place", "~((place"),
    "blocks: gaps forgotten": Mutant("tile_masks", "if apart[0]:", "if False:"),
    "blocks: gaps at the wrong place": Mutant("tile_masks", "(steps, shift % steps)", "(steps, 1)"),
    "blocks: gaps forgotten among cells": Mutant("tile_masks", "(distance % band.apart != 0)", "True"),
    "cells: one too many": Mutant("sequence", "(place < stop)", "(place <= stop)"),
    "cells: query_start forgotten by tiles": Mutant("tiles", "ends + query_start + high", "ends + high"),
    "cells: places forgotten": Mutant("sequence", "s = self.placed()", "s = self"),
    "cells: gradients of other keys": Mutant(
        "groups", "grads.k.index_add_(1, at, part.k)", "grads.k.index_add_(1, at + 1, part.k)"
    ),
    "cpu: cells forgotten": Mutant("rows", "if not band.stride or not band.stop:", "if True:", "cpu"),
    "cpu: cells and others swapped": Mutant("rows", "!= band.own_block", "== band.own_block", "cpu"),
    "cpu: blocks meet": Mutant(
        "rows",
        "    if band.own_block and band.near == (0, 0):\n        numbers",
        "    if False:\n        numbers",
        "cpu",
    ),
    "cpu: places forgotten": Mutant("rows", "known.places if band.stride", "known.positions if band.stride", "cpu"),
    "cpu: one half of the gaps": Mutant(
        "rows", "((1 - band.apart, -1), (1, band.apart - 1))", "((1 - band.apart, -1),)", "cpu"
    ),
    "cpu: keys of few queries in other classes": Mutant(
        "rows", "(start + torch.arange(queries))", "torch.arange(queries)", "cpu"
    ),
    "cpu: last keys of a decoder left out": Mutant("rows", "start + queries + band.high", "queries + band.high", "cpu"),
    "cpu: cells listed without the last block": Mutant(
        "rows", "torch.arange(-(-max(stop, 0) // band.stride))", "torch.arange(max(stop, 0) // band.stride)", "cpu"
    ),
    "portable: columns one too far": Mutant(
        "portable", "(distance <= band.high) &", "(distance <= band.high + 1) &", "portable"
    ),
    "portable: columns without query_start": Mutant(
        "portable", "at_rows[:, None] - query_start // step", "at_rows[:, None]", "portable"
    ),
    "portable: gaps at the wrong place": Mutant(
        "portable", "((distance + low) * step %", "(distance * step %", "portable"
    ),
    "portable: blocks meet": Mutant("portable", "if band.own_block:\n", "if False:\n", "portable"),
    "portable: all keys are cells": Mutant("portable", " & is_cell[:, :, at].mT\n", "\n", "portable"),
    "portable: padded cells": Mutant("portable", "allowed & s.real[:, :, at].mT &", "allowed &", "portable"),
    "tables: one column off": Mutant("tile_distances", "return distances.clamp", "return (distances + 1).clamp"),
    "tables: rows the other way round": Mutant("tile_distances", "return rising.flip(1)", "return rising"),
    "tables: heads of a group shifted": Mutant(
        "blocked/attention", "_finite(call.table[heads],", "_finite(call.table[: heads.stop - heads.start],"
    ),
    "tables: query_start forgotten": Mutant("blocked/attention", "at[0] + call.query_start", "at[0]"),
    "tables: picked queries taken for a run": Mutant(
        "sequence", "is_even = self.is_even and isinstance(at, slice)", "is_even = self.is_even"
    ),
    "tables: picked keys taken for a run": Mutant(
        "sequence", "is_even=self.is_even and isinstance(at, slice),", "is_even=self.is_even,"
    ),
    "tables: positions forgotten": Mutant(
        "inputs", "bias.positions or (self.queries.positions", "(None, None) or (self.queries.positions"
    ),
    "tables: gradients of the first tile alone": Mutant(
        "tile_distances", "grads.sum(1).flip(1)", "grads[:, 0].flip(1)"
    ),
    "tables: gradients by rows the other way round": Mutant("tile_distances", "grads.sum(1).flip(1)", "grads.sum(1)"),
    "tables: gradients of picked keys forgotten": Mutant(
        "tile_distances", "into.index_add_(1, _columns(s, tiles).flatten(), grads.flatten(1))", "pass"
    ),
    "tables: gradients times the scale": Mutant(
        "tile_attention", "grad_scores if of_mask else None", "of_products if of_mask else None"
    ),
    "tables: gradients of heads shifted": Mutant(
        "blocked/attention", "taken(of_table, heads)", "taken(of_table, slice(0, heads.stop - heads.start))"
    ),
    "cpu: tables one column off": Mutant("cpu/distances", "before=call.before,", "before=call.before + 1,", "cpu"),
    "cpu: tables of heads shifted": Mutant(
        "cpu/distances", "of_head = head * columns", "of_head = 0 * head * columns", "cpu"
    ),
    "cpu: tables without query_start": Mutant(
        "cpu/distances", "query_start=call.query_start,", "query_start=0,", "cpu"
    ),
    "cpu: tables without positions": Mutant(
        "cpu/distances", "positions=None if of_queries is None", "positions=None if True", "cpu"
    ),
    "cpu: tables' positions of one text": Mutant(
        "cpu/distances", "[x.stride(0) for x in self.positions]", "[0 for x in self.positions]", "cpu"
    ),
    "cpu: gradients of tables forgotten": Mutant("cpu/distances", "self.gradient.data_ptr() + of_head", "None", "cpu"),
    "dense: places of documents forgotten": Mutant("inputs", "index = index - order.gather(1, run)", "pass", "dense"),
    "dense: mask dropped": Mutant("dense", "torch.where(allowed, bias", "torch.where(allowed | True, bias", "dense"),
    "dense: scale forgotten": Mutant("dense", "attn_mask=added, scale=inputs.scale", "attn_mask=added", "dense"),
    "dense: bias forgotten": Mutant("dense", "if inputs.bias is None else bias_in(q.dtype, inputs.bias)", "", "dense"),
    "dense: empty rows left as they are": Mutant("dense", "out.masked_fill(empty, 0)", "out", "dense"),
}


def options(batch: int, length: int, *names: str) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(5)
    real = torch.arange(length) < torch.tensor([[length - 1], [0], [length // 3]])[:batch]
    every = {
        "key_mask": real,
        "global_mask": torch.rand(batch, length, generator=generator) < 0.1,
        "segments": (torch.arange(length) // 17).expand(batch, -1),
        "documents": (torch.arange(length) // 17).expand(batch, -1),
        "positions": (torch.arange(length) * torch.tensor([[2], [3], [1]]))[:batch],
        "query_start": 7,
        "dropout": 0.3,
        "seed": 9,
        "bias": torch.randn(1, 2, length, length, generator=generator, dtype=torch.float64),
        "scale": 0.7,
    }
    return {name: every[name] for name in names if name in every}


@dataclass(frozen=True)
class Call:
    q: Tensor
    k: Tensor
    v: Tensor
    pattern: Pattern
    options: dict[str, Any]

    def rounded(self) -> Call:
        """In float32, which is what the compiled kernel computes in."""
        return replace(self, q=self.q.float(), k=self.k.float(), v=self.v.float())

    def qkv(self, dtype: torch.dtype | None = None) -> list[Tensor]:
        return [x.to(dtype or x.dtype, copy=True).requires_grad_() for x in (self.q, self.k, self.v)]


def calls(backend: str) -> list[Call]:
    """A few calls that between them use everything the backend can do."""
    window, mixed = Window(9, 5), PerHead((Window(9, 5) | Global(), 2), (Window(3, 4, 3), 2))
    drop = ("dropout", "seed") if backend in ("blocked", "cpu") else ()
    chosen = [
        call(window, 2, 2, 90, "key_mask", "scale", dtype=torch.float32),
        call(mixed, 4, 2, 100, "key_mask", "global_mask", "scale", *drop),
        call(window | Global(), 2, 2, 80, "global_mask", "segments", "scale", dtype=torch.float32),
        call(PerHead((window, 1), (Window(2, 2, 2), 1)), 2, 2, 77, "query_start"),
    ]
    chosen += [
        call(PerHead((Strided(7), 1), (Fixed(9, 2) | Window(4, 2), 1)), 2, 2, 90, "key_mask", "segments", *drop),
        call(
            PerHead((Fixed(9, 2, offset=1), 1), (Strided(4) | Window(5, 1, 3), 1)), 2, 2, 77, "query_start", queries=20
        ),
        call(Fixed(9, 2), 2, 2, 80, "query_start", "documents", queries=60),
        call(PerHead((Fixed(8, 2) | Window(3, 1, 3), 1), (Strided(7, "column"), 1)), 2, 1, 90, "scale"),
        call(PerHead((Strided(9, "column"), 1), (Fixed(9, 2, "summary", 7), 1)), 2, 2, 77, "query_start", queries=5),
    ]
    chosen += [
        call(PerHead((Sink(3) | Window(5, 1), 1), (Prefix(7), 1)), 2, 2, 80, "key_mask", "segments", *drop),
        call(PerHead((Chunks(9), 1), (Chunks(9, causal=False), 1)), 2, 2, 77, "query_start", queries=20),
        call(PerHead((Chunks(9, before=1), 1), (Chunks(7, False, 1, 2), 1)), 2, 2, 77, "query_start", queries=20),
    ]
    if backend in ("blocked", "cpu"):
        chosen.append(call(window, 2, 2, 80, "positions"))
        chosen += [
            call(mixed, 4, 2, 100, "key_mask", "global_mask", "scale", "distance_bias", *drop),
            call(PerHead((Full(causal=True), 1), (Window(2, 2, 2), 1)), 2, 2, 77, "query_start", "distance_bias"),
            call(PerHead((Fixed(9, 2), 1), (Strided(7), 1)), 2, 1, 90, "segments", "distance_bias"),
            call(window, 2, 2, 300, "distance_bias"),
            call(window, 2, 2, 80, "positions", "distance_bias"),
        ]
    if backend == "cpu":  # which lists no rows here
        chosen.append(call(window, 2, 2, 77, "query_start"))
    if backend == "dense":
        chosen.append(call(Full(causal=True), 2, 2, 40, "bias", "key_mask"))
    return [one.rounded() for one in chosen] if backend == "cpu" else chosen


def call(
    pattern: Pattern,
    heads: int,
    key_heads: int,
    length: int,
    *given: str,
    queries: int | None = None,
    dtype: torch.dtype = torch.float64,
) -> Call:
    generator = torch.Generator().manual_seed(length)
    shapes = ((heads, queries or length), (key_heads, length), (key_heads, length))
    q, k, v = (torch.randn(3, *shape, 4, generator=generator, dtype=dtype) for shape in shapes)
    chosen = options(3, length, *given)
    if "distance_bias" in given:
        table = torch.randn(heads, 17, generator=generator, dtype=torch.float64)
        chosen["distance_bias"] = (table.requires_grad_(), 9)
    if "documents" in given:
        keys = chosen.pop("documents")
        chosen["segments"] = (keys[:, 7 : 7 + q.shape[2]], keys)
    if "key_mask" in given:
        k = k.masked_fill(~chosen["key_mask"][:, None, :, None], float("nan"))
    return Call(q, k, v, pattern, chosen)


def outcome(compute: Callable[[Inputs], Any], inputs: Inputs, with_lse: bool) -> Tensor:
    out, lse = compute(inputs)
    total = (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)).sum()
    if with_lse:
        total = total + lse.masked_fill(lse.isneginf(), 0).square().sum()
    grads = torch.autograd.grad(total, (inputs.q, inputs.k, inputs.v, *inputs.tables))
    # A column adds up the pairs of all rows.
    grads = *grads[:3], *(one.to(out.dtype) / inputs.num_queries for one in grads[3:])
    parts = (out, *grads, *([lse.nan_to_num(neginf=-99.0)] if with_lse else []))
    return torch.cat([one.detach().flatten() for one in parts])


def copied(directory: Path, name: str, backend: str, mutant: Mutant | None = None) -> ModuleType:
    """A copy of the package under another name, with operators of its own, and one module broken."""
    for sources, package in ((SOURCES, name), (PATTERNS, f"{name}_patterns")):
        shutil.copytree(sources, directory / package, ignore=shutil.ignore_patterns("__pycache__"))
    for path in directory.glob(f"{name}*/**/*.py"):
        source = path.read_text()
        if mutant is not None and path.as_posix().replace("_patterns/", "/patterns/").endswith(f"/{mutant.module}.py"):
            found = source.count(mutant.old)
            assert found == 1, f"{path.name} holds {mutant.old!r} {found} times; bring the mutant up to date"
            source = source.replace(mutant.old, mutant.new)
        source = source.replace("gossamer.kernels", name).replace('"gossamer::', f'"{name}::')
        source = source.replace("gossamer.patterns", f"{name}_patterns")
        path.write_text(source)
    return importlib.import_module(f"{name}.backends.{backend}")


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("kernel_mutant")]:
        del sys.modules[name]


@pytest.mark.parametrize("name", MUTANTS)
def test_the_mutant_is_noticed(name: str, workshop: Path) -> None:
    mutant = MUTANTS[name]
    assert notices(workshop, f"kernel_mutant_{list(MUTANTS).index(name)}", mutant.backend, mutant)


@pytest.mark.parametrize("backend", ["blocked", "portable", "dense", "cpu"])
def test_the_unbroken_copy_passes(backend: str, workshop: Path) -> None:
    assert not notices(workshop, f"kernel_mutant_none_{backend}", backend)


def filled_with_nan(x: Tensor, *shape: Any, **options: Any) -> Tensor:
    """In place of `new_empty`: who reads what nobody wrote, gets NaN."""
    return x.new_full(torch.Size(shape[0] if isinstance(shape[0], tuple) else shape), float("nan"), **options)


def notices(directory: Path, name: str, backend: str, mutant: Mutant | None = None) -> bool:
    """Whether parity goes red; a mutant that raises has been noticed too."""
    module = copied(directory, name, backend, mutant)
    make = importlib.import_module(f"{name}.inputs").make_inputs
    compute, copy_of = getattr(module, backend), importlib.import_module(f"{name}_patterns").pattern_from_dict
    for call in calls(backend):
        exact = make_inputs(*call.qkv(torch.float64), call.pattern, **call.options)
        wanted = outcome(reference, exact, backend != "dense")
        try:
            with patch.object(torch.Tensor, "new_empty", filled_with_nan):
                found = outcome(
                    compute, make(*call.qkv(), copy_of(call.pattern.to_dict()), **call.options), backend != "dense"
                )
        except (RuntimeError, IndexError):
            if mutant is None:
                raise
            return True
        error = 1e-10 if found.dtype == torch.float64 else 2e-5
        # Beside it, the last place of a large number.
        if not torch.allclose(found.double(), wanted, rtol=torch.finfo(found.dtype).eps, atol=error):
            return True
    return False
