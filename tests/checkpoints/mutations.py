"""A thousand ways to spoil a checkpoint: each draws from a seeded generator and changes a copy of the files."""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch
from fuzz_templates import Files

Mutation = Callable[[Random, Files, Files, Path], str]
"""Changes the first files in place, may take from the second (another family's), and tells what it did."""

NUMBERS: list[Any] = [0, -1, 1, 2, 3, 4, 7, 16, 20, 10**6, 2**31, 2**63, 10**400, -(10**400), 0.5, 1e-320, 1e308]
NUMBERS += [float("nan"), float("inf"), -float("inf"), 8.0]
WORDS = ["", "8", "gelu", "x" * 10_000, "\0", "\ud800", "naïve 東京 🙂", "../../etc", "/", "a\nb", "{}", "[MASK]"]
WORDS += [
    "__class__",
    "bert",
    "albert",
    "gossamer",
    "relu",
    "torch.float16",
    "auto",
    "BertForMaskedLM",
    "LongformerModel",
]
SHAPES: list[Any] = [None, True, False, [], {}, [[]], {"a": 1}, [1, 2], ["a"], {"0": "x", "1": "y"}, {"x": 0}]

STRANGE: dict[str, Any] = {
    "too large for a float": 10**400,
    "too small for a float": -(10**400),
    "list": [1],
    "list of lists": [[]],
    "object": {"a": 1},
    "object of another sort": {"content": 1, "lstrip": 2},
    "half a surrogate pair": "\ud800",
}
"""Values that trip a reader who takes a field's type for granted."""

TEXTUAL = ["twice", "comma", "comment", "quotes", "utf-16", "latin"]
TEXTUAL += ["mark", "deep", "nan", "long", "cut"]

BYTEWISE = ["cut", "flip", "flip", "insert", "zero", "swap"]
BYTEWISE += ["repeat", "remove", "set", "empty", "append"]

IN_A_HEADER = ["dtype", "shape", "offsets", "field", "name", "delete"]
IN_A_HEADER += ["copy", "swap", "length", "metadata"]


def value(random: Random) -> Any:
    """Anything that JSON can hold, mostly what does not belong there."""
    draw = random.random()
    if draw < 0.04:
        deep: Any = 0
        for _ in range(random.choice([20, 400])):
            deep = [deep] if random.random() < 0.5 else {"a": deep}
        return deep
    return random.choice(NUMBERS if draw < 0.45 else WORDS if draw < 0.7 else SHAPES)


def json_names(files: Files) -> list[str]:
    return [name for name in files if name.endswith(".json")]


def weight_names(files: Files) -> list[str]:
    return [name for name in files if name.endswith((".safetensors", ".bin"))]


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value: the keys and numbers that lead there."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    found = [] if not path else [path]
    for key, one in inner:
        found += places(one, (*path, key))
    return found


def json_value(random: Random, files: Files, others: Files, trace: Path) -> str:
    """One change inside a JSON file."""
    # The tokenizer's thousand places would leave few changes for the rest.
    full = [one for one in json_names(files) if places(json.loads(files[one]))]
    name = random.choice([one for one in full for _ in range(1 if "token" in one else 4)])
    data = json.loads(files[name])
    path = random.choice(places(data))
    home = data
    for key in path[:-1]:
        home = home[key]
    change = random.choice(["set", "set", "set", "delete", "rename", "swap", "wrap", "insert"])
    what = f"{name}: {change} {'/'.join(map(str, path))}"
    new = value(random)
    match change:
        case "set":
            home[path[-1]] = new
            what += f" {new!r:.60}"
        case "delete":
            del home[path[-1]]
        case "wrap":
            home[path[-1]] = random.choice([[home[path[-1]]], {"value": home[path[-1]]}])
        case "swap":
            other = random.choice(list(home) if isinstance(home, dict) else range(len(home)))
            home[path[-1]], home[other] = home[other], home[path[-1]]
        case _ if isinstance(home, list):
            home.insert(random.randrange(len(home) + 1), new)
        case "rename":
            home[random.choice([random.choice(WORDS), str(path[-1]).upper(), f" {path[-1]}"])] = home.pop(path[-1])
        case "insert":
            home[random.choice([*WORDS, "quantization_config", "auto_map", "is_decoder", "id2label"])] = new
    files[name] = json.dumps(data, ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass")
    return what


def json_text(random: Random, files: Files, others: Files, trace: Path) -> str:
    """One change of a JSON file's text, after which it may be no JSON."""
    name = random.choice(json_names(files))
    text = files[name].decode()
    lines = text.split("\n")
    change = random.choice(
        ["twice", "comma", "comment", "quotes", "utf-16", "latin", "mark", "deep", "nan", "long", "cut"]
    )
    match change:
        case "twice":
            files[name] = text.replace("{", '{"model_type": "bert", "model_type": "albert",', 1).encode()
        case "comma":
            files[name] = text.replace("}", ",}").encode()
        case "comment":
            files[name] = "\n".join([*lines[:2], "// not JSON", *lines[2:]]).encode()
        case "quotes":
            files[name] = text.replace('"', "'").encode()
        case "utf-16":
            files[name] = text.encode("utf-16")
        case "latin":
            files[name] = text.replace('": "', '": "é', 1).encode("latin-1", "replace")
        case "mark":
            files[name] = text.encode("utf-8-sig")
        case "deep":
            sign = random.choice("[{")
            files[name] = text.replace(": ", ": " + ("[" if sign == "[" else '{"a":') * 100_000, 1).encode()
        case "nan":
            files[name] = text.replace(": ", ": NaN, ", 1).encode()
        case "long":
            files[name] = text.replace(": ", ": " + "9" * 5000 + " ", 1).encode()
        case "cut":
            del lines[random.randrange(len(lines))]
            files[name] = "\n".join(lines).encode()
    return f"{name}: {change}"


def bytes_changed(random: Random, whole: bytes) -> tuple[str, bytes]:
    """Some bytes of a file cut, turned, put in, zeroed, exchanged or repeated."""
    # Headers, where the structure is, are as likely as all the rest.
    size = max(1, min(len(whole), random.choice([16, 400, 4000, len(whole)])))
    if random.random() < 0.3:  # and the end, where a zip archive has its directory
        start = len(whole) - 1 - random.randrange(min(len(whole), 1500))
    else:
        start = random.randrange(size)
    length = random.choice([1, 1, 2, 8, 100])
    end = start + length
    change = random.choice(
        ["cut", "flip", "flip", "insert", "zero", "swap", "repeat", "remove", "set", "empty", "append"]
    )
    at = f"{change} {length} at {start} of {len(whole)}"
    match change:
        case "cut":
            return at, whole[:start]
        case "flip":
            return at, whole[:start] + bytes([whole[start] ^ 1 << random.randrange(8)]) + whole[start + 1 :]
        case "insert":
            return at, whole[:start] + random.randbytes(length) + whole[start:]
        case "zero":
            return at, whole[:start] + bytes(len(whole[start:end])) + whole[end:]
        case "swap":
            far = random.randrange(len(whole))
            one, other = sorted((start, far))
            middle = whole[one + length : other]
            return at, whole[:one] + whole[other : other + length] + middle + whole[one : one + length] + whole[
                other + length :
            ]
        case "repeat":
            return at, whole[:end] + whole[start:end] * random.choice([1, 50]) + whole[end:]
        case "remove":
            return at, whole[:start] + whole[end:]
        case "set":
            return at, whole[:start] + random.choice([b"\xff", b"\x00", b"{", b"\x80"]) * length + whole[end:]
        case "empty":
            return at, b""
        case _:
            return at, whole + random.choice([whole, random.randbytes(length), bytes(length)])


def any_bytes(random: Random, files: Files, others: Files, trace: Path) -> str:
    """Bytes of one file, the weights as often as all others together."""
    name = random.choice(weight_names(files) if random.random() < 0.5 else list(files))
    what, files[name] = bytes_changed(random, files[name])
    return f"{name}: {what}"


def safetensors_header(random: Random, files: Files, others: Files, trace: Path) -> str:
    """Names, shapes, types and offsets in a safetensors header, or its length; other files get `any_bytes`."""
    names = [name for name in files if name.endswith(".safetensors")]
    if not names:
        return any_bytes(random, files, others, trace)
    name = random.choice(names)
    (length,) = struct.unpack("<Q", files[name][:8])
    header, body = json.loads(files[name][8 : 8 + length]), files[name][8 + length :]
    tensors = [one for one in header if one != "__metadata__"]
    one, other = random.choice(tensors), random.choice(tensors)
    entry = header[one]
    change = random.choice(
        ["dtype", "shape", "offsets", "field", "name", "delete", "copy", "swap", "length", "metadata"]
    )
    match change:
        case "dtype":
            entry["dtype"] = random.choice(
                ["F16", "BF16", "F64", "I32", "BOOL", "F8_E4M3", "F4", "U8", "X", "", None, 3]
            )
        case "shape":
            shape = entry["shape"]
            reshaped = [list(reversed(shape)), shape[:-1], [*shape, 1], [1, *shape], [], [0], [-1], [2**63], [2**62, 4]]
            entry["shape"] = random.choice([*reshaped, [1.5], "x", None, [2**32, 2**32], [10**30]])
        case "offsets":
            begin, end = entry["data_offsets"]
            moved = [[end, begin], [begin, end + 4], [begin - 4, end], [0, end - begin], [-1, 3], [2**63, 2**64 - 1]]
            entry["data_offsets"] = random.choice(
                [*moved, [begin], [], None, header[other]["data_offsets"], [0, 10**30]]
            )
        case "field":
            entry[random.choice(list(entry))] = value(random)
        case "name":
            header[random.choice([*WORDS, f"bert.{one}", f"module.{one}", one.upper(), other])] = header.pop(one)
        case "delete":
            del header[one]
        case "copy":
            header[random.choice([f"bert.{one}", "extra.weight", f"{one}.1"])] = entry
        case "swap":
            header[one], header[other] = header[other], header[one]
        case "metadata":
            header["__metadata__"] = value(random)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    size = (
        random.choice([0, 1, 2**32, 2**63, 2**64 - 1, len(text) - 1, len(text) + 1])
        if change == "length"
        else len(text)
    )
    files[name] = struct.pack("<Q", size) + text + body
    return f"{name}: {change} of {one}"


class Trap:
    """Pickles as a call that leaves a trace."""

    def __init__(self, call: Callable[..., Any], *given: Any) -> None:
        self.parts = (call, given)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.parts


def traps(trace: Path) -> list[Trap]:
    code = f"open({str(trace)!r}, 'w').close()"
    return [
        Trap(exec, code),
        Trap(eval, f"__import__('pathlib').Path({str(trace)!r}).touch()"),
        Trap(Path.touch, trace),
        Trap(__import__, "antigravity"),
        Trap(open, str(trace), "w"),
        Trap(torch.load, str(trace)),
        Trap(torch.save, 1, str(trace)),
        Trap(map, exec, [code]),
    ]


def pickled_code(random: Random, files: Files, others: Files, trace: Path) -> str:
    """A weight file that would run code if it were unpickled by hand."""
    trap = random.choice(traps(trace))
    content: Any = random.choice([trap, {"weight": trap}, {"a": torch.ones(2), "b": trap}, [trap]])
    kind = random.choice(["torch", "old torch", "pickle", "protocol 0"])
    buffer = io.BytesIO()
    if kind in ("torch", "old torch"):
        torch.save(content, buffer, _use_new_zipfile_serialization=kind == "torch")
    else:
        pickle.dump({"weight": trap}, buffer, protocol=0 if kind == "protocol 0" else 4)
    for name in weight_names(files):
        if name.endswith(".safetensors"):
            del files[name]
    files.pop("model.safetensors.index.json", None)
    files[random.choice([one for one in files if one.endswith(".bin")] or ["pytorch_model.bin"])] = buffer.getvalue()
    return f"{kind} that calls {trap.parts[0]}"


def bin_archive(random: Random, files: Files, others: Files, trace: Path) -> str:
    """Records of a .bin's zip archive spoilt, with checksums that are right again; other files get `any_bytes`."""
    names = [name for name in files if name.endswith(".bin") and zipfile.is_zipfile(io.BytesIO(files[name]))]
    if not names:
        return any_bytes(random, files, others, trace)
    name = random.choice(names)
    with zipfile.ZipFile(io.BytesIO(files[name])) as archive:
        records = {one: archive.read(one) for one in archive.namelist()}
    pickled = next(one for one in records if one.endswith("data.pkl"))
    one = random.choice([pickled, pickled, *records])
    change = random.choice(["bytes", "bytes", "bytes", "delete", "rename", "copy", "pack", "bomb", "opcode", "empty"])
    match change:
        case "bytes":
            _, records[one] = bytes_changed(random, records[one] or b"x")
        case "delete":
            del records[one]
        case "rename":
            records[random.choice(["data.pkl", "../x", "/etc/x", f"{one}x", "a/data.pkl"])] = records.pop(one)
        case "copy":
            records[f"{one.split('/')[0]}/extra"] = records[one]
        case "bomb":
            records[f"{one.split('/')[0]}/data/0"] = bytes(100_000_000)
        case "opcode":
            code = records[pickled]
            place = random.randrange(len(code))
            records[pickled] = (
                code[:place] + random.choice([b"cos\nsystem\n", b"R", b"0", b"(", b"t", b"."]) + code[place:]
            )
        case "empty":
            records = {}
    buffer = io.BytesIO()
    packed = zipfile.ZIP_DEFLATED if change in ("pack", "bomb") else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", packed) as archive:
        for record, content in records.items():
            archive.writestr(record, content)
    files[name] = buffer.getvalue()
    return f"{name}: {change} of {one}"


ODD = [
    "directory",
    "pipe",
    "socket",
    "link to nowhere",
    "link to itself",
    "link to a directory",
    "/dev/null",
    "/dev/zero",
]


def whole_files(random: Random, files: Files, others: Files, trace: Path) -> str:
    """A file that is missing, something else than a file, or another's."""
    name = random.choice(list(files))
    change = random.choice(["missing", "odd", "odd", "other family's", "exchanged", "code beside it"])
    match change:
        case "missing":
            del files[name]
        case "odd":
            files[name] = change = random.choice(ODD)
        case "other family's":
            name = random.choice([one for one in others if one != "gossamer.json"])
            files[name] = others[name]
        case "exchanged":
            other = random.choice(list(files))
            files[name], files[other] = files[other], files[name]
        case "code beside it":
            code = f"open({str(trace)!r}, 'w').close()\n".encode()
            files |= {f"{one}.py": code for one in ("modeling_x", "configuration_x", "tokenization_x", "__init__")}
            named = {
                "AutoConfig": "configuration_x.X",
                "AutoModel": "modeling_x.X",
                "AutoTokenizer": "tokenization_x.X",
            }
            files["config.json"] = json.dumps({**json.loads(files["config.json"]), "auto_map": named}).encode()
    return f"{name}: {change}"


def family_words(random: Random, files: Files, others: Files, trace: Path) -> str:
    """model_type, architectures, labels and single fields taken from another family's config.json."""
    config, other = json.loads(files["config.json"]), json.loads(others["config.json"])
    names = random.sample(sorted(other), min(len(other), random.choice([1, 1, 2, 5])))
    names = random.choice([names, names, ["model_type"], ["architectures"], ["model_type", "architectures"]])
    config |= {name: other[name] for name in names if name in other}
    if random.random() < 0.3:
        config["id2label"] = random.choice([{"0": "a"}, {str(i): str(i) for i in range(3)}, {"1": "a"}, {"x": "a"}, []])
    files["config.json"] = json.dumps(config).encode()
    return f"config.json: {', '.join(names)} of {other.get('model_type')}"


MUTATIONS: dict[str, Mutation] = {
    "json-values": json_value,
    "json-text": json_text,
    "bytes": any_bytes,
    "safetensors-header": safetensors_header,
    "bin-archive": bin_archive,
    "pickled-code": pickled_code,
    "whole-files": whole_files,
    "families": family_words,
}
