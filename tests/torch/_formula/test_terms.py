"""The formula of a row gives the oracle's value and gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from softmax_lab import LossSpec, exact
from softmax_lab.torch._formula import terms
from softmax_lab.torch._formula.fields import SpecTensors
from softmax_lab.torch._formula.rows import shifted, take

Z = torch.tensor([[2.0, 1.0, -0.5], [40.0, 0.0, 1.0]], dtype=torch.float64)
Y = torch.tensor([1, 0])
NUMBERS: dict[str, dict[str, float]] = {
    "plain": {},
    "focal": {"gamma": 2.0},
    "smoothed": {"smoothing": 0.1},
    "everything": {"gamma": 1.5, "smoothing": 0.2, "z_loss": 0.1, "class_weight": 3.0},
}


def sums(spec: SpecTensors) -> terms.Sums:
    rows = shifted(Z)
    log_q = rows.log_q()
    prior_log_q = terms.expected_log_q(spec, log_q, 3) if spec.smoothing else None
    return terms.Sums(take(log_q, Y), rows.others(Y), rows.lse, prior_log_q, 3)


@pytest.mark.parametrize("name", NUMBERS)
def test_value_and_gradient_are_the_oracles(name: str) -> None:
    spec, q = SpecTensors(**NUMBERS[name]), shifted(Z).q
    found = terms.row_terms(spec, Y, sums(spec), spec.class_weight)
    gradient = found.alpha[:, None] * q - found.beta[:, None] * terms.prior(spec, 3)
    gradient = gradient.scatter(1, Y[:, None], found.at_target[:, None])
    for i in range(len(Z)):
        row = Z[i].tolist(), int(Y[i]), LossSpec(**NUMBERS[name])
        np.testing.assert_allclose(found.value[i], float(exact.cross_entropy(*row)), rtol=1e-13)
        np.testing.assert_allclose(
            gradient[i], [float(x) for x in exact.cross_entropy_grad(*row)], rtol=1e-12
        )


@pytest.mark.parametrize("z_loss", [0.0, 0.1])
def test_a_distribution_has_the_oracles_value_and_gradient(z_loss: float) -> None:
    spec, target = (
        SpecTensors(z_loss=z_loss, smoothing=0.2),
        torch.tensor([[0.5, 0.5, 0.0], [0.1, 0.2, 0.9]]).double(),
    )
    s, rows, weight = terms.smoothed(spec, target, 3), shifted(Z), torch.ones(2, dtype=torch.float64)
    known = terms.SoftSums(-(s * rows.log_q()).sum(1), s.sum(1), rows.lse)
    found = terms.soft_terms(spec, known, weight)
    gradient = found.alpha[:, None] * rows.q - found.beta[:, None] * s
    for i in range(len(Z)):
        row = Z[i].tolist(), target[i].tolist(), LossSpec(z_loss=z_loss, smoothing=0.2)
        np.testing.assert_allclose(found.value[i], float(exact.cross_entropy(*row)), rtol=1e-13)
        expected = [float(x) for x in exact.cross_entropy_grad(*row)]
        np.testing.assert_allclose(gradient[i], expected, rtol=1e-12, atol=1e-15)
