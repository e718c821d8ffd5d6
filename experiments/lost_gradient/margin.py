r"""Where do the weights of a linear model point? Normalised descent on separable data, against the SVM.

Scikit-learn's wine (178 rows, 13 features, 3 classes) is standardised and gets a column of ones for the bias,
which counts in the norm. It is separable, so the loss has no minimum and only the direction of the weights
converges: for exact gradients to that of the hard-margin multiclass SVM,

.. math:: \min \tfrac12 \|W\|_F^2 \quad \text{with} \quad w_{y_i} x_i - w_k x_i \ge 1, \quad k \ne y_i

(D. Soudry et al. 2018, "The Implicit Bias of Gradient Descent on Separable Data"). The SVM is solved to the
last digits as a least-distance problem by non-negative least squares (Lawson and Hanson, "Solving Least
Squares Problems", chapter 23). Each seed draws four fifths of the rows and a start; all seeds of a loss take
their steps at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments.modular_addition.losses import LOSSES

from .networks import gaps
from .store import Table

__all__ = ["COMPARED", "TABLE", "Problem", "descend", "hard_margin", "jobs", "make_problem", "work"]

TABLE = Table(
    "margin",
    ("classes", "descent", "rate", "steps", "loss"),
    ("seed", "step"),
    ("cosine", "cosine_with_mean", "margin", "zero_share", "gap", "length"),
)
COMPARED = ("torch", "torch_float64", "exact", "log_mean", "mended")
SEEDS = (0, 1, 2, 3, 4)
_SHARE = 0.8  # of the rows, a seed
_START = 0.01  # standard deviation of a weight
_TINY = float(np.finfo(np.float64).tiny)

Array = NDArray[np.float64]


class Problem(NamedTuple):
    """Rows (seeds, N, D) and labels (seeds, N), starts and the SVM's weights (seeds, K, D)."""

    features: Tensor
    labels: Tensor
    start: Tensor
    svm: Tensor


def make_problem(classes: int, seeds: Iterable[int] = SEEDS) -> Problem:
    """Return the first classes of the wine, as each seed draws them.

    Raises
    ------
    ValueError
        Where there are not 2 or 3 classes.
    """
    from sklearn.datasets import load_wine

    if classes not in (2, 3):
        raise ValueError(f"wine has 2 or 3 classes to tell apart; got {classes}")
    rows, labels = load_wine(return_X_y=True)
    rows, labels = rows[labels < classes], labels[labels < classes]
    rows = (rows - rows.mean(0)) / rows.std(0)
    rows = np.column_stack([rows, np.ones(len(rows))])
    drawn, starts = [], []
    for seed in seeds:
        random = np.random.default_rng([seed, 7])
        drawn.append(random.permutation(len(rows))[: round(_SHARE * len(rows))])
        starts.append(_START * random.normal(size=(classes, rows.shape[1])))
    svm = [hard_margin(rows[each], labels[each]) for each in drawn]
    place = np.stack(drawn)
    return Problem(
        torch.tensor(rows[place], dtype=torch.float32),
        torch.tensor(labels[place]),
        torch.tensor(np.stack(starts), dtype=torch.float32),
        torch.tensor(np.stack(svm)),
    )


def differences(features: Array, labels: NDArray[np.int64]) -> Array:
    """Return the constraints' rows (N (K - 1), K D): of weights W, flat, each gives z_y - z_k of a row."""
    classes = int(labels.max()) + 1
    found = []
    for row, label in zip(features, labels, strict=True):
        for other in set(range(classes)) - {int(label)}:
            signs = np.zeros((classes, 1))
            signs[label], signs[other] = 1.0, -1.0
            found.append((signs * row).ravel())
    return np.array(found)


def hard_margin(features: Array, labels: NDArray[np.int64]) -> Array:
    """Return the shortest weights (K, D) that give each row z_y - z_k >= 1 for every other class.

    Parameters
    ----------
    features : ndarray, shape ``(N, D)``
    labels : ndarray of int, shape ``(N,)``

    Raises
    ------
    ValueError
        Where the rows are not separable.
    """
    from scipy.optimize import nnls

    rows = differences(features, labels)
    system = np.vstack([rows.T, np.ones(len(rows))])
    aim = np.zeros(len(system))
    aim[-1] = 1.0
    share, distance = nnls(system, aim)
    if distance < 1e-9:
        raise ValueError("the rows must be separable; no weights give every row its label")
    rest = system @ share - aim
    found: Array = (-rest[:-1] / rest[-1]).reshape(int(labels.max()) + 1, features.shape[1])
    return found


def stops(steps: int) -> list[int]:
    """Return the steps after which the weights are looked at: about twelve a decade, the last among them."""
    places = np.unique(np.geomspace(1, steps, 1 + int(12 * np.log10(max(steps, 2)))).round().astype(int))
    return [int(place) for place in places]


def descend(
    loss: str, problem: Problem, *, normalised: bool, rate: float, steps: int
) -> Iterator[dict[str, Any]]:
    """Take full-batch steps with a loss; yield a row a seed at each of `stops`.

    A normalised step is the gradient over its own length, computed in float64 so that squares of small
    numbers do not vanish. Where the whole gradient is 0, the weights stay.
    """
    weights, look = problem.start.clone(), set(stops(steps))
    for step in range(1, steps + 1):
        gradient = _gradient(loss, weights, problem)[0].double()
        if normalised:
            gradient /= gradient.norm(dim=(1, 2), keepdim=True).clamp_min(_TINY)
        weights = weights - (rate * gradient).float()
        if step in look:
            yield from _rows(loss, weights, problem, step)


def _gradient(loss: str, weights: Tensor, problem: Problem) -> tuple[Tensor, Tensor]:
    """Return the gradients by the weights and by the logits."""
    own = weights.detach().requires_grad_()
    logits = torch.bmm(problem.features, own.mT)
    value = LOSSES[loss].loss(logits, problem.labels).sum()
    by_weights, by_logits = torch.autograd.grad(value, (own, logits))
    return by_weights, by_logits


def _rows(loss: str, weights: Tensor, problem: Problem, step: int) -> list[dict[str, Any]]:
    place = problem.labels[..., None]
    at_target = _gradient(loss, weights, problem)[1].gather(-1, place)[..., 0]
    w, svm = weights.double(), problem.svm
    z = torch.bmm(problem.features.double(), w.mT)
    gap = gaps(z, problem.labels)
    # the mean over the classes is what a prediction does not see
    seen = w - w.mean(1, keepdim=True)
    found = {
        "cosine": _cosine(seen, svm),
        "cosine_with_mean": _cosine(w, svm),
        "margin": gap.amin(1) / _length(seen) * _length(svm),  # the SVM's own margin is 1 over its length
        "zero_share": (at_target == 0).double().mean(1),
        "gap": gap.median(1).values,
        "length": _length(w),
    }
    return [
        {"seed": seed, "step": step, **{name: float(values[i]) for name, values in found.items()}}
        for i, seed in enumerate(SEEDS[: len(w)])
    ]


def _length(w: Tensor) -> Tensor:
    found: Tensor = w.norm(dim=(1, 2))
    return found


def _cosine(w: Tensor, v: Tensor) -> Tensor:
    return (w * v).sum((1, 2)) / (_length(w) * _length(v))


def jobs(steps: int = 1_500) -> list[dict[str, Any]]:
    """Return the jobs: three classes and two by normalised steps, and three by plain ones."""
    settings = ((3, "normalised", 0.1), (2, "normalised", 0.1), (3, "plain", 0.5))
    return [
        {"classes": classes, "descent": descent, "rate": rate, "steps": steps, "loss": loss}
        for classes, descent, rate in settings
        for loss in COMPARED
    ]


def work(job: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Run a job."""
    return descend(
        job["loss"],
        make_problem(job["classes"]),
        normalised=job["descent"] == "normalised",
        rate=job["rate"],
        steps=job["steps"],
    )
