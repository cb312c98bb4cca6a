"""Every field of every settings file, set to what no reader expects: it loads, or one line says what is wrong."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fuzz_runner import load
from fuzz_templates import template, write
from mutations import STRANGE

import gossamer as gs

# Fields that a file may have besides those it has, and that anybody here reads.
MORE = {
    "config.json": ["num_labels", "id2label", "label2id", "problem_type", "classifier_dropout", "quantization_config"],
    "tokenizer_config.json": [
        *("eos_token", "bos_token", "additional_special_tokens", "extra_special_tokens", "added_tokens_decoder"),
        *("padding_side", "truncation_side", "model_input_names", "tokenizer_class", "do_lower_case", "strip_accents"),
    ],
    "special_tokens_map.json": ["eos_token", "bos_token", "additional_special_tokens", "model_max_length"],
    "added_tokens.json": ["[PAD]", "more"],
    "sentence_bert_config.json": ["max_seq_length", "do_lower_case"],
    "1_Pooling/config.json": ["pooling_mode", "pooling_mode_mean_tokens"],
    "2_Dense/config.json": ["bias", "activation_function", "use_residual", "module_input_name"],
    "modules.json": [],
    "gossamer.json": ["files"],
    "model.safetensors.index.json": ["weight_map"],
}


def changed(data: Any, names: list[str], value: object) -> Iterator[tuple[str, Any]]:
    """The file's content with one field set, the field named; of a list each object's in turn."""
    if isinstance(data, list):
        for i, one in enumerate(data):
            for name, new in changed(one, names, value):
                yield f"[{i}].{name}", [*data[:i], new, *data[i + 1 :]]
        return
    for name in sorted({*data, *names}):
        yield name, {**data, name: value}


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize(
    "name", ["sentence", "roberta", "albert", pytest.param("xlm-roberta", marks=pytest.mark.slow), "gpt2", "gossamer"]
)
def test_a_strange_value_is_refused_in_a_line_or_read(name: str, strange: str, tmp_path: Path) -> None:
    original = template(name)
    write(original.files, tmp_path)
    for file, names in MORE.items():
        if file not in original.files and file != "added_tokens.json":
            continue
        content = original.files.get(file, b"{}")
        for field, new in changed(json.loads(content), names, STRANGE[strange]):
            (tmp_path / file).write_text(json.dumps(new))
            try:
                found = load(tmp_path)
            except Exception as problem:
                pytest.fail(f"{file}: {field}: {type(problem).__name__}: {problem}")
            if isinstance(found, gs.models.Model) and found.tokenizer is not None:
                found.tokenizer.save(tmp_path.parent)  # what was read can be written
        if file in original.files:
            (tmp_path / file).write_bytes(content)
        else:
            (tmp_path / file).unlink()
