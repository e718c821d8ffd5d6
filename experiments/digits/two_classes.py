r"""Two-class softmax and logistic regression with an L2 penalty, on two classes of real digits (chapter 8).

With d = (w_1 - w_2)^T x and v = w_1 - w_2 the two models have the same loss. Their penalties differ: the
softmax pays lambda/2 (\|w_1\|^2 + \|w_2\|^2), logistic regression lambda/2 \|v\|^2. Neither has a bias. The
labels are 0 for the first class, the one whose logit is z_1, and 1 for the second.

The logistic objective is written with SciPy's functions, not the package's, so that a comparison of the two
means something.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy.optimize import minimize

import softmax_lab as sl
from softmax_lab import data

__all__ = ["fit_logistic", "fit_softmax", "logistic_objective", "softmax_objective", "two_digits"]

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
TIGHT = {"ftol": 1e-15, "gtol": 1e-10, "maxiter": 5000}


def two_digits(first: int, second: int) -> tuple[Array, Labels]:
    """Return the images ``(N, 64)`` of two digits and their labels ``(N,)``.

    The label is 0 for ``first`` and 1 for ``second``.
    """
    images, digit = data.digits()
    chosen = np.isin(digit, (first, second))
    return images[chosen], (digit[chosen] == second).astype(np.int64)


def softmax_objective(weights: Array, features: Array, labels: Labels, penalty: float) -> tuple[float, Array]:
    """Return the penalised mean loss of the softmax and its gradient by ``weights``, ``(2, D)``.

    The rows of ``weights`` are w_1 and w_2.
    """
    value, gradient = sl.cross_entropy_grad(features @ weights.T, labels)
    return float(value + penalty / 2 * np.sum(weights**2)), gradient.T @ features + penalty * weights


def logistic_objective(v: Array, features: Array, labels: Labels, penalty: float) -> tuple[float, Array]:
    """Return the penalised mean loss of logistic regression and its gradient by ``v``, ``(D,)``.

    The gap z_1 - z_2 is v^T x.
    """
    sign = 1.0 - 2.0 * labels
    margin = sign * (features @ v)  # the gap in favour of the label
    gradient = features.T @ (-sign * special.expit(-margin)) / len(labels)
    return float(-special.log_expit(margin).mean() + penalty / 2 * np.sum(v**2)), gradient + penalty * v


def fit_softmax(features: Array, labels: Labels, penalty: float, start: Array) -> Array:
    """Return the weights ``(2, D)`` at the minimum of `softmax_objective`.

    The search begins at ``start``, of the same shape.
    """
    return _minimum(lambda weights: softmax_objective(weights, features, labels, penalty), start)


def fit_logistic(features: Array, labels: Labels, penalty: float) -> Array:
    """Return the weights ``(D,)`` at the minimum of `logistic_objective`, sought from zero."""
    return _minimum(lambda v: logistic_objective(v, features, labels, penalty), np.zeros(features.shape[1]))


def _minimum(objective: Callable[[Array], tuple[float, Array]], start: Array) -> Array:
    """Minimise by L-BFGS, which knows only flat vectors."""

    def flat(x: Array) -> tuple[float, Array]:
        value, gradient = objective(x.reshape(start.shape))
        return value, gradient.ravel()

    result: Any = minimize(flat, start.ravel(), jac=True, method="L-BFGS-B", options=TIGHT)
    return np.asarray(result.x).reshape(start.shape)
