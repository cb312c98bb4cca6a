"""A directory of vocabulary files for each family, real ones: MiniLM's words, and what is trained on the speeches."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import tokenizers
from vocabulary_material import ALBERT, BYTE_LEVEL, FILES, SIZE, train_pieces

from gossamer.text import speeches


@pytest.fixture(scope="session")
def families(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """model_type to a directory of config.json and the family's vocabulary files, nothing else."""
    root = tmp_path_factory.mktemp("families")
    found = {name: root / name for name in FILES}
    for name, directory in found.items():
        directory.mkdir()
        (directory / "config.json").write_text(json.dumps({"model_type": name}))
    words = [speech.text.split() for speech in speeches()[:12]]
    lines = [" ".join(one[i : i + 100]) for one in words for i in range(0, len(one), 100)]
    byte_level = tokenizers.ByteLevelBPETokenizer()
    byte_level.train_from_iterator(lines, vocab_size=SIZE, special_tokens=BYTE_LEVEL, show_progress=False)
    pieces = train_pieces(lines)
    for name in ("bert", "distilbert", "electra"):
        shutil.copy(minilm / "vocab.txt", found[name])
    for name in ("roberta", "longformer"):
        byte_level.save_model(str(found[name]))
    for name in ("xlm-roberta", "camembert"):
        (found[name] / "sentencepiece.bpe.model").write_bytes(pieces)
    (found["albert"] / "spiece.model").write_bytes(train_pieces(lines, **ALBERT))
    return found


@pytest.fixture
def copy_of(families: Mapping[str, Path], tmp_path: Path):
    """A function: a family's directory, copied, with a tokenizer_config.json and other JSON files if given."""

    def copy(family: str, config: object = None, **others: object) -> Path:
        directory = shutil.copytree(families[family], tmp_path / f"{family}-{len(list(tmp_path.iterdir()))}")
        for name, content in {"tokenizer_config": config, **others}.items():
            if content is not None:
                (directory / f"{name}.json").write_text(json.dumps(content))
        return directory

    return copy
