"""NumPy as a textbook writes it: with a textbook's faults."""

from __future__ import annotations

import numpy as np

from softmax_lab.audit.adapters import make


def test_the_textbook_is_not_improved() -> None:
    textbook, confident = make("numpy"), np.array([[40.0, 0.0]])
    assert textbook.cross_entropy_grad(confident, np.array([0]))[0, 0] == 0.0
    assert np.isinf(textbook.cross_entropy(np.array([[1e4, 0.0]]), np.array([1]))).all()
