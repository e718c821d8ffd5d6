r"""Derivatives of the softmax map itself: Jacobian, products with it, spectrum and norms.

With p = softmax(z / T) the Jacobian is

.. math:: G = \frac{\partial p}{\partial z} = \frac{1}{T} \bigl(\operatorname{diag}(p) - p p^\top\bigr).

G is symmetric and positive semidefinite, has the null vector of ones, and on its diagonal p_i (1 - p_i). The
factor 1 - p_i is always taken as the sum of the *other* probabilities. So a confident row keeps the
derivative 4e-18 where 1 - p_i would give 0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks, _dispatch
from ._rows import read_only, take
from ._twofloat import Array, round_once, row_sum

__all__ = ["softmax_jacobian", "softmax_jacobian_norm", "softmax_jvp", "softmax_spectrum", "softmax_vjp"]


def softmax_jacobian(probs: ArrayLike, *, temperature: float = 1.0) -> NDArray[Any]:
    r"""Return the Jacobian :math:`G_{ij} = p_i (\delta_{ij} - p_j) / T`, shape ``(..., K, K)``.

    Parameters
    ----------
    probs : array_like, shape ``(..., K)``
        Softmax probabilities (not logits); each row sums to one.
    temperature : float
        The T with which they were made.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> sl.softmax_jacobian([0.5, 0.25, 0.25])
    array([[ 0.25  , -0.125 , -0.125 ],
           [-0.125 ,  0.1875, -0.0625],
           [-0.125 , -0.0625,  0.1875]])

    See Also
    --------
    softmax_jvp : the product with a vector in O(K), without the matrix.
    """
    p, rows, temperature = _prepare(probs, temperature)
    jacobian = -rows[:, :, None] * rows[:, None, :]
    k = np.arange(rows.shape[1])
    jacobian[:, k, k] = rows * sum_of_others(rows)
    return round_once(_over(jacobian, temperature), p.dtype).reshape(*p.shape, p.shape[-1])


def softmax_jvp(probs: ArrayLike, tangent: ArrayLike, *, temperature: float = 1.0) -> NDArray[Any]:
    r"""Return :math:`G t = p \odot (t - p^\top t) / T` in O(K), shape ``(..., K)``.

    Since G is symmetric this is the vector-Jacobian product too: ``softmax_jvp`` and ``softmax_vjp`` are two
    names of one function.

    Parameters
    ----------
    probs, tangent : array_like, shape ``(..., K)``
        Probabilities, and the direction (or the upstream gradient); they broadcast against each other. Of two
        types the result has the one that holds both: float32 for float16 and bfloat16.
    temperature : float
        The T with which the probabilities were made.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> sl.softmax_jvp([0.5, 0.25, 0.25], [1.0, 0.0, 0.0])
    array([ 0.25 , -0.125, -0.125])
    >>> sl.softmax_vjp([0.5, 0.25, 0.25], [1.0, 0.0, 0.0])
    array([ 0.25 , -0.125, -0.125])

    See Also
    --------
    softmax_jacobian : the matrix itself, O(K^2).
    """
    p = _checks.floating("probs", probs)
    _checks.class_axis("probs", p, -1)
    temperature = _checks.number("temperature", temperature, low=0.0, open_low=True)
    t = _checks.floating("tangent", tangent)
    if t.ndim == 0 or t.shape[-1] != p.shape[-1]:
        raise ValueError(f"tangent must have shape (..., {p.shape[-1]}) as probs {p.shape}; got {t.shape}")
    return _product(p, t, temperature)


@_dispatch.falls_back
def _product(p: NDArray[Any], t: NDArray[Any], temperature: float) -> NDArray[Any]:
    if (
        p.dtype == t.dtype
        and _checks.moderate(temperature)
        and _dispatch.choose(p.shape[-1], product=True) != "reference"
    ):
        return _compiled_product(p, t, temperature)
    _checks.probabilities("probs", p)
    dtype = _checks.common_type(p.dtype, t.dtype)
    wide_p, wide_t = np.broadcast_arrays(p.astype(np.float64), t.astype(np.float64))
    rows, tangents = wide_p.reshape(-1, p.shape[-1]), wide_t.reshape(-1, p.shape[-1])
    return round_once(_over(rows * centred(rows, tangents), temperature), dtype).reshape(wide_p.shape)


def _compiled_product(p: NDArray[Any], t: NDArray[Any], temperature: float) -> NDArray[Any]:
    """Return the same product by a compiled loop.

    The loop also adds up the probabilities: bad ones are refused before anything is returned.
    """
    wide_p, wide_t = np.broadcast_arrays(p, t)
    result = np.empty(wide_p.shape, p.dtype)
    tangents, sums = (
        np.ascontiguousarray(wide_t).reshape(-1, p.shape[-1]),
        np.empty(wide_p.size // p.shape[-1]),
    )

    def arguments(some: slice) -> tuple[Any, ...]:
        return read_only(_dispatch.as_stored(tangents[some]).reshape(-1)), sums[some], 1.0 / temperature

    _dispatch.run("products", "softmax_product", wide_p, wide_p.ndim - 1, result, arguments)
    if not _checks.sums_to_one(sums, p.dtype).all():
        _checks.probabilities("probs", p)  # says which row
    return result


softmax_vjp = softmax_jvp


def centred(rows: Array, tangents: Array) -> Array:
    """Return t_k - p.t for rows (n, K), relative to the most probable class so that nothing is lost there.

    t - p.t = t' - p.t' for t' = t - t_top. At the top class t' is 0, and p.t' sums the others only.
    """
    relative = tangents - take(tangents, np.argmax(rows, axis=1))[:, None]
    return relative - row_sum(rows * relative)[:, None]


def softmax_spectrum(probs: ArrayLike, *, temperature: float = 1.0) -> NDArray[Any]:
    r"""Return the K eigenvalues of the Jacobian, ascending, shape ``(..., K)``.

    The smallest is 0 (vector of ones). With p sorted ascending the others interlace,
    :math:`p_{(i-1)} \le T \lambda_i \le p_{(i)}`, and solve the secular equation

    .. math:: \sum_j \frac{p_j}{p_j - \lambda} = 0 .

    Each root is found by bisection on the bits of its distance to the lower pole. So it is accurate to a few
    ulp however small it is. A dense eigensolver is accurate only relative to the largest. O(K^2) work a row.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> sl.softmax_spectrum([0.5, 0.25, 0.25]).round(12)
    array([0.   , 0.25 , 0.375])

    References
    ----------
    G. H. Golub, "Some modified matrix eigenvalue problems", SIAM Review 15 (1973): the secular equation of a
    diagonal matrix with a rank-one change.
    """
    p, rows, temperature = _prepare(probs, temperature)
    values = np.stack([_row_spectrum(row) for row in rows]) if len(rows) else np.empty_like(rows)
    return round_once(_over(values, temperature), p.dtype).reshape(p.shape)


def softmax_jacobian_norm(probs: ArrayLike, *, ord: float | str = "fro", temperature: float = 1.0) -> Any:
    r"""Return a norm of the Jacobian per row, shape ``(...)``, without forming the matrix.

    Parameters
    ----------
    probs : array_like, shape ``(..., K)``
        Softmax probabilities.
    ord : {"fro", 1, 2, inf}
        Frobenius, :math:`\bigl(\sum_i p_i^2 [(1-p_i)^2 + \sum_{j \ne i} p_j^2]\bigr)^{1/2} / T`; the operator
        norms 1 and inf, :math:`\max_i 2 p_i (1 - p_i) / T`; the spectral norm 2, the largest eigenvalue. All
        four are at most 1/(2T), reached by two classes at 1/2.
    temperature : float
        The T with which they were made.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> float(sl.softmax_jacobian_norm([0.5, 0.5], ord=2))
    0.5
    """
    p, rows, temperature = _prepare(probs, temperature)
    if ord == "fro":
        norms = _frobenius(rows)
    elif ord in (1, math.inf):
        norms = (2.0 * rows * sum_of_others(rows)).max(axis=1)
    elif ord == 2:
        norms = np.array([_largest_eigenvalue(row) for row in rows])
    else:
        raise ValueError(f"ord must be 'fro', 1, 2 or inf; got {ord!r}")
    return round_once(_over(norms, temperature), p.dtype).reshape(p.shape[:-1])[()]


def _prepare(probs: ArrayLike, temperature: float) -> tuple[NDArray[Any], Array, float]:
    p = _checks.probabilities("probs", probs)
    temperature = _checks.number("temperature", temperature, low=0.0, open_low=True)
    rows = p.reshape(-1, p.shape[-1]).astype(np.float64)
    rows[np.isnan(rows).any(axis=1)] = np.nan  # one NaN leaves no entry of its row defined
    return p, rows, temperature


def _over(values: Array, temperature: float) -> Array:
    """Divide by T; never multiply by 1/T, which may overflow.

    0 / T is 0, and what is infinite is so in truth.
    """
    with np.errstate(over="ignore"):
        return values / temperature


def sum_of_others(rows: Array) -> Array:
    """Return sum_{j != k} x_j for every k of non-negative rows (n, K), to a few ulp.

    For all but the largest entry x, total - x loses at most one bit: x is at most half the total. The largest
    entry's others are summed without it.
    """
    top = np.argmax(rows, axis=1)
    at_top = np.arange(len(top)), top
    without = rows.copy()
    without[at_top] = 0.0
    rest = row_sum(without)
    others: Array = rows[at_top][:, None] + (rest[:, None] - rows)
    others[at_top] = rest
    return others


def _frobenius(rows: Array) -> Array:
    """Return the Frobenius norm of each row's Jacobian, counted in units of the second largest probability.

    A confident row's entries may all be so small that their squares underflow. In that unit the largest is
    about 1.
    """
    at_top = np.arange(len(rows)), np.argmax(rows, axis=1)
    others = rows.copy()
    others[at_top] = 0.0
    unit = others.max(axis=1)
    unit[unit == 0] = 1.0
    others /= unit[:, None]
    squares = others**2
    total = row_sum(squares)
    # the top's diagonal entry, row and column
    at_top_squared = rows[at_top] ** 2 * (row_sum(others) ** 2 + 2.0 * total)
    elsewhere = row_sum(
        squares * (sum_of_others(rows) ** 2 + unit[:, None] ** 2 * (total[:, None] - squares))
    )
    return np.asarray(unit * np.sqrt(at_top_squared + elsewhere))


def _row_spectrum(p: Array) -> Array:
    """Return the eigenvalues of diag(p) - p p^T for one row, ascending."""
    if np.isnan(p).any():
        return np.full_like(p, np.nan)
    poles = np.sort(p)
    values = poles[:-1].copy()  # equal neighbours and zero poles: the eigenvalue is the pole itself
    split = np.flatnonzero((poles[1:] > poles[:-1]) & (poles[:-1] > 0))
    for chunk in np.array_split(split, max(1, len(split) * len(p) // (1 << 20))):
        values[chunk] = _secular_roots(poles, chunk)
    return np.concatenate([[0.0], values])


def _largest_eigenvalue(p: Array) -> float:
    if np.isnan(p).any():
        return math.nan
    poles = np.sort(p)
    if len(p) == 1 or poles[-2] in (0.0, poles[-1]):
        return float(poles[-2]) if len(p) > 1 else 0.0
    return float(_secular_roots(poles, np.array([len(p) - 2]))[0])


def _secular_roots(poles: Array, index: NDArray[np.intp]) -> Array:
    """Return the root of sum_j p_j / (p_j - x) in (poles[i], poles[i + 1]) for each i of ``index``.

    The unknown is the distance to the lower pole, whose differences to the other poles are exact or nearly
    so. The function increases from -inf to +inf over the interval. Positive floats are ordered as their bits
    are. So 64 halvings of the bit pattern reach the root's two neighbouring floats, whatever its magnitude.
    """
    base = poles[index]
    offsets = poles[None, :] - base[:, None]  # (m, K) pole distances from the lower pole
    low = np.zeros(len(index), np.int64)
    high = (poles[index + 1] - base).view(np.int64).copy()
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        while (high - low > 1).any():
            middle = low + (high - low) // 2
            value = (poles / (offsets - middle.view(np.float64)[:, None])).sum(axis=1)
            below = value < 0
            low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray(base + high.view(np.float64))
