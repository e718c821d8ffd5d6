"""Which loss helps the rare classes? Digits of which the last class has a fiftieth of the first's rows.

NumPy alone: a linear classifier by gradient descent, once with each loss. A loss is a spec, and the counts of
the training rows are all that it asks for.

    python examples/long_tailed_digits.py
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

import softmax_lab as sl

K, RARE = 10, 3  # classes, and how many of them are called rare


def train(x: NDArray[np.float64], y: NDArray[np.int64], spec: sl.LossSpec, steps: int) -> NDArray[np.float64]:
    """Return the weights (K, D) after some steps of gradient descent with momentum."""
    W, velocity = np.zeros((K, x.shape[1])), np.zeros((K, x.shape[1]))
    for _ in range(steps):
        _, gradient = sl.cross_entropy_grad(x @ W.T, y, spec)
        velocity = 0.9 * velocity - 0.3 * (gradient.T @ x + 1e-4 * W)
        W = W + velocity
    return W


def main(steps: int = 400) -> dict[str, tuple[float, float]]:
    """Return, by loss, the accuracy on all classes and on the rare ones, on balanced rows."""
    images, labels = sl.data.digits()
    x = np.hstack([images, np.ones((len(images), 1))])
    split = sl.data.long_tail(labels, rho=50.0, test_per_class=40)
    losses = {
        "plain": sl.LossSpec(),
        "class_balanced": sl.losses.class_balanced(split.counts),
        "logit_adjusted": sl.losses.logit_adjusted(split.counts),
        "gradient_balanced": sl.losses.gradient_balanced(split.counts),
    }
    truth, found = labels[split.test], {}
    print(f"training rows: {split.counts.tolist()}")
    for name, spec in losses.items():
        W = train(x[split.train], labels[split.train], spec, steps)
        right = (x[split.test] @ W.T).argmax(1) == truth
        found[name] = float(right.mean()), float(right[truth >= K - RARE].mean())
        print(f"{name:18} accuracy {found[name][0]:.3f}, of the {RARE} rarest classes {found[name][1]:.3f}")
    return found


if __name__ == "__main__":
    main()
