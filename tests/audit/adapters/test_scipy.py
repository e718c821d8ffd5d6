"""SciPy: what it lacks is left out, and not made up."""

from __future__ import annotations

import numpy as np
import pytest

from .made import LABELS, ROWS, made


def test_the_loss_is_minus_scipys_own_log_softmax() -> None:
    special = pytest.importorskip("scipy.special", reason="needs scipy")
    log_p = special.log_softmax(ROWS, axis=1)
    np.testing.assert_array_equal(made("scipy").cross_entropy(ROWS, LABELS), -log_p[np.arange(5), LABELS])
    assert not hasattr(made("scipy"), "cross_entropy_grad")
