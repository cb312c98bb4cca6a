"""How many tokens are read at once: what is said, or what the device and the threads of a CPU make of it."""

import pytest
import torch
from model_inputs import architecture, model

from gossamer.models.batches import tokens_at_once


@pytest.mark.parametrize(("threads", "tokens"), [(1, 1024), (2, 1024), (5, 2560)])
def test_a_cpu_reads_so_many_a_thread(threads: int, tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert tokens_at_once(model(architecture()), None) == tokens
    assert tokens_at_once(model(architecture()), 7) == 7


def test_other_devices_read_more() -> None:
    assert tokens_at_once(model(architecture()).to("meta"), None) == 16384
