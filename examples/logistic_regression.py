"""Logistic regression by scipy.optimize, with the exact Hessian's product, beside scikit-learn's own answer.

Scikit-learn minimises C sum_i L_i + |W|^2 / 2. Here the same is given to two solvers of SciPy: L-BFGS takes
value and gradient, Newton-CG the product of the Hessian with a vector too.

    python examples/logistic_regression.py
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

import softmax_lab as sl

C = 0.1
Array = NDArray[np.float64]

X, y = sl.data.digits()
K, D = 10, X.shape[1]


def value_and_gradient(w: Array) -> tuple[float, Array]:
    W = w.reshape(K, D)
    value, gradient = sl.cross_entropy_grad(X @ W.T, y, reduction="sum")
    return float(C * value + 0.5 * w @ w), (C * gradient.T @ X + W).ravel()


def hessian_product(w: Array, v: Array) -> Array:
    W, V = w.reshape(K, D), v.reshape(K, D)
    product = sl.cross_entropy_hvp(X @ W.T, y, X @ V.T, reduction="sum")
    return (C * product.T @ X + V).ravel()


def main() -> dict[str, Array]:
    """Return the weights (K, D) that each solver finds."""
    start = np.zeros(K * D)
    found = {
        "L-BFGS": minimize(
            value_and_gradient,
            start,
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 2000, "ftol": 1e-15, "gtol": 1e-7},
        ),
        "Newton-CG": minimize(
            value_and_gradient,
            start,
            jac=True,
            hessp=hessian_product,
            method="Newton-CG",
            options={"xtol": 1e-10},
        ),
    }
    for name, result in found.items():
        print(f"{name:12} value {result.fun:.9f} after {result.nit} steps")
    theirs = LogisticRegression(C=C, fit_intercept=False, tol=1e-10, max_iter=5000).fit(X, y).coef_
    print(f"scikit-learn value {value_and_gradient(theirs.ravel())[0]:.9f}")
    return {name: result.x.reshape(K, D) for name, result in found.items()} | {"scikit-learn": theirs}


if __name__ == "__main__":
    main()
