"""Per-class statistics of the logit gradient: how much each class pushes, by three measures that disagree.

For rows i with gradient g_i in R^K (of each row's own loss) and label y_i, class c has the norm of its *sum*
sum_{i: y_i = c} g_i (what one step of full-batch descent feels), of its *mean* (that sum over n_c), and the mean
*per-sample* norm |g_i|.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks

__all__ = ["ClassGradients", "class_gradients"]


class ClassGradients(NamedTuple):
    """Gradient statistics per class, each of shape (K,), in the units of the gradient; NaN for a class without rows.

    Masses are per column k: ``positive_mass[k]`` is the sum of -g_ik over the rows of class k (the pull up on logit
    k), ``negative_mass[k]`` the sum of g_ik over all other rows (the push down).
    """

    counts: NDArray[np.int64]
    sum_norm: NDArray[np.float64]
    mean_norm: NDArray[np.float64]
    sample_norm: NDArray[np.float64]
    positive_mass: NDArray[np.float64]
    negative_mass: NDArray[np.float64]


def class_gradients(logit_gradient: ArrayLike, target: ArrayLike, features: ArrayLike | None = None) -> ClassGradients:
    r"""Return per-class statistics of per-row gradients.

    Parameters
    ----------
    logit_gradient : array_like, shape ``(N, K)``
        Each row's own gradient, from ``cross_entropy_grad(..., reduction="none")``.
    target : array_like of int, shape ``(N,)``
        Class indices.
    features : array_like, shape ``(N, D)``, optional
        The inputs of the last linear layer. With them the norms are those of the *weight* gradient
        :math:`g_i h_i^\top`, a (K, D) matrix a row, without forming any of them per sample; the masses stay those of the logits.

    Returns
    -------
    ClassGradients
        Arrays of shape ``(K,)``.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> _, gradient = sl.cross_entropy_grad([[0.0, 0.0], [0.0, 0.0]], [0, 1], reduction="none")
    >>> sl.balance.class_gradients(gradient, [0, 1]).positive_mass
    array([0.5, 0.5])
    """
    g = _checks.floating("logit_gradient", logit_gradient).astype(np.float64)
    if g.ndim != 2:
        raise ValueError(f"logit_gradient must have shape (N, K); got {g.shape}")
    y = _class_indices(target, *g.shape)
    h = _features(features, len(g))
    num_classes = g.shape[1]
    count = np.bincount(y, minlength=num_classes)
    size = np.linalg.norm(g, axis=1) * (1.0 if h is None else np.linalg.norm(h, axis=1))  # |g h^T| = |g| |h|
    sums = np.array([_class_sum(g, h, y == c) for c in range(num_classes)])
    is_target = y[:, None] == np.arange(num_classes)
    with np.errstate(invalid="ignore", divide="ignore"):
        return ClassGradients(
            counts=count,
            sum_norm=np.where(count > 0, sums, np.nan),
            mean_norm=sums / count,
            sample_norm=np.bincount(y, weights=size, minlength=num_classes) / count,
            positive_mass=np.where(is_target, -g, 0.0).sum(axis=0),
            negative_mass=np.where(is_target, 0.0, g).sum(axis=0),  # not all less own: the two nearly cancel as training ends
        )


def _class_indices(target: ArrayLike, rows: int, num_classes: int) -> NDArray[np.int64]:
    y = np.asarray(target)
    if y.dtype.kind not in "iu":
        raise TypeError(f"target must hold integer class indices; got dtype {y.dtype.name}")
    y = _checks.labels(y, num_classes, -1, (rows,))
    if (y < 0).any():
        raise IndexError(f"label {int(y.min())} at row {int(np.argmin(y))} is outside [0, {num_classes})")
    return y


def _features(features: ArrayLike | None, rows: int) -> NDArray[np.float64] | None:
    if features is None:
        return None
    h = _checks.floating("features", features).astype(np.float64)
    if h.ndim != 2 or len(h) != rows:
        raise ValueError(f"features must have shape ({rows}, D); got {h.shape}")
    return h


def _class_sum(g: NDArray[Any], h: NDArray[Any] | None, member: NDArray[np.bool_]) -> float:
    total = g[member].sum(axis=0) if h is None else g[member].T @ h[member]
    return float(np.linalg.norm(total))
