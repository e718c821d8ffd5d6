"""Whole losses in plain torch, as other devices and transforms run them: the NumPy package's numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import softmax_lab as sl
from softmax_lab import LossSpec
from softmax_lab.torch._base.options import Options
from softmax_lab.torch._base.tensors import as_array
from softmax_lab.torch._formula import losses
from softmax_lab.torch._formula.fields import fields_of
from tests.specs import INDEX_SPECS, SOFT_SPECS, K
from tests.torch.test_cross_entropy import REDUCTIONS, N, problem


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("soft", [False, True], ids=["index", "soft"])
def test_the_closed_form_in_plain_torch_agrees(soft: bool, reduction: str) -> None:
    weights = torch.linspace(0.5, 2.0, N, dtype=torch.float64)
    tangent = torch.randn(N, K, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    options = Options(reduction)
    for name, spec in (SOFT_SPECS if soft else INDEX_SPECS).items():
        logits, target = problem(soft=soft)
        fields = fields_of(spec, logits)
        named: dict[str, Any] = {"reduction": reduction, "sample_weight": weights.numpy()}
        value, gradient = losses.loss_and_gradient(logits.detach(), target, fields, weights, options)
        product = losses.hvp(logits.detach(), target, tangent, fields, weights, options)
        differentiable = losses.loss(logits, target, fields, weights, options)
        expected, expected_gradient = sl.cross_entropy_grad(as_array(logits), as_array(target), spec, **named)
        np.testing.assert_allclose(value, expected, rtol=1e-13, err_msg=name)
        np.testing.assert_allclose(differentiable.detach(), expected, rtol=1e-13, err_msg=name)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-12, atol=1e-14, err_msg=name)
        (by_autograd,) = torch.autograd.grad(differentiable.sum(), logits)
        np.testing.assert_allclose(by_autograd, expected_gradient, rtol=1e-12, atol=1e-14, err_msg=name)
        expected_product = sl.cross_entropy_hvp(
            as_array(logits), as_array(target), tangent.numpy(), spec, **named
        )
        np.testing.assert_allclose(product, expected_product, rtol=1e-12, atol=1e-13, err_msg=name)


def test_confident_rows_are_kept() -> None:
    logits = torch.tensor([[40.0, 0.0]], dtype=torch.float64)
    fields = fields_of(LossSpec(), logits)
    value, gradient = losses.loss_and_gradient(logits, torch.tensor([0]), fields, None, Options())
    expected, expected_gradient = sl.cross_entropy_grad(logits.numpy(), [0])
    np.testing.assert_allclose(value, expected, rtol=1e-15)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-15)


def test_infinities_and_ignored_nan() -> None:
    logits = torch.tensor(
        [
            [0.0, -torch.inf, 1.0],
            [torch.nan] * 3,
            [torch.inf, 0.0, 0.0],
            [-torch.inf] * 3,
            [torch.nan, 0.0, 0.0],
        ]
    )
    target = torch.tensor([0, -100, 1, 2, 1])
    for spec in (LossSpec(), LossSpec(softcap=5.0, gamma=0.5)):
        fields = fields_of(spec, logits)
        value, gradient = losses.loss_and_gradient(logits, target, fields, None, Options("none"))
        expected, expected_gradient = sl.cross_entropy_grad(
            logits.numpy(), target.numpy(), spec, reduction="none"
        )
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-6)
