"""The variants compute the same on easy rows, in the type of the logits."""

from __future__ import annotations

import numpy as np
import pytest

from experiments import stability
from softmax_lab.audit.values import exact_values

TEXTBOOK = [name for name in stability.SOFTMAX if name != "softmax_lab"]


@pytest.mark.parametrize("dtype", stability.DTYPES)
def test_formulas_agree_on_easy_rows_and_keep_the_type(dtype: str) -> None:
    z = stability.rows(dtype, gap=2.0)
    for variants, function in ((stability.SOFTMAX, "softmax"), (stability.LOG_SOFTMAX, "log_softmax")):
        for name, variant in variants.items():
            result = variant(z)
            assert (result.dtype, result.shape) == (z.dtype, z.shape), name
            assert stability.ulps(function, result, z).max() < 25, name
    assert stability.ulps("softmax", stability.tempered(z, 1.0), z).max() < 25


@pytest.mark.parametrize("dtype", stability.DTYPES)
def test_gradients_agree_on_easy_rows(dtype: str) -> None:
    z = stability.rows(dtype, gap=2.0, shape=(8, 4))
    y = np.arange(8) % 4
    exact = exact_values("cross_entropy_grad", z, y).high
    for name, gradient in stability.GRADIENT.items():
        result = gradient(z, y)
        assert result.dtype == z.dtype, name
        assert np.abs(result.astype(float) - exact).max() < 8 * stability.unit_roundoff(dtype), name
