"""A real ALBERT with its masked-LM head: it fills in reactions, with `transformers`' numbers, and survives saving.

Its training data are reactions from patents, written as SMILES: reactants and reagents, ">>", product. The strings are
those that the model's package prints in its README and its own tests; nothing of them is kept here.
"""

import re
from importlib.metadata import distribution
from pathlib import Path

import pytest
import torch
from oracle import BOUND, distance
from torch import Tensor
from transformers import AlbertForMaskedLM

import gossamer as gs
from gossamer.models import Model
from gossamer.text import Tokenizer

# Schwaller et al. 2021 (doi:10.1126/sciadv.abe4166): an atom in brackets, or one letter, digit, bond or sign.
TOKEN = re.compile(
    r"\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p|\(|\)|\.|=|#|-|\+|\\|/|:|~|@|\?|>>?|\*|\$|%[0-9]{2}|[0-9]"
)
ATOM_MAP = re.compile(r":[0-9]+]")
# The shorter ones are made up to try notations ("CCO.BrCFC>>CCOCFC"), not run by anybody: top-1 is 0.55 there.
SHORTEST = 40


def tokenize(reaction: str) -> list[str]:
    tokens = TOKEN.findall(reaction)
    assert "".join(tokens) == reaction
    return tokens


def printed() -> list[str]:
    """The reactions in the package's README and tests, without numbered atoms: the model has never seen those."""
    package = distribution("rxnmapper")
    tests = Path(str(package.locate_file("tests/test_mapper.py"))).read_text(encoding="utf-8")
    text = f"{package.metadata.get_payload()}\n{tests}"
    found = re.findall(r"""["']([^"'\s]+>>[^"'\s]+)["']""", text)
    return sorted({one for one in found if not ATOM_MAP.search(one) and TOKEN.sub("", one) == ""})


@pytest.fixture(scope="module")
def reactions(chemistry_albert: Path) -> list[Tensor]:
    """The ids of each, in [CLS] and [SEP]."""
    vocabulary = (chemistry_albert / "vocab.txt").read_text(encoding="utf-8").split("\n")
    ids = {token: i for i, token in enumerate(vocabulary)}
    texts = [tokens for tokens in map(tokenize, printed()) if len(tokens) >= SHORTEST]
    return [torch.tensor([ids[one] for one in ("[CLS]", *tokens, "[SEP]")]) for tokens in texts]


@pytest.fixture(scope="module")
def model(chemistry_albert: Path) -> Model:
    return gs.load(chemistry_albert)


def test_its_vocabulary_is_of_no_public_tokenizer(model: Model, chemistry_albert: Path) -> None:
    assert model.tokenizer is None
    with pytest.raises(gs.InputError, match="spiece"):
        Tokenizer.load(chemistry_albert)


def every_token_masked(ids: Tensor, mask: int) -> Tensor:
    """One row for each token of the reaction, in which it is masked and all others are there."""
    rows = ids.repeat(len(ids) - 2, 1)
    rows[torch.arange(len(rows)), torch.arange(1, len(ids) - 1)] = mask
    return rows


def right(model: Model, ids: Tensor, mask: int = 14) -> Tensor:
    """For each token whether the model puts it first where it is masked."""
    with torch.no_grad():
        logits = model(every_token_masked(ids, mask)).logits
    return logits.diagonal(1).T[: len(ids) - 2].argmax(-1) == ids[1:-1]


def test_mask_is_the_token_that_masks(chemistry_albert: Path) -> None:
    assert (chemistry_albert / "vocab.txt").read_text(encoding="utf-8").split("\n")[14] == "[MASK]"


def test_masked_tokens_of_real_reactions_are_filled_in(model: Model, reactions: list[Tensor]) -> None:
    assert len(reactions) >= 3
    hits = torch.cat([right(model, ids) for ids in reactions])
    top1 = hits.double().mean().item()
    print(f"masked-token top-1: {top1:.4f} of {len(hits)} tokens in {len(reactions)} reactions")
    assert len(hits) >= 200
    assert top1 >= 0.95


@pytest.fixture(scope="module")
def theirs(chemistry_albert: Path) -> AlbertForMaskedLM:
    return AlbertForMaskedLM.from_pretrained(chemistry_albert).eval()


def logits(model: torch.nn.Module, reactions: list[Tensor]) -> Tensor:
    """Of every reaction with every seventh token masked, all in one padded batch; padding is left out."""
    batch = torch.nn.utils.rnn.pad_sequence(reactions, batch_first=True)
    kept = batch != 0
    masked = torch.where((torch.arange(batch.shape[1]) % 7 == 3) & kept, 14, batch)
    with torch.no_grad():
        return model(input_ids=masked, attention_mask=kept.long()).logits[kept]


def test_logits_are_those_of_transformers(model: Model, theirs: AlbertForMaskedLM, reactions: list[Tensor]) -> None:
    expected = logits(theirs, reactions)
    assert distance(logits(model, reactions), expected) <= BOUND
    assert not torch.equal(expected, logits(theirs, [ids.flip(0) for ids in reactions]))


@pytest.mark.parametrize("family", ["albert", "gossamer"])
def test_saved_it_is_the_same_model(
    model: Model, theirs: AlbertForMaskedLM, reactions: list[Tensor], family: str, tmp_path: Path
) -> None:
    again = gs.load(gs.save(model, tmp_path / "copy", family=family))
    assert again.family == family
    assert torch.equal(logits(again, reactions), logits(model, reactions))
    if family == "albert":
        found, info = AlbertForMaskedLM.from_pretrained(tmp_path / "copy", output_loading_info=True)
        assert not info["missing_keys"]
        assert not info["unexpected_keys"]
        expected = theirs.state_dict()
        assert all(torch.equal(one, expected[name]) for name, one in found.state_dict().items())
        assert distance(logits(found.eval(), reactions), logits(theirs, reactions)) <= BOUND
