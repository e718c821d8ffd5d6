"""How a row is cut."""

from __future__ import annotations

import pytest

from softmax_lab.torch.triton import plan as plans
from softmax_lab.torch.triton.plan import plan

WIDTHS = (1, 2, 3, 31, 32, 33, 255, 1000, 2048, 2049, 16384, 16385, 131072, 1 << 20)


@pytest.mark.parametrize("k", WIDTHS)
def test_a_tile_fits_the_threads_that_share_it(k: int) -> None:
    how = plan(k)
    assert how.block & (how.block - 1) == 0
    assert how.rows & (how.rows - 1) == 0
    assert 1 <= how.warps <= 32
    assert how.rows * how.block <= 16 * 32 * how.warps


@pytest.mark.parametrize("k", WIDTHS)
def test_a_row_is_whole_where_a_program_can_hold_it(k: int) -> None:
    how = plan(k)
    assert how.whole == (k <= plans.WHOLE)
    assert how.block >= k if how.whole else how.block == plans.PART


def test_every_row_has_a_program() -> None:
    how = plan(5)
    assert how.rows > 1
    for n in (1, how.rows, how.rows + 1):
        (programs,) = how.grid(n)
        assert (programs - 1) * how.rows < n <= programs * how.rows
