"""What a data-parallel step sends, counted between two gloo processes, against the formula."""

import sys
from pathlib import Path

import pytest
from test_processes import start

from gossamer.recipes.receipts.measure import exchanged_bytes


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the bytes of a connection")
def test_two_processes_send_what_the_formula_says(tmp_path: Path) -> None:
    done = start(tmp_path, [str(Path(__file__).parent / "exchanged.py")])
    assert [each.returncode for each in done] == [0, 0], done[0].stderr[-3000:] + done[1].stderr[-3000:]
    for sent, gradients in (map(float, each.stdout.split()) for each in done):
        assert sent == pytest.approx(exchanged_bytes(int(gradients), 2), rel=0.01)
