"""JAX's adapters: few shapes to compile, and 64-bit types for the length of a call."""

from __future__ import annotations

import numpy as np
import pytest

from softmax_lab.audit.adapters.jax import _filled

from .made import made


@pytest.mark.parametrize(("rows", "filled"), [(1, 1), (2, 32), (31, 32), (32, 32), (40, 40)])
def test_a_short_batch_is_filled_up_with_its_last_row(rows: int, filled: int) -> None:
    array = np.arange(3.0 * rows).reshape(rows, 3)
    longer = _filled(array)
    assert longer.shape == (filled, 3)
    np.testing.assert_array_equal(longer[:rows], array)
    assert (longer[rows:] == array[-1]).all()


def test_64_bit_types_end_with_the_call() -> None:
    adapter = made("jax")
    assert adapter.softmax(np.zeros((2, 3))).dtype == np.float64
    assert adapter._jax.numpy.asarray(np.zeros(3)).dtype == np.float32
