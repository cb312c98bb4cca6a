"""A real T5 1.1 as a checkpoint: flan-t5-small that learnt to write titles, out of int8 ONNX files of a package.

    python benchmarks/titles.py FOLDER

The graphs are from the package traceforge-title-model 0.2.0 (MIT). A weight is (q - zero point) x scale there; which
one it is say the names of the nodes that read it. The output head is a weight of its own.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from material import Member, read_member
from safetensors.torch import save_file

if TYPE_CHECKING:
    from onnx import ModelProto

PACKAGE = "traceforge-title-model==0.2.0"
FILES = {
    "encoder.onnx": "b82bef1400cec815c3e5addd04dc451ec31491ac6598b166bbc6594656823787",
    "decoder.onnx": "76b40328b8a6bd8b8fc029d80006284c6d644d6e0938c18339bc05fb31a927bc",
    "tokenizer.json": "3550c5f922922567115f702e0543b57276366fc321cf1f088859c71491656cf6",
}
"""Their SHA-256."""
CONFIG = {
    "model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "vocab_size": 32128, "d_model": 512,
    "d_kv": 64, "d_ff": 1024, "num_layers": 8, "num_decoder_layers": 8, "num_heads": 6,
    "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128, "layer_norm_epsilon": 1e-06, "dropout_rate": 0.1, "pad_token_id": 0,
    "eos_token_id": 1, "decoder_start_token_id": 0, "is_encoder_decoder": True,
}  # fmt: skip
TOKENIZER = {
    "tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>",
    "model_input_names": ["input_ids", "attention_mask"], "model_max_length": 512,
}  # fmt: skip
_STACKS = {"enc": "encoder", "m.decoder": "decoder", "m.lm_head": "lm_head"}
_PRODUCT = re.compile(r"/(enc|m/decoder|m/lm_head)(/.*)?/MatMul_quant")


def write_titles(folder: Path) -> Path:
    """The checkpoint, in a folder of its own; what is there already is left as it is."""
    if (folder / "config.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    weights = {**read_weights(_graph("encoder.onnx")), **read_weights(_graph("decoder.onnx"))}
    save_file({name: one.contiguous() for name, one in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    (folder / "tokenizer.json").write_bytes(read_member(_member("tokenizer.json")))
    for name, settings in (("tokenizer_config.json", TOKENIZER), ("config.json", CONFIG)):
        (folder / name).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return folder


def graph_bytes(name: str) -> bytes:
    """One of the package's ONNX files."""
    return read_member(_member(name))


def read_weights(model: ModelProto) -> dict[str, torch.Tensor]:
    """A graph's weights in float32, as PyTorch's T5 calls and lays them out."""
    from onnx import numpy_helper

    stored = {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in model.graph.initializer}
    weights = {_renamed(name): one for name, one in stored.items() if name.endswith("layer_norm.weight")}
    for name in stored:
        if name.endswith(".weight_quantized"):  # of a table
            weights[_renamed(name.removesuffix("_quantized"))] = _real(stored, name)
    for node in model.graph.node:
        if node.op_type == "MatMulInteger":
            found = _PRODUCT.fullmatch(node.name)
            assert found is not None, node.name
            place = (found[1] + (found[2] or "")).replace("/", ".")
            weights[f"{_renamed(place)}.weight"] = _real(stored, node.input[1]).T
    return weights


def _renamed(name: str) -> str:
    if name == "m.shared.weight" or name == "enc.embed_tokens.weight":
        return "shared.weight"
    stack = next(one for one in _STACKS if name == one or name.startswith(f"{one}."))
    return _STACKS[stack] + name[len(stack) :]


def _real(stored: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    stem = name.removesuffix("_quantized")
    return (stored[name].float() - stored[f"{stem}_zero_point"].float()) * stored[f"{stem}_scale"]


def _graph(name: str) -> Any:
    try:
        import onnx
    except ImportError:
        sys.exit("the graphs are read with onnx: pip install onnx")
    return onnx.load_model_from_string(graph_bytes(name))


def _member(name: str) -> Member:
    return Member(PACKAGE, f"traceforge_title_model/data/span/{name}", FILES[name])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(write_titles(Path(sys.argv[1])))
