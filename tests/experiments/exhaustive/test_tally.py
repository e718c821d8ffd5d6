"""The nearest float is told from its neighbours."""

from __future__ import annotations

import pytest

pytest.importorskip("numba", reason="the checks are of the compiled loops")

import mpmath
import numpy as np

from experiments.exhaustive import tally


def test_nearest() -> None:
    assert tally.is_nearest(np.float16(1), mpmath.mpf(1) + mpmath.mpf(2) ** -12)
    assert not tally.is_nearest(np.float16(1), mpmath.mpf(1) + mpmath.mpf(2) ** -10)
    assert tally.is_nearest(np.float32(0), mpmath.mpf(2) ** -151)
