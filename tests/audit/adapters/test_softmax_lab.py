"""This package under the audit's names: the same functions, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import softmax_lab as sl
from softmax_lab.audit.adapters import TorchKernels

from .made import LABELS, ROWS, close, made, rows


def test_this_package_masks_its_loss() -> None:
    where = np.ones_like(ROWS, dtype=bool)
    where[:, -1] = LABELS == 3
    value, gradient = sl.cross_entropy_grad(ROWS, LABELS, reduction="none", where=where)
    np.testing.assert_array_equal(made("softmax_lab").cross_entropy(ROWS, LABELS, where=where), value)
    np.testing.assert_array_equal(made("softmax_lab").cross_entropy_grad(ROWS, LABELS, where=where), gradient)


@pytest.mark.parametrize("dtype", TorchKernels.dtypes)
def test_the_torch_backend_answers_on_the_processor(dtype: str) -> None:
    pytest.importorskip("torch", reason="needs torch")
    kernels: Any = TorchKernels("cpu")
    z, weight = rows(dtype), np.array([1.0, 2.0, 0.5, 4.0])
    close(kernels.softmax(z), sl.softmax(z.astype(float)), dtype)
    spec = sl.LossSpec(smoothing=0.25, class_weight=weight)
    value, gradient = sl.cross_entropy_grad(z.astype(float), LABELS, spec, reduction="none")
    options = {"label_smoothing": 0.25, "class_weight": weight}
    close(kernels.cross_entropy(z, LABELS, **options), value, dtype)
    close(kernels.cross_entropy_grad(z, LABELS, **options), gradient, dtype)
