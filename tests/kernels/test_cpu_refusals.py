"""What a caller may hand to the compiled kernel: it is computed as it should be, or refused in one line."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from kernel_cases import assert_same, random_call, relative_error, run
from torch import Tensor
from torch._subclasses import FakeTensorMode

from gossamer import Full, Global, Window, attend, explain
from gossamer.errors import InputError, quote
from gossamer.kernels.backends.cpu import c_call, library

SHAPE = (2, 2, 40, 16)
PATTERN = Window(5, 3) | Global()
FLAGS = torch.arange(40).expand(2, -1) % 11 == 4


def random(*shape: int, **options: Any) -> Tensor:
    return torch.randn(*(shape or SHAPE), generator=torch.Generator().manual_seed(4), **options)


class Subclass(Tensor):
    pass


KINDS: dict[str, Callable[[], Tensor]] = {
    "one number for all": lambda: random(1, 1, 1, 1).expand(SHAPE),
    "one row for all": lambda: random(1, 1, 1, 16).expand(SHAPE),
    "one head for all": lambda: random(2, 1, 40, 16).expand(SHAPE),
    "one number a row": lambda: random(2, 2, 40, 1).expand(SHAPE),
    "rows that overlap": lambda: random(500).as_strided(SHAPE, (16, 8, 4, 1)),
    "rows in one another": lambda: random(500).as_strided(SHAPE, (16, 8, 1, 4)),
    "the size not last in memory": lambda: random().mT.contiguous().mT,
    "every third number": lambda: random(2, 2, 40, 48)[..., ::3],
    "every third row, from an odd place": lambda: random(2, 2, 125, 17)[:, :, 5::3, 1:],
    "all dimensions turned": lambda: random(*SHAPE[::-1]).permute(3, 2, 1, 0),
    "a subclass": lambda: random().as_subclass(Subclass),
    "a parameter": lambda: torch.nn.Parameter(random()),
    "a negated view": lambda: torch._neg_view(random()),
    "a conjugate's imaginary part": lambda: random(dtype=torch.complex64).conj().imag,
    "a view that needs its gradient": lambda: random(40, 2, 2, 16).requires_grad_().permute(1, 2, 0, 3),
}


@pytest.mark.parametrize("name", KINDS)
def test_tensors_of_any_kind(name: str) -> None:
    """The same numbers as from a plain copy, bit for bit, forward and backward; each of q, k, v in turn, and all."""
    x = KINDS[name]()
    assert x.shape == SHAPE
    plain = x.detach().as_subclass(Tensor).clone(memory_format=torch.contiguous_format).resolve_neg()
    other = random() * 0.7
    for which in ("q", "k", "v", "qkv"):
        outcomes = []
        for one in (x, plain):
            leaves = {n: (one if n in which else other).detach().requires_grad_() for n in "qkv"}
            out, lse = attend(**leaves, pattern=PATTERN, global_mask=FLAGS, backend="cpu", return_lse=True)
            grads = torch.autograd.grad((out.sin().sum(), lse.sum()), list(leaves.values()))
            outcomes.append((out, lse, *grads))
        assert all(torch.equal(found, wanted) for found, wanted in zip(*outcomes, strict=True))


@pytest.mark.parametrize("name", KINDS)
def test_tensors_of_any_kind_without_gradients(name: str) -> None:
    """Those calls leave torch's operators out."""
    x = KINDS[name]().detach()
    plain = x.as_subclass(Tensor).clone(memory_format=torch.contiguous_format).resolve_neg()
    for _ in range(2):
        found, wanted = (attend(one, one, one, Window(5, 3), backend="cpu") for one in (x, plain))
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("size", [1, 7, 16, 17, 33, 100, 256, 257, 512])
def test_head_sizes(size: int) -> None:
    for dtype, output, gradient in ((torch.float32, 2e-6, 5e-6), (torch.bfloat16, 5e-3, 1e-2)):
        call = random_call(PATTERN, 40, size=size, global_mask=FLAGS).to(dtype)
        assert_same(run(call, "cpu"), run(call.to(torch.float64), "reference"), output, gradient)


@pytest.mark.parametrize("pattern", [Full(), Window(5, 3), PATTERN, Window(2, 2, 3)], ids=str)
def test_empty_shapes(pattern: Any) -> None:
    for batch, queries, keys in ((0, 5, 5), (2, 0, 6), (2, 6, 0), (0, 0, 0), (1, 0, 0)):
        call = random_call(pattern, queries, keys, batch=batch, global_mask=torch.ones(batch, keys, dtype=torch.bool))
        found = run(call.to(torch.float32), "cpu")
        assert found.out.shape == call.q.shape
        assert not found.out.any()
        assert not found.gradient.any()


def refused(message: str, q: Tensor, k: Tensor, v: Tensor, **options: Any) -> None:
    options = {"pattern": Window(5, 3), "backend": "cpu"} | options
    for function in (attend, explain):
        with pytest.raises(InputError, match=re.escape(message)) as error:
            function(q, k, v, **options)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "dtype",
    [torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64, torch.int8, torch.int32, torch.int64, torch.bool],
    ids=str,
)
def test_other_dtypes(dtype: torch.dtype) -> None:
    x = torch.zeros(SHAPE).to(dtype)
    message = f"q is {dtype} on cpu and q {dtype} on cpu; they must share one device and one of float16"
    for backend in ("cpu", "auto"):
        refused(message, x, x, x, backend=backend)


def test_float64_is_for_others() -> None:
    x = random().double()
    refused("backend 'cpu' cannot compute this call: it computes no float64; try backend='auto'", x, x, x)
    assert attend(x, x, x, Window(5, 3)).dtype == torch.float64


def test_mixed_dtypes_and_devices() -> None:
    x = random()
    for other in (x.bfloat16(), x.half(), x.double(), x.int(), x.to("meta")):
        refused(f"k is {other.dtype} on {other.device} and q torch.float32 on cpu; they must share", x, other, x)
        refused(f"v is {other.dtype} on {other.device} and q torch.float32 on cpu; they must share", x, x, other)
    meta = x.to("meta")
    refused("k is torch.float32 on cpu and q torch.float32 on meta; they must share", meta, x, x)
    refused("backend 'cpu' cannot compute this call: it is for the CPU", meta, meta, meta)


def nested(layout: torch.layout) -> Tensor:
    return torch.nested.nested_tensor([random(2, 40, 16), random(2, 40, 16)], layout=layout)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage:UserWarning")
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta:UserWarning")
def test_other_layouts() -> None:
    x = random()
    others = {
        "sparse_coo": x.to_sparse(),
        "sparse_csr": x[0, 0].to_sparse_csr(),
        "_mkldnn": x.to_mkldnn(),
        "nested": nested(torch.strided),
        "nested, jagged": nested(torch.jagged),
    }
    for name, other in others.items():
        kind = name.split(",")[0]
        refused(f"q is a tensor of layout {kind}; it must be an ordinary, dense one", other, x, x)
        refused(f"k is a tensor of layout {kind}; it must be an ordinary, dense one", x, other, x)
        refused(f"v is a tensor of layout {kind}; it must be an ordinary, dense one", x, x, other, backend="auto")
    refused("key_mask is a tensor of layout sparse_coo", x, x, x, key_mask=torch.ones(2, 40).bool().to_sparse())


def test_wrong_shapes() -> None:
    x = random()
    refused("q has shape [2, 40, 16]; it must be [batch, heads, length, head_size]", x[0], x, x)
    refused("k has shape [1, 2, 40, 16] and v [2, 2, 40, 16]; all but the head size must be equal", x, x[:1], x)
    refused("q has shape [2, 2, 40, 16] and k [1, 2, 40, 16]; batch and head_size must be equal", x, x[:1], x[:1])
    refused("q has shape [2, 2, 40, 16] and k [2, 2, 40, 8]; batch", x, x[..., :8], x[..., :8])
    refused("k has shape [2, 2, 40, 16] and v [2, 2, 39, 16]", x, x, x[:, :, 1:])
    refused("q has 2 heads and k 3; the first must be a multiple", x, *[torch.cat([x, x[:, :1]], 1)] * 2)
    refused("v has shape [2, 2, 40, 0]; it must have one head or more, of size 1 or more", x, x, x[..., :0])
    refused("q is [1, 2], a list; it must be a tensor", [1, 2], x, x)  # type: ignore[arg-type]


def test_places_too_far_apart() -> None:
    x = random()
    refused("query_start is 2147483648; it must be from -1073741824 to 1073741824", x, x, x, query_start=2**31)
    placed = torch.zeros(2, 40, dtype=torch.long)
    placed[0, 3] = 2**31
    with pytest.raises(InputError, match="positions reach from 0 to 2147483648; the CPU kernel takes at most 2147"):
        attend(x, x, x, Window(5, 3), positions=placed, backend="cpu")


FAR = 2**31 - 1


@pytest.mark.parametrize(
    "pattern", [Window(5, 3), Window(FAR, FAR), Full(causal=True), Window(FAR, 0, 2), Window(1, 1, FAR)]
)
@pytest.mark.parametrize("documents", [False, True])
def test_places_as_far_apart_as_can_be(pattern: Any, documents: bool) -> None:
    """Differences just fit 32 bits, with documents and residue classes too, of which there are more than that."""
    generator = torch.Generator().manual_seed(3)
    options: dict[str, Any] = {"segments": torch.arange(40).expand(2, -1) // 9} if documents else {}
    for least, most in ((0, FAR), (-FAR, 0), (-(2**62), FAR - 2**62)):
        positions = torch.randint(0, FAR, (2, 40), generator=generator) + least
        positions[:, 0], positions[:, -1] = least, most
        call = random_call(pattern, 40, size=16, positions=positions, **options).to(torch.float32)
        assert_same(run(call, "cpu"), run(call.to(torch.float64), "reference"), 2e-6, 5e-6)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.uint32, torch.int64])
def test_documents_and_positions_of_any_integer_dtype(dtype: torch.dtype) -> None:
    x = random()
    count = torch.arange(40).expand(2, -1)
    for options in ({"segments": count // 9}, {"positions": count}):
        found, wanted = (
            attend(x, x, x, Window(5, 3), backend=backend, **{name: y.to(kind) for name, y in options.items()})
            for backend, kind in (("cpu", dtype), ("reference", torch.int64))
        )
        assert relative_error(found, wanted) < 1e-6


def test_fake_tensors_are_never_read() -> None:
    with FakeTensorMode() as mode:
        x = mode.from_tensor(random()).requires_grad_()
        out = attend(x, x, x, Window(5, 3), backend="cpu")
        out.sum().backward()
    assert out.shape == x.grad.shape == SHAPE


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the compiled libraries, which the kernel is then taken from."""
    for one in Path(library.__file__).parent.glob("*.so"):
        shutil.copy(one, tmp_path)
    monkeypatch.setenv(library.FOLDER, str(tmp_path))
    library._load.cache_clear()
    yield tmp_path
    library._load.cache_clear()


def said() -> str:
    """What is said of the kernel for a text that is too long for anything dense; asked for by name it is an error."""
    q = torch.zeros(1, 1, 5000, 4)
    found = explain(q, q, q, Window(2, 2))
    assert found.backend == "blocked"
    refused(f"backend 'cpu' cannot compute this call: {found.others['cpu']}", q, q, q)
    return found.others["cpu"]


def test_a_kernel_that_is_not_there_is_said(folder: Path) -> None:
    for one in folder.glob("*.so"):
        one.unlink()
    wanted = f"GOSSAMER_CPU_KERNEL_DIR is {quote(str(folder))}, which holds no libraries; name a folder that does, or "
    assert said() == f"{wanted}leave it out"


def test_the_next_best_instruction_set_is_taken(folder: Path) -> None:
    for name in library.INSTRUCTION_SETS[:-1]:
        (folder / f"gossamer_attention_{name}.so").unlink(missing_ok=True)
    assert library.instruction_set() == "baseline"


def test_a_broken_library_is_said(folder: Path) -> None:
    for one in folder.glob("*.so"):
        one.write_bytes(b"not a library")
    assert re.fullmatch(r"it does not load \(.*\); install Gossamer again", said())


def compile_baseline(folder: Path, source: str) -> None:
    (folder / "other.c").write_text(source)
    library_file = folder / "gossamer_attention_baseline.so"
    library_file.unlink()
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library_file, folder / "other.c"], check=True)


def test_a_library_of_another_version_is_said(folder: Path) -> None:
    names = ("gs_supports", "gs_forward", "gs_backward", "gs_peak")
    compile_baseline(folder, "long long gs_call_bytes(void) { return 8; }\n" + "".join(f"int {n};\n" for n in names))
    assert re.fullmatch(r"it does not load \(.*gs_fields\); install Gossamer again", said())


OTHER_FIELDS: dict[str, Callable[[list[c_call.Field], int], tuple[list[c_call.Field], int]]] = {
    "q.data (p64 at 72) in place of q.data (p64 at 64)": lambda x, n: (
        [(name, kind, at + 8 if at == 64 else at, size) for name, kind, at, size in x],
        n,
    ),
    "scale (f64 at 496) in place of scale (f32 at 496)": lambda x, n: (
        [(name, kind, at, 8 if name == "scale" else size) for name, kind, at, size in x],
        n,
    ),
    "dropout_threshold (f32 at 500) in place of dropout_threshold (u32 at 500)": lambda x, n: (
        [(name, "f" if name == "dropout_threshold" else kind, at, size) for name, kind, at, size in x],
        n,
    ),
    "heads (i64 at 24) in place of key_heads (i64 at 32)": lambda x, n: ([*x[:6], x[5], *x[7:]], n),
    "no field in place of dlse (p64 at 640)": lambda x, n: (x[:-1], n),
    "more (p64 at 648) in place of no field": lambda x, n: ([*x, ("more", "p", 648, 8)], n),
    "a call has 656 bytes in place of 648": lambda x, n: (x, 656),
}


@pytest.mark.parametrize("message", OTHER_FIELDS)
def test_a_library_that_describes_calls_otherwise_is_said(folder: Path, message: str) -> None:
    """One field at another place, of another size, kind or name, one less or more: of equal size as a whole or not."""
    ours = list(c_call._fields(c_call.Call))
    fields, whole = OTHER_FIELDS[message](ours, ctypes.sizeof(c_call.Call))
    rows = "".join(f"{{\"{name}\", '{kind}', {at}, {size}}},\n" for name, kind, at, size in fields)
    names = ("gs_supports", "gs_forward", "gs_backward", "gs_peak")
    source = [
        "struct { const char *name; long long kind, offset, size; }",
        f"fields[] = {{{rows} {{0, 0, {whole}, 0}}}};",
        "void *gs_fields(void) { return fields; }",
        *(f"int {name};" for name in names),
    ]
    compile_baseline(folder, "\n".join(source) + "\n")
    assert said() == f"it does not load (it belongs to another version: {message}); install Gossamer again"


def test_every_library_describes_calls_as_python_does() -> None:
    for name in library.INSTRUCTION_SETS:
        if (opened := library._open(name)) is not None:
            assert c_call.why_another_call(opened) is None
            fields, whole = c_call._fields_of(opened)
            assert len(fields) == len(list(c_call._fields(c_call.Call)))
            assert whole == ctypes.sizeof(c_call.Call)


def test_another_library_is_said(folder: Path) -> None:
    compile_baseline(folder, "int other(void) { return 1; }\n")
    assert re.fullmatch(r"it does not load \(.*gs_\w+\); install Gossamer again", said())
