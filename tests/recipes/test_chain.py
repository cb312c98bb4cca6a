"""Recipes in a row, in many orders: every model on the way is an ordinary one."""

from collections.abc import Callable, Sequence
from itertools import pairwise, permutations, product
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from cut_models import close
from torch import Tensor
from trim_models import texts, tiny

import gossamer as gs
from gossamer.errors import InputError
from gossamer.inspection import summary
from gossamer.models import Model
from gossamer.surgery.students import make_student
from gossamer.training.estimate.estimate import estimate, estimate_step
from gossamer.training.estimate.saved import Pass
from gossamer.training.optimization.optimizers import OptimizerSettings

Recipe = Callable[[Model], Model]

SAID = texts()[:12]
ROWS = [{"text": text} for text in SAID]
QUICK: dict[str, Any] = {"journal.live": False, "threads": 1, "steps": 2, "batch.rows": 4, "batch.length": 32}
WINDOW = 32
COVERED = WINDOW // 2 + 1
"""Tokens of a text that a lengthened model reads as the short one did."""
PARTS = ["heads", "neurons"]


def lengthened(model: Model) -> Model:
    return gs.lengthen(model, to=2 * model.architecture.length, window=WINDOW)[0]


def shared(model: Model, **learning: Any) -> Model:
    """In ALBERT's form; a decoder's table, to which its head is tied, stays as wide as it is."""
    narrower = {} if model.architecture.is_decoder else {"embedding_size": 8}
    return gs.share(model, groups=min(2, len(model.architecture.layers)), **narrower, **learning)[0]


def student(model: Model) -> Model:
    """The first layer and the last, untrained."""
    return make_student(model, sorted({0, len(model.architecture.layers) - 1}))


def pruned(model: Model, scope: Any = "layer", keep: float = 0.5) -> Model:
    return gs.prune(model, score="magnitude", structure=PARTS, keep=keep, scope=scope)[0]


def compacted(model: Model) -> Model:
    return gs.compact(model)[0]


def trimmed(model: Model) -> Model:
    return gs.trim(model, SAID)[0]


CHEAP: dict[str, Recipe] = {
    "lengthen": lengthened, "share": shared, "distill": student, "prune": pruned, "compact": compacted, "trim": trimmed,
}  # fmt: skip
"""The six recipes where nothing learns."""
TRAINED: dict[str, Recipe] = CHEAP | {
    "share": lambda model: shared(model, train=ROWS, settings=QUICK),
    "distill": lambda model: gs.distill(model, ROWS, layers=[0, 2], settings=QUICK)[0],
    "prune": lambda model: gs.prune(model, ROWS, structure=PARTS, keep=0.5, settings=QUICK)[0],
}
SAME_OUTPUTS = {"lengthen", "compact", "trim"}
"""What leaves the states of short texts of tokens that stay as they are."""


def neighbours(names: Sequence[str]) -> list[tuple[str, ...]]:
    """As many orders as names, an even number, in which each pair stands side by side once each way (Williams 1949)."""
    count = len(names)
    first = [0, *((i + 1) // 2 if i % 2 else count - i // 2 for i in range(1, count))]
    return [tuple(names[(number + shift) % count] for number in first) for shift in range(count)]


def encoder() -> Model:
    return tiny("bert", "masked-lm", num_hidden_layers=3, num_attention_heads=4)


def decoder(family: str) -> Model:
    return tiny(family, "causal-lm", **({"n_layer": 3} if family == "gpt2" else {"num_hidden_layers": 3}))


def outputs(model: Model) -> tuple[Tensor, Tensor]:
    """States and scores of the real tokens of short texts."""
    batch = model.tokenizer(list(SAID[:3]), max_length=COVERED)
    with torch.no_grad():
        out = model.eval()(**batch)
    real = batch["attention_mask"].bool()
    return out.last_hidden_state[real], out.logits[real]


def reloaded(model: Model, folder: Path) -> Model:
    """The model as it is read again, which must be the same."""
    again = gs.load(gs.save(model, folder))
    assert (again.architecture, again.family) == (model.architecture, model.family)
    assert again.tokenizer.tokens(range(900)) == model.tokenizer.tokens(range(900))
    for before, after in zip(outputs(model), outputs(again), strict=True):
        close(after, before, 1e-6)
    return again


def take(names: Sequence[str], model: Model, recipes: dict[str, Recipe], folder: Path) -> list[Model]:
    """The model after each of these recipes, every one saved and loaded before the next."""
    models = []
    for i, name in enumerate(names):
        made = recipes[name](model)
        if name in SAME_OUTPUTS:
            close(outputs(made)[0], outputs(model)[0], 1e-5)
        model = reloaded(made, folder / f"{i}-{name}")
        models.append(model)
    return models


def check_use(model: Model) -> None:
    """What a model costs is told, and it does its task."""
    parameters = sum(one.numel() for one in model.parameters())
    told = summary(model, lengths=[16])
    assert told.parameters == told.costs[0].parameters == parameters
    assert str(told)
    step = estimate_step(model.architecture, Pass(rows=2, length=16), OptimizerSettings(), timed=False)
    assert step.parameters == parameters
    if model.architecture.is_decoder:
        told = [gs.generate(model, "We", max_new_tokens=6, temperature=0, use_cache=one) for one in (True, False)]
        assert told[0].ids == told[1].ids
        assert len(told[0].ids[0]) > 1
    else:
        mask = model.tokenizer.tokens([model.tokenizer.mask_id])[0]
        filled = gs.task("fill-mask", model)(f"We the {mask} of the states")
        assert filled.masks[0][0].fills


def test_all_six_recipes_in_a_row(tmp_path: Path) -> None:
    names = ["lengthen", "share", "distill", "prune", "compact", "trim"]
    models = take(names, encoder(), TRAINED, tmp_path)
    for model in models:
        check_use(model)
    last = models[-1]
    sizes = [sum(one.numel() for one in model.parameters()) for model in models]
    assert sizes[1] < sizes[0]
    assert sizes[4] < sizes[2] == sizes[3]
    assert sizes[5] < sizes[4]
    assert last.architecture.length == 128
    assert {(one.attention.heads, one.feed_forward.width) for one in last.architecture.layers} == {(2, 12)}
    text = tmp_path / "texts.txt"
    text.write_text("\n".join(SAID), encoding="utf-8")
    config = {
        "model": {"checkpoint": str(tmp_path / "5-trim")}, "data": str(text), "objective": "masked-lm",
        "batch": {"rows": 2, "length": 32}, "steps": 1, "output": str(tmp_path / "on"),
        "journal": {"live": False}, "threads": 1,
    }  # fmt: skip
    assert estimate(config).parameters == sizes[5]
    learnt, _ = gs.train(config)
    reloaded(learnt, tmp_path / "learnt")


@pytest.mark.parametrize("names", neighbours(list(CHEAP)), ids="-".join)
def test_each_recipe_behind_each_other(names: tuple[str, ...], tmp_path: Path) -> None:
    assert set(names) == CHEAP.keys()
    take(names, encoder(), CHEAP, tmp_path)


def test_the_orders_have_every_pair() -> None:
    pairs = [pair for names in neighbours(list(CHEAP)) for pair in pairwise(names)]
    assert sorted(pairs) == sorted(permutations(CHEAP, 2))


@pytest.mark.slow
@pytest.mark.parametrize("names", Random(0).sample([*permutations(CHEAP)], 6), ids="-".join)
def test_drawn_orders_with_training(names: tuple[str, ...], tmp_path: Path) -> None:
    trained = TRAINED | {
        "distill": lambda model: gs.distill(model, ROWS, layers="every-other", settings=QUICK)[0],
    }
    for model in take(names, encoder(), trained, tmp_path):
        check_use(model)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_every_pair_and_each_twice(family: str, tmp_path: Path) -> None:
    start = encoder() if family == "bert" else decoder(family)
    names = [name for name in CHEAP if family == "bert" or name != "lengthen"]
    for pair in product(names, repeat=2):
        if pair != ("lengthen", "lengthen"):
            check_use(take(pair, start, CHEAP, tmp_path / "-".join(pair))[-1])


@pytest.mark.parametrize(
    ("family", "names"),
    [("gpt2", ("prune", "compact", "distill", "trim")), ("llama", ("trim", "distill", "prune", "compact"))],
)
def test_a_decoder_generates_after_each(family: str, names: tuple[str, ...], tmp_path: Path) -> None:
    recipes = TRAINED | {"distill": lambda model: gs.distill(model, ROWS, layers=[0, 2], settings=QUICK)[0]}
    recipes["prune"] = lambda model: pruned(model, scope="global", keep=0.4)
    models = take(names, decoder(family), recipes, tmp_path)
    for model in models:
        check_use(model)
    assert len({layer.feed_forward.width for layer in models[-1].architecture.layers}) > 1


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "lengthened twice": (
        lambda: lengthened(lengthened(encoder())),
        r"^layer 0 attends by 'window 16\+16 \| global'; lengthen replaces full attention only: give it the original",
    ),
    "layers of several widths in one group": (
        lambda: shared(compacted(pruned(encoder(), scope="global"))),
        r"^groups is 2, but layers of a group are shaped differently \(.*\): take more groups, or other parts$",
    ),
    "a decoder": (lambda: lengthened(decoder("gpt2")), r"^layer 0 attends by .causal full.; lengthen replaces full"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_order_that_cannot_be_is_refused_in_a_line(case: str) -> None:
    call, message = REFUSED[case]
    with pytest.raises(InputError, match=message) as refused:
        call()
    assert "\n" not in str(refused.value)
