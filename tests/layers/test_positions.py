"""Sinusoidal positions: the table of the paper, of any length, without a weight."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

import gossamer as gs
from gossamer.inspection import summary
from gossamer.layers.embeddings import SinusoidalPositions
from gossamer.models import Cache, Model
from gossamer.models.decoders import decoder
from gossamer.patterns import Full, Window


def paper(position: int, size: int) -> list[float]:
    """Vaswani et al. 2017, section 3.5: PE(pos, 2i) = sin(pos / 10000^(2i/d)), PE(pos, 2i + 1) the cosine."""
    angles = [position / 10000 ** (2 * (column // 2) / size) for column in range(size)]
    return [math.cos(one) if column % 2 else math.sin(one) for column, one in enumerate(angles)]


@pytest.mark.parametrize("size", [1, 7, 16, 384])
def test_the_table_is_the_paper_s(size: int) -> None:
    positions = torch.tensor([[0, 1, 2, 511], [16_383, 5, 10**6, 3]])
    wanted = torch.tensor([[paper(one, size) for one in row] for row in positions.tolist()], dtype=torch.float64)
    torch.testing.assert_close(SinusoidalPositions(size)(positions), wanted, rtol=0, atol=1e-9)


def small(dtype: torch.dtype = torch.float64) -> Model:
    torch.manual_seed(0)
    described = decoder(
        vocabulary_size=23, length=64, layers=2, hidden_size=16, heads=2, positions="sinusoidal", patterns=Window(9, 0)
    )
    return Model(described).to(dtype).eval()


def ids(rows: int = 2, length: int = 20) -> Tensor:
    return torch.randint(0, 23, (rows, length), generator=torch.Generator().manual_seed(1))


def test_a_model_adds_it_and_has_no_weight_for_it() -> None:
    model = small()
    assert not [name for name, _ in model.named_parameters() if "position" in name]
    assert not [name for name in model.state_dict() if "position" in name]
    found = model(ids(), output_hidden_states=True).hidden_states[0]
    table = torch.tensor([paper(one, 16) for one in range(20)], dtype=torch.float64)
    torch.testing.assert_close(found, model.embeddings.word(ids()) + table, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_states_keep_their_dtype(dtype: torch.dtype) -> None:
    assert small(dtype)(ids(), output_hidden_states=True).hidden_states[0].dtype == dtype
    with torch.autocast("cpu", torch.bfloat16):
        assert small(torch.float32)(ids()).logits.isfinite().all()


def test_packed_documents_start_again_and_a_cache_goes_on(tmp_path: object) -> None:
    model = small()
    segments = torch.tensor([[0] * 8 + [1] * 12])
    packed = model(ids(1), segments=segments).logits
    alone = torch.cat([model(one).logits for one in (ids(1)[:, :8], ids(1)[:, 8:])], dim=1)
    torch.testing.assert_close(packed, alone, rtol=0, atol=1e-12)
    cache, whole = Cache(model.architecture), model(ids()).logits
    parts = [model(part, cache=cache).logits for part in ids().split([7, 1, 12], dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-12)
    again = gs.load(gs.save(model, f"{tmp_path}/model"), dtype=torch.float64)
    assert again.architecture == model.architecture
    torch.testing.assert_close(again(ids()).logits, whole, rtol=0, atol=1e-12)


def test_what_it_costs_and_what_lengthen_says() -> None:
    described = small().architecture
    found = summary(small())
    assert found.parameters == sum(one.numel() for one in small().parameters())
    assert "sinusoidal" in str(found)
    layers = tuple(
        dataclasses.replace(one, attention=dataclasses.replace(one.attention, pattern=Full()))
        for one in described.layers
    )
    encoder = Model(dataclasses.replace(described, layers=layers, head=None))
    said = "positions are of the scheme 'sinusoidal', and lengthen copies learned ones alone: .* raise its length"
    with pytest.raises(gs.InputError, match=said):
        gs.lengthen(encoder, to=128, window=4)
