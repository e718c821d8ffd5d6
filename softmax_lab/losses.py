r"""The named members of the loss family: each is a few lines that return a :class:`~softmax_lab.LossSpec`.

``counts`` is always the number of training samples per class, shape ``(K,)``. A class without samples counts
as one sample, in every loss: priors and weights stay finite, and nothing becomes NaN. Whole numbers are
samples, whatever their type.

Where only the ratios of the counts matter, class frequencies do as well: floats > 0 that sum to one within
1e-6. :func:`class_balanced` alone needs samples. All else raises ``ValueError``.

``REGISTRY`` maps each name to its factory; tests, experiments and book read it.

With q = softmax(u), the gradient of the unweighted loss with respect to u is q - s. Each docstring gives what
its member makes of u, s and the row's weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks, balance
from .spec import LossSpec

__all__ = [
    "REGISTRY",
    "balanced_softmax",
    "cdt",
    "class_balanced",
    "equalization",
    "focal",
    "gradient_balanced",
    "label_aware_smoothing",
    "label_smoothing",
    "ldam",
    "logit_adjusted",
    "plain",
    "poly1",
    "seesaw",
    "vs",
    "weighted",
]


def _log_prior(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.log(counts / counts.sum()))


def plain() -> LossSpec:
    r"""Softmax cross-entropy, :math:`L = -\log q_y`; gradient :math:`q - e_y`.

    Examples
    --------
    >>> from softmax_lab import losses
    >>> losses.plain()
    LossSpec()
    """
    return LossSpec()


def weighted(class_weight: ArrayLike) -> LossSpec:
    r"""Weight each row by its class, :math:`L = -W_y \log q_y`; gradient :math:`W_y (q - e_y)`.

    The mean divides by the sum of the rows' weights.

    Examples
    --------
    >>> from softmax_lab import losses
    >>> losses.weighted([1.0, 2.0])
    LossSpec(class_weight=<2 in [1, 2]>)
    """
    return LossSpec(class_weight=class_weight)


def class_balanced(counts: ArrayLike, beta: float = 0.999) -> LossSpec:
    r"""Weight by the inverse effective number of samples, :math:`W_k \propto (1-\beta) / (1-\beta^{n_k})`.

    The weights are scaled to sum to K. Gradient :math:`W_y (q - e_y)`. beta = 0 is no weighting, beta -> 1
    inverse frequency; 0 <= beta < 1. It depends on how many samples there are: frequencies raise
    ``ValueError``.

    Examples
    --------
    >>> from softmax_lab import losses
    >>> round(float(losses.class_balanced([100, 10]).class_weight.sum()), 12)
    2.0

    References
    ----------
    Y. Cui, M. Jia, T.-Y. Lin, Y. Song and S. Belongie, "Class-balanced loss based on effective number of
    samples", CVPR 2019, eq. 4.
    """
    n = _checks.class_counts(counts)
    beta = _checks.number("beta", beta, low=0.0, high=1.0)
    if beta == 1:
        raise ValueError(
            "beta must be < 1 (its limit is inverse frequency: losses.weighted(1 / counts)); got 1.0"
        )
    weight = (1 - beta) / -np.expm1(n * math.log(beta)) if beta else np.ones_like(n)
    return LossSpec(class_weight=weight * (len(n) / weight.sum()))


def focal(gamma: float = 2.0) -> LossSpec:
    r"""Turn down the rows that are already fit, :math:`L = -(1-q_y)^\gamma \log q_y`.

    Gradient :math:`\bigl[(1-q_y)^\gamma - \gamma (1-q_y)^{\gamma-1} q_y \log q_y\bigr](q - e_y)`.

    Examples
    --------
    >>> from softmax_lab import losses
    >>> losses.focal()
    LossSpec(gamma=2.0)

    References
    ----------
    T.-Y. Lin, P. Goyal, R. Girshick, K. He and P. Dollar, "Focal loss for dense object detection", ICCV 2017,
    eq. 4, there with sigmoids; the softmax form is the usual one for many classes.
    """
    return LossSpec(gamma=gamma)


def poly1(c: float = 1.0) -> LossSpec:
    r"""Add the first term of PolyLoss, :math:`L = -\log q_y + c\,(1-q_y)`.

    Gradient :math:`(1 + c\,q_y)(q - e_y)`; c >= -1. At c = -1 the loss starts with the square of
    :math:`1 - q_y`. With smoothing the term stays at the label, where the paper has
    :math:`\sum_k s_k (1 - q_k)`.

    .. versionadded:: 0.2

    Examples
    --------
    >>> from softmax_lab import losses
    >>> losses.poly1()
    LossSpec(poly=1.0)

    References
    ----------
    Z. Leng, M. Tan, C. Liu, E. D. Cubuk, J. Shi, S. Cheng and D. Anguelov, "PolyLoss: a polynomial expansion
    perspective of classification loss functions", ICLR 2022, eq. 6.
    """
    return LossSpec(poly=c)


def ldam(counts: ArrayLike, max_margin: float = 0.5, scale: float = 30.0) -> LossSpec:
    r"""Ask a larger margin of rarer classes, :math:`u_k = \text{scale}\,(z_k - m_k [k=y])`.

    The margins are :math:`m_k \propto n_k^{-1/4}`. The rarest class gets ``max_margin``. Gradient with
    respect to z: scale (q - e_y). The logits are meant to be cosines, in [-1, 1].

    Examples
    --------
    >>> from softmax_lab import losses
    >>> losses.ldam([16, 1]).margin
    array([0.25, 0.5 ])

    References
    ----------
    K. Cao, C. Wei, A. Gaidon, N. Arechiga and T. Ma, "Learning imbalanced datasets with
    label-distribution-aware margin loss", NeurIPS 2019, eq. 13.
    """
    n = _checks.class_sizes(counts)
    max_margin = _checks.number("max_margin", max_margin, low=0.0)
    scale = _checks.number("scale", scale, low=0.0, open_low=True)
    return LossSpec(temperature=1.0 / scale, margin=max_margin * (n / n.min()) ** -0.25)


def label_smoothing(eps: float = 0.1) -> LossSpec:
    r"""Move the target towards uniform, :math:`s = (1-\varepsilon) e_y + \varepsilon / K`.

    Gradient :math:`q - s`.

    Examples
    --------
    >>> from softmax_lab import losses
    >>> losses.label_smoothing()
    LossSpec(smoothing=0.1)

    References
    ----------
    C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens and Z. Wojna, "Rethinking the Inception architecture for
    computer vision", CVPR 2016, section 7.
    """
    return LossSpec(smoothing=_checks.number("eps", eps, low=0.0, high=1.0))


def logit_adjusted(counts: ArrayLike, tau: float = 1.0) -> LossSpec:
    r"""Add the log-prior while training, :math:`u_k = z_k + \tau \log \pi_k`; gradient :math:`q - e_y`.

    At tau = 1 the logits z are then consistent for the balanced error. tau >= 0.

    Examples
    --------
    >>> from softmax_lab import losses
    >>> losses.logit_adjusted([1, 1]).bias.round(4)
    array([-0.6931, -0.6931])
    >>> losses.logit_adjusted([0.5, 0.3, 0.2]) == losses.logit_adjusted([5, 3, 2])  # frequencies
    True

    References
    ----------
    A. K. Menon, S. Jayasumana, A. S. Rawat, H. Jain, A. Veit and S. Kumar, "Long-tail learning via logit
    adjustment", ICLR 2021, eq. 10.
    """
    tau = _checks.number("tau", tau, low=0.0)
    return LossSpec(bias=tau * _log_prior(_checks.class_sizes(counts)))


def balanced_softmax(counts: ArrayLike) -> LossSpec:
    r"""Weight each class's exponential by its count, :math:`q_k \propto n_k e^{z_k}`.

    Gradient :math:`q - e_y`.

    The same function as :func:`logit_adjusted` with tau = 1, found independently.

    Examples
    --------
    >>> from softmax_lab import losses
    >>> losses.balanced_softmax([9, 1]) == losses.logit_adjusted([9, 1])
    True

    References
    ----------
    J. Ren, C. Yu, S. Sheng, X. Ma, H. Zhao, S. Yi and H. Li, "Balanced meta-softmax for long-tailed visual
    recognition", NeurIPS 2020, eq. 3.
    """
    return logit_adjusted(counts, tau=1.0)


def cdt(counts: ArrayLike, gamma: float = 0.2) -> LossSpec:
    r"""Divide rare classes' logits while training, :math:`u_k = a_k z_k`.

    The factors :math:`a_k = (n_k / n_{max})^\gamma` are one over class-dependent temperatures. Gradient with
    respect to z: a_k (q_k - [k = y]). gamma >= 0.

    Examples
    --------
    >>> from softmax_lab import losses
    >>> losses.cdt([100, 1], gamma=0.5).scale
    array([1. , 0.1])

    References
    ----------
    H.-J. Ye, H.-Y. Chen, D.-C. Zhan and W.-L. Chao, "Identifying and compensating for feature deviation in
    imbalanced deep learning", arXiv:2001.01385 (2020).
    """
    n = _checks.class_sizes(counts)
    return LossSpec(scale=(n / n.max()) ** _checks.number("gamma", gamma, low=0.0))


def vs(counts: ArrayLike, gamma: float = 0.3, tau: float = 1.0) -> LossSpec:
    r"""Vector scaling: both of :func:`cdt` and :func:`logit_adjusted`.

    The logits are :math:`u_k = a_k z_k + \tau \log \pi_k` with :math:`a_k = (n_k/n_{max})^\gamma`. Gradient
    with respect to z: a_k (q_k - [k = y]).

    Examples
    --------
    >>> from softmax_lab import losses
    >>> losses.vs([10_000, 1], gamma=0.5).scale
    array([1.  , 0.01])

    References
    ----------
    G. R. Kini, O. Paraskevas, S. Oymak and C. Thrampoulidis, "Label-imbalanced and group-sensitive
    classification under overparameterization", NeurIPS 2021, eq. 2.
    """
    n = _checks.class_sizes(counts)
    tau = _checks.number("tau", tau, low=0.0)
    return LossSpec(scale=(n / n.max()) ** _checks.number("gamma", gamma, low=0.0), bias=tau * _log_prior(n))


def label_aware_smoothing(
    counts: ArrayLike,
    head: float = 0.4,
    tail: float = 0.1,
    shape: Literal["concave", "linear", "convex"] = "concave",
) -> LossSpec:
    r"""Smooth frequent classes more than rare ones.

    The mass given away is tail + (head - tail) f(x) at x = (n_y - n_min) / (n_max - n_min). f(x) is
    sin(pi x / 2) (concave), x (linear) or 1 + sin(3 pi / 2 + pi x / 2) (convex). The paper spreads that mass
    over the *other* K - 1 classes. The family's uniform r includes y, so its epsilon is K/(K-1) times as
    large. Gradient q - s.

    Examples
    --------
    >>> from softmax_lab import losses
    >>> losses.label_aware_smoothing([100, 10, 1]).smoothing.round(3)
    array([0.6  , 0.214, 0.15 ])

    References
    ----------
    Z. Zhong, J. Cui, S. Liu and J. Jia, "Improving calibration for long-tailed recognition", CVPR 2021, eqs.
    5-8.
    """
    n = _checks.class_sizes(counts)
    _checks.choice("shape", shape, ("concave", "linear", "convex"))
    if len(n) == 1:
        return LossSpec()  # there is no other class to give mass to
    most = 1.0 - 1.0 / len(n)  # beyond it the target would no longer be the likeliest class
    head = _checks.number("head", head, low=0.0, high=most)
    tail = _checks.number("tail", tail, low=0.0, high=most)
    x = (n - n.min()) / (np.ptp(n) or 1.0)  # all alike: every class is a rarest one
    rise = {"concave": np.sin(np.pi * x / 2), "linear": x, "convex": 1 + np.sin(1.5 * np.pi + np.pi * x / 2)}[
        shape
    ]
    return LossSpec(smoothing=np.clip((tail + (head - tail) * rise) / most, 0.0, 1.0))


def seesaw(counts: ArrayLike, p: float = 0.8) -> LossSpec:
    r"""Seesaw's mitigation: spare rarer classes the push of frequent targets.

    :math:`u_k = z_k + b_{yk}` with :math:`b_{yk} = p \min(0, \log n_k - \log n_y)`. Gradient :math:`q - e_y`.
    The compensation factor depends on the scores of the moment and is not part of a fixed spec.

    Examples
    --------
    >>> from softmax_lab import losses
    >>> losses.seesaw([10, 1], p=1.0).bias.round(4) + 0.0
    array([[ 0.    , -2.3026],
           [ 0.    ,  0.    ]])

    References
    ----------
    J. Wang, W. Zhang, Y. Zang, Y. Cao, J. Pang, T. Gong, K. Chen, Z. Liu, C. C. Loy and D. Lin, "Seesaw loss
    for long-tailed instance segmentation", CVPR 2021, eqs. 3-5.
    """
    log_n = np.log(_checks.class_sizes(counts))
    p = _checks.number("p", p, low=0.0)
    return LossSpec(bias=p * np.minimum(0.0, log_n[None, :] - log_n[:, None]))


def equalization(counts: ArrayLike, threshold: float | None = None, drop: float = 0.9) -> LossSpec:
    r"""Softmax equalization: turn down the rare classes' exponentials in other classes' rows.

    :math:`q_k \propto w_{yk} e^{z_k}` with :math:`w_{yk} = 1 - \text{drop}\,[\pi_k < \text{threshold}][k \ne
    y]`. Gradient :math:`q - e_y`. The paper draws the factor at random: 0 with probability ``drop``, else 1.
    A fixed spec holds its mean. ``threshold`` is a share of all samples, 1/(2K) by default; 0 <= drop < 1.

    Examples
    --------
    >>> from softmax_lab import losses
    >>> losses.equalization([98, 2]).bias.round(4) + 0.0
    array([[ 0.    , -2.3026],
           [ 0.    ,  0.    ]])

    References
    ----------
    J. Tan, C. Wang, B. Li, Q. Li, W. Ouyang, C. Yin and J. Yan, "Equalization loss for long-tailed object
    recognition", CVPR 2020, section 3.3.
    """
    n = _checks.class_sizes(counts)
    threshold = (
        0.5 / len(n) if threshold is None else _checks.number("threshold", threshold, low=0.0, high=1.0)
    )
    drop = _checks.number("drop", drop, low=0.0, high=1.0)
    if drop == 1:
        raise ValueError(
            "drop must be < 1 (at 1 a rare class would leave every other row's softmax); got 1.0"
        )
    rare = n / n.sum() < threshold
    bias = np.where(rare[None, :] & ~np.eye(len(n), dtype=bool), math.log1p(-drop), 0.0)
    return LossSpec(bias=bias)


def gradient_balanced(
    counts: ArrayLike,
    tau: float = 1.1,
    strength: float = 1.0,
    gate: float = 4.0,
    eps: float = 0.0,
    power: float = 0.5,
) -> LossSpec:
    r"""Balance the classes' gradients: a prior in the logits, and a tail boost for rows that are already fit.

    The logits are :math:`u_k = z_k + \tau \log \pi_k`. The row weight is :math:`w =
    (n_{max}/n_y)^{\text{strength} \cdot q_y^{gate}}`, held constant in the derivative. Gradient :math:`w (q
    - s)`. On balanced counts with eps = 0 it is plain cross-entropy.

    Smoothing, by :math:`\varepsilon_y = \text{eps}\,(n_y/n_{max})^{power}`, leaves the decision where it is
    (:func:`softmax_lab.balance.neutral_smoothing`). It adds :math:`\log(1 - \varepsilon_k)` to the logits. It
    goes towards the softmax of all that is added.

    The gate acts as a somewhat larger :math:`\tau` does, or a constant margin of :math:`\log(n_{max}/n_y)`
    on the label's logit. :func:`logit_adjusted` with ``tau=1.25`` comes within about a point of it in the
    report's runs (chapter 9), and is the plainer loss.

    Examples
    --------
    >>> from softmax_lab import losses
    >>> losses.gradient_balanced([100, 1]).class_weight
    array([  1., 100.])
    """
    n = _checks.class_sizes(counts)
    tau, strength, power = (
        _checks.number(name, x, low=0.0)
        for name, x in (("tau", tau), ("strength", strength), ("power", power))
    )
    eps = _checks.number("eps", eps, low=0.0, high=1.0)
    smoothing = eps * (n / n.max()) ** power
    bias, prior = balance.neutral_smoothing(tau * _log_prior(n), smoothing)
    return LossSpec(
        bias=bias,
        class_weight=(n.max() / n) ** strength,
        gate=gate,
        smoothing=smoothing if eps else 0.0,
        prior=prior,
    )


REGISTRY: dict[str, Callable[..., LossSpec]] = {
    factory.__name__: factory
    for factory in (
        plain,
        weighted,
        class_balanced,
        label_smoothing,
        label_aware_smoothing,
        focal,
        poly1,
        ldam,
        balanced_softmax,
        logit_adjusted,
        cdt,
        vs,
        seesaw,
        equalization,
        gradient_balanced,
    )
}
