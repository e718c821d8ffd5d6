"""Adapters as the tests use them: made once, and held to this package on easy rows."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from softmax_lab.audit.adapters import MissingFramework, make

from ...ulps import dtype_of

#: a few rounding errors of the type itself: adapters are tested for what they call, the audit for how exact
#: that is
TOLERANCE = {"float16": 4e-3, "bfloat16": 4e-2, "float32": 2e-6, "float64": 1e-14}
ROWS = np.random.default_rng(0).normal(0.0, 1.5, (5, 4))
LABELS = np.array([0, 3, 1, 1, 2])


@cache
def _attempt(name: str) -> Any:
    """Make an adapter once a process, as torch.compile takes seconds; or return why it cannot be made."""
    try:
        return make(name)
    except MissingFramework as missing:
        return missing


def made(name: str) -> Any:
    """Return the adapter, or skip where its framework is not installed."""
    if isinstance(found := _attempt(name), MissingFramework):
        pytest.skip(str(found))
    return found


def rows(dtype: str) -> NDArray[Any]:
    """Return the easy rows in a type."""
    return ROWS.astype(dtype_of(dtype))


def close(computed: NDArray[Any], expected: NDArray[Any], dtype: str) -> None:
    """Assert equal shapes, and values within a few roundings of the type."""
    assert computed.shape == expected.shape
    np.testing.assert_allclose(
        computed.astype(np.float64),
        expected.astype(np.float64),
        rtol=TOLERANCE[dtype],
        atol=TOLERANCE[dtype] / 4,
    )
