r"""Per-class statistics of the logit gradient, and the rules that balance it.

**Statistics.** Row i has label y_i and the gradient g_i in R^K of its own loss. Class c then has three
measures, which disagree about who pushes hardest:

- the norm of the *sum* of its g_i, which one step of full-batch descent feels;
- the norm of their *mean*, that sum over n_c;
- the mean *per-sample* norm \|g_i\|.

**Rules.** :func:`softmax_lab.losses.gradient_balanced` puts three together, each derived at its function:

- the prior in the logits, b = tau log pi: at tau = 1 it is the one bias that starts every class in balance
  (:func:`initial_mass_ratio`);
- the gate, row weights W_y^(q_y^g): the tail's boost acts only on rows that are already fit
  (:func:`gated_weight`);
- neutral smoothing: it goes towards a distribution that leaves the decision where it is
  (:func:`neutral_smoothing`).

Held-out rows say how far tau should go: :func:`prior_response`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks
from .calculus import sum_of_others
from .softmax import logsumexp, softmax

__all__ = [
    "ClassGradients",
    "CombinedLog",
    "PriorResponse",
    "class_gradients",
    "combine_log",
    "gated_weight",
    "initial_mass_ratio",
    "neutral_smoothing",
    "prior_response",
]


class ClassGradients(NamedTuple):
    """Gradient statistics per class, each of shape (K,), in the units of the gradient.

    The norms of a class without rows are NaN.

    Masses are per column k. ``positive_mass[k]`` is the sum of -g_ik over the rows of class k, the pull up on
    logit k. ``negative_mass[k]`` is the sum of g_ik over all other rows, the push down.
    """

    counts: NDArray[np.int64]
    sum_norm: NDArray[np.float64]
    mean_norm: NDArray[np.float64]
    sample_norm: NDArray[np.float64]
    positive_mass: NDArray[np.float64]
    negative_mass: NDArray[np.float64]


def class_gradients(
    logit_gradient: ArrayLike, target: ArrayLike, features: ArrayLike | None = None
) -> ClassGradients:
    r"""Return per-class statistics of per-row gradients.

    Parameters
    ----------
    logit_gradient : array_like, shape ``(N, K)``
        Each row's own gradient, from ``cross_entropy_grad(..., reduction="none")``.
    target : array_like of int, shape ``(N,)``
        Class indices.
    features : array_like, shape ``(N, D)``, optional
        The inputs of the last linear layer. With them the norms are those of the *weight* gradient :math:`g_i
        h_i^\top`, a (K, D) matrix a row, none of which is formed. The masses stay those of the logits.

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
            # all less the class's own would nearly cancel as training ends
            negative_mass=np.where(is_target, 0.0, g).sum(axis=0),
        )


def _class_indices(target: ArrayLike, rows: int, num_classes: int) -> NDArray[np.int64]:
    y = _checks.array("target", target)
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


def initial_mass_ratio(counts: ArrayLike, bias: ArrayLike = 0.0) -> NDArray[np.float64]:
    r"""Return positive over negative gradient mass of each class before anything is learned.

    Where z = 0, every row has q = softmax(b), and its gradient is q - e_y. With N rows, n_k of class k,

    .. math::

        \text{positive}_k &= n_k (1 - q_k), \\
        \text{negative}_k &= (N - n_k)\, q_k, \\
        \frac{\text{positive}_k}{\text{negative}_k} &= \frac{\pi_k / (1 - \pi_k)}{q_k / (1 - q_k)},

    the odds of the class over the odds that the model starts with. The ratio is 1 for every class exactly
    where q = pi. That is so for b = log pi (+ a constant), and for no other bias.

    Parameters
    ----------
    counts : array_like, shape ``(K,)``
        Training samples per class, or frequencies, K >= 2; a class without samples counts as one, as in every
        loss.
    bias : array_like, shape ``(K,)`` or a number
        b, what the loss adds to the logits.

    Returns
    -------
    ndarray, shape ``(K,)``

    Examples
    --------
    >>> import softmax_lab as sl
    >>> sl.balance.initial_mass_ratio([90, 10]).round(3)
    array([9.   , 0.111])
    >>> sl.balance.initial_mass_ratio([90, 10], sl.losses.balanced_softmax([90, 10]).bias).round(3)
    array([1., 1.])
    """
    n = _checks.class_sizes(counts)
    if len(n) < 2:
        raise ValueError(
            f"counts must have at least two classes: one class has no negative mass; got shape {n.shape}"
        )
    q = softmax(_per_class("bias", bias, len(n)))[None]
    with np.errstate(divide="ignore"):  # a probability that underflows has no push to speak of
        return np.asarray((n / sum_of_others(n[None]) * (sum_of_others(q) / q))[0])


def gated_weight(class_weight: ArrayLike, probability: ArrayLike, gate: float) -> NDArray[np.float64]:
    r"""Return row weights :math:`w = W^{q_y^g}`.

    A row that is not fit has the weight 1. A row that is fit has the whole weight W of its class.

    Two corrections of the same imbalance do not add up. The minimiser of :math:`\sum_y P_y W_y (-\log q_y)`
    is :math:`q_k \propto W_k P_k`. In population a class weight is a shift of the logits by log W, on top
    of the prior that b already takes out. A model that cannot fit its rows stands there, and the weights
    overshoot. A model that fits every row has q = e_y, and no gradient left for b to act through. The classes
    then still differ in the weight of their rows. So the exponent of W is a measure of fit, phi(q_y) = q_y^g
    in [0, 1], log-linear between the two,

    .. math:: \log w = q_y^g \log W_y .

    w is held constant in the derivative, which stays w (q - s): a row cannot lower its loss by lowering its
    weight. At a stationary point of rows with the same features :math:`q_k \propto W_k^{q_k^g} P_k`. With g =
    4 a class is shifted by log(W)/16 where q_k = 1/2, and by log W where it is certain.

    Parameters
    ----------
    class_weight : array_like
        W >= 0 of each row's class.
    probability : array_like
        q_y in [0, 1], broadcast against ``class_weight``.
    gate : float
        g >= 0; 0 is no gate, w = W, as in :class:`softmax_lab.LossSpec`.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> sl.balance.gated_weight(100.0, [0.1, 0.5, 0.9, 1.0], gate=4.0).round(2)
    array([  1.  ,   1.33,  20.52, 100.  ])
    """
    weight = _checks.real_array("class_weight", class_weight, low=0.0)
    q = _checks.real_array("probability", probability, low=0.0, high=1.0)
    g = _checks.number("gate", gate, low=0.0)
    try:
        return np.asarray(weight ** (q**g if g else np.ones_like(q)))
    except ValueError:
        raise ValueError(
            f"class_weight and probability must broadcast; got shapes {weight.shape} and {q.shape}"
        ) from None


def neutral_smoothing(
    bias: ArrayLike, smoothing: ArrayLike, num_classes: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Return the bias and the prior (b', r) with which smoothing by eps_y leaves every decision where it is.

    P are the class probabilities of a row's features. In population the smoothed loss is least where q is the
    mean target,

    .. math::

        q_k = (1 - \varepsilon_k) P_k + \bar\varepsilon r_k,
        \qquad \bar\varepsilon = \textstyle\sum_y P_y \varepsilon_y .

    Since u = z + b', the model says

    .. math::

        e^{z_k} \propto e^{-b'_k} q_k = e^{-b'_k} (1 - \varepsilon_k) P_k + \bar\varepsilon\, e^{-b'_k} r_k .

    Without smoothing it would say :math:`e^{-b_k} P_k`. The first term is that for :math:`b'_k = b_k + \log(1
    - \varepsilon_k)`. The second term is the same for every class for :math:`r = \operatorname{softmax}(b')`.
    The sum is then an increasing function of :math:`e^{-b_k} P_k`, and the order of the classes is kept. No
    other r keeps it for every P.

    The uniform r adds :math:`\bar\varepsilon e^{-b_k} / K`: the rarer the class, the more. With one eps for
    all classes b' is b up to a constant. With eps per class and b left as it is, the boundary between j and k
    is off by :math:`\log (1-\varepsilon_j)/(1-\varepsilon_k)`.

    Parameters
    ----------
    bias : array_like, shape ``(K,)`` or a number
        b, what the loss adds to the logits.
    smoothing : array_like, shape ``(K,)`` or a number
        eps in [0, 1).
    num_classes : int, optional
        K, needed where both are numbers.

    Returns
    -------
    bias, prior : ndarray, shape ``(K,)``
        For the fields of the same names of a :class:`softmax_lab.LossSpec`, beside ``smoothing``.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> bias, prior = sl.balance.neutral_smoothing([0.0, -2.0], [0.1, 0.0])
    >>> bias.round(4), prior.round(4)
    (array([-0.1054, -2.    ]), array([0.8693, 0.1307]))

    See Also
    --------
    softmax_lab.losses.label_smoothing : towards the uniform distribution, which moves decisions where b is
        not constant.
    """
    sizes = [num_classes, *(len(np.asarray(x)) for x in (bias, smoothing) if np.ndim(x) == 1)]
    size = next((s for s in sizes if s is not None), None)
    if size is None:
        raise ValueError("bias or smoothing must have shape (K,), or num_classes be given; got two numbers")
    b, eps = _per_class("bias", bias, size), _per_class("smoothing", smoothing, size)
    if (eps < 0).any() or (eps >= 1).any():
        raise ValueError(
            f"smoothing must lie in [0, 1) (at 1 nothing of the label is left); got values from "
            f"{eps.min():g} to {eps.max():g}"
        )
    shifted = b + np.log1p(-eps)
    return shifted, np.asarray(softmax(shifted))


class CombinedLog(NamedTuple):
    """What :func:`combine_log` found: J of all parts, and what multiplies each part's gradient, (M,)."""

    value: float
    factors: NDArray[np.float64]


def combine_log(values: ArrayLike, weights: ArrayLike) -> CombinedLog:
    r"""Return the log of the mean loss of several parts of a batch together, and their gradients' factors.

    The log of the mean is not the mean of the logs. With :math:`J_m` of each part, and :math:`\Omega_m` the
    sum of its rows' weights,

    .. math::

        J &= \log \frac{\sum_m \Omega_m e^{J_m}}{\sum_m \Omega_m}, \\
        \nabla J &= \sum_m c_m \nabla J_m, \quad c = \operatorname{softmax}(J_m + \log \Omega_m) .

    .. versionadded:: 0.2

    Parameters
    ----------
    values : array_like, shape ``(M,)``
        :math:`J_m`, from :func:`softmax_lab.log_cross_entropy`; of a part of weight 0 it may be anything.
    weights : array_like, shape ``(M,)``
        :math:`\Omega_m \ge 0`: how many rows count, or the sum of class weight times sample weight over them.

    Returns
    -------
    CombinedLog
        ``value`` is J, NaN where no part has a weight; ``factors`` is c, (M,), 0 where J is -inf.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> found = sl.balance.combine_log([-1000.0, -1001.0], [4, 4])
    >>> round(found.value, 3), found.factors.round(3)
    (-1000.38, array([0.731, 0.269]))

    See Also
    --------
    softmax_lab.torch.LogMeanAccumulator : the same while a model's gradients are being summed.
    """
    logs = np.asarray(_checks.array("values", values), dtype=np.float64)
    omega = _checks.real_array("weights", weights, low=0.0)
    if logs.ndim != 1 or omega.shape != logs.shape:
        raise ValueError(
            f"values and weights must both have shape (M,), one a part; got {logs.shape} and {omega.shape}"
        )
    counts = omega > 0
    if not counts.any():
        return CombinedLog(float("nan"), np.zeros(len(logs)))
    log_omega = np.log(omega, out=np.full(len(logs), -np.inf), where=counts)
    terms = np.where(counts, logs, 0.0) + log_omega
    if (terms == -np.inf).all():
        return CombinedLog(float("-inf"), np.zeros(len(logs)))
    value = logsumexp(terms) - logsumexp(log_omega)
    return CombinedLog(float(value), np.asarray(softmax(terms)))


class PriorResponse(NamedTuple):
    """What :func:`prior_response` found: sums over the rows of each class, (K,) each.

    They are to be added up over batches and processes.
    """

    counts: NDArray[np.float64]
    slope: NDArray[np.float64]
    curvature: NDArray[np.float64]

    def shift(self, limit: float = 1.0) -> float:
        """Return the Newton step for delta, cut to [-limit, limit].

        Every class that has rows counts the same.
        """
        seen = self.counts > 0
        if not seen.any():
            return 0.0
        slope, curvature = (float(np.mean(x[seen] / self.counts[seen])) for x in (self.slope, self.curvature))
        # without curvature all probabilities are one or zero, and only the sign says something
        step = -slope / curvature if curvature > 0 else -np.sign(slope) * limit
        return float(np.clip(step, -limit, limit))


def prior_response(logits: ArrayLike, target: ArrayLike, log_prior: ArrayLike) -> PriorResponse:
    r"""Return how held-out loss answers to adding delta log pi to the logits.

    The answer is the first and second derivative at delta = 0. With l = log pi, centred, and q = softmax(z +
    delta l), the derivatives of a row's loss are

    .. math::

        \frac{d}{d\delta} (-\log q_y) &= \sum_k q_k l_k - l_y, \\
        \frac{d^2}{d\delta^2} (-\log q_y) &= \sum_k q_k l_k^2 - \Bigl(\sum_k q_k l_k\Bigr)^2 \ge 0,

    so the loss is convex in delta. The slope is averaged over the classes, not the rows: it is that of the
    balanced loss. It is 0 where the log-frequency that the model predicts is, on average, that of the labels.
    Where it is positive, the model still favours the head, and a larger tau in training would take more of
    the prior out. So a controller needs no schedule: tau <- tau - rate * delta*, with delta* the Newton step.

    Parameters
    ----------
    logits : array_like, shape ``(N, K)``
        Of held-out rows, as the model is used: without b. A row whose softmax is NaN does not count.
    target : array_like of int, shape ``(N,)``
        Class indices.
    log_prior : array_like, shape ``(K,)``

    Examples
    --------
    >>> import numpy as np
    >>> import softmax_lab as sl
    >>> l = np.log([0.9, 0.1])
    >>> response = sl.balance.prior_response(np.tile(0.5 * l, (2, 1)), [0, 1], l)
    >>> round(response.shift(), 2)  # the logits carry half the prior: one step of Newton towards -0.5
    -0.61
    """
    z = _checks.floating("logits", logits).astype(np.float64)
    if z.ndim != 2 or z.shape[1] == 0:
        raise ValueError(f"logits must have shape (N, K), K >= 1; got {z.shape}")
    y = _class_indices(target, *z.shape)
    prior = _checks.real_array("log_prior", log_prior)
    if prior.shape != (z.shape[1],):
        raise ValueError(f"log_prior must have shape ({z.shape[1]},); got {prior.shape}")
    centred = prior - prior.mean()
    q = softmax(z)
    q, y = q[~np.isnan(q).any(axis=1)], y[~np.isnan(q).any(axis=1)]
    mean = q @ centred
    variance = (q * (centred - mean[:, None]) ** 2).sum(axis=1)  # the difference of the two sums would cancel
    return PriorResponse(
        *(_by_class(x, y, len(prior)) for x in (np.ones(len(y)), mean - centred[y], variance))
    )


def _by_class(value: NDArray[np.float64], y: NDArray[np.int64], num_classes: int) -> NDArray[np.float64]:
    return np.asarray(np.bincount(y, weights=value, minlength=num_classes), dtype=np.float64)


def _per_class(name: str, value: ArrayLike, num_classes: int) -> NDArray[np.float64]:
    """Return a number or ``(K,)`` as ``(K,)``."""
    array = _checks.real_array(name, value)
    if array.shape not in ((), (num_classes,)):
        raise ValueError(f"{name} must be a number or have shape ({num_classes},); got shape {array.shape}")
    return np.broadcast_to(array, (num_classes,)).copy()
