"""JAX's adapters: few shapes to compile, and 64-bit types for the length of a call."""

from __future__ import annotations

import numpy as np
import pytest

from softmax_lab.audit.adapters.jax import _batch, _filled

from .made import made


@pytest.mark.parametrize(
    ("rows", "classes", "filled"),
    [(1, 3, 1), (2, 3, 256), (255, 3, 256), (256, 3, 256), (300, 3, 300), (3, 1000, 256), (3, 1001, 3)],
)
def test_a_short_batch_is_filled_up_with_its_last_row(rows: int, classes: int, filled: int) -> None:
    array = np.arange(float(classes) * rows).reshape(rows, classes)
    longer = _filled(array, _batch(array))
    assert longer.shape == (filled, classes)
    np.testing.assert_array_equal(longer[:rows], array)
    assert (longer[rows:] == array[-1]).all()


def test_64_bit_types_end_with_the_call() -> None:
    adapter = made("jax")
    assert adapter.softmax(np.zeros((2, 3))).dtype == np.float64
    assert adapter._jax.numpy.asarray(np.zeros(3)).dtype == np.float32
