r"""Softmax, log-softmax and log-sum-exp, to within an ulp or two on every row.

.. math:: p_k = \frac{e^{z_k/T}}{\sum_j e^{z_j/T}}, \qquad
          \log p_k = \frac{z_k}{T} - \operatorname{lse}(z/T), \qquad
          \operatorname{lse}(z) = \log \sum_j e^{z_j}

Three roundings that other implementations accept are avoided: that of z - max(z) (carried along as a second
float), that of 1 + rest in the logarithm (log1p), and any but one rounding to the output's type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks, _dispatch, _plain
from ._rows import RowWriter, Shifted, as_rows, blocks, detached, shifted_exp
from ._twofloat import Array, round_once
from ._weighted_sum import log_weighted_sum

__all__ = ["log_softmax", "logsumexp", "softmax"]

Axis = int | tuple[int, ...] | None


def softmax(
    logits: ArrayLike,
    *,
    axis: Axis = -1,
    temperature: float = 1.0,
    where: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    r"""Return the softmax :math:`p_k = e^{z_k/T} / \sum_j e^{z_j/T}` along one axis.

    Parameters
    ----------
    logits : array_like, shape ``(..., K, ...)``
        float16, bfloat16, float32 or float64; integers are taken as float64.
    axis : int, tuple of int or None
        The class axis. Several axes together hold the classes, as in SciPy; ``None`` means all.
    temperature : float
        T > 0; below 1 sharpens, above 1 flattens.
    where : array_like of bool, optional
        Broadcast to the logits' shape. Entries that are False take no part and get probability 0; a row with
        none left is all 0.
    out : ndarray, optional
        Where to write; shape and dtype of the logits. May be ``logits`` itself.

    Returns
    -------
    ndarray
        Same shape and dtype as the logits. A row with NaN or +inf, or with nothing above -inf, is NaN.

    Raises
    ------
    TypeError, ValueError
        On a dtype, shape, axis or temperature out of range, saying what was expected and what came.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> sl.softmax([40.0, 0.0])
    array([1.00000000e+00, 4.24835426e-18])

    See Also
    --------
    log_softmax : the logarithm, which stays accurate where a probability rounds to 0 or 1.

    References
    ----------
    P. Blanchard, D. J. Higham and N. J. Higham, "Accurately computing the log-sum-exp and softmax functions",
    IMA J. Numer. Anal. 41 (2021).
    """
    return _map("softmax", logits, axis, temperature, where, out)


def log_softmax(
    logits: ArrayLike,
    *,
    axis: Axis = -1,
    temperature: float = 1.0,
    where: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    r"""Return :math:`\log p_k = z_k/T - \log \sum_j e^{z_j/T}` along one axis.

    Arguments and errors as in :func:`softmax`. Masked entries, and every entry of a fully masked row, are
    -inf. The largest entry's own term is kept out of the sum and enters by log1p, so a confident class keeps
    its true log-probability instead of 0.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> sl.log_softmax([40.0, 0.0])
    array([-4.24835426e-18, -4.00000000e+01])

    See Also
    --------
    softmax : the probabilities themselves.
    """
    return _map("log_softmax", logits, axis, temperature, where, out)


def logsumexp(
    logits: ArrayLike,
    *,
    axis: Axis = -1,
    where: ArrayLike | None = None,
    keepdims: bool = False,
    b: ArrayLike | None = None,
    return_sign: bool = False,
) -> Any:
    r"""Return :math:`\log \sum_j b_j e^{z_j}` along one axis or several.

    Parameters
    ----------
    logits, axis, where
        As in :func:`softmax`.
    keepdims : bool
        Keep the class axes, with length one.
    b : array_like, optional
        Finite factors, broadcast to the logits' shape; 1 by default. A class with the factor 0 takes no part.

        .. versionadded:: 0.2
    return_sign : bool
        Return the logarithm of the sum's magnitude, and its sign. Without it a negative sum has the logarithm
        NaN.

        .. versionadded:: 0.2

    Returns
    -------
    ndarray or scalar
        The logits' shape without the class axes, in their dtype. -inf where nothing is above -inf or all is
        masked; +inf where an entry is +inf. Near a zero of the function the largest entry and the logarithm
        cancel: there the error is half an ulp of the larger of the two. Factors of both signs may cancel in
        the sum itself: there the error is that of its largest term. With ``return_sign`` a pair, whose second
        is -1, 0, 1 or NaN in the same dtype.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> float(sl.logsumexp([1000.0, 1000.0]))
    1000.6931471805599
    >>> value, sign = sl.logsumexp([0.0, 1.0], b=[1.0, -1.0], return_sign=True)
    >>> round(float(value), 12), float(sign)
    (0.541324854613, -1.0)
    """
    z = _checks.floating("logits", logits)
    mask = _checks.mask(where, z.shape)
    factors = None if b is None else _factors(b, z.shape)
    given = z.shape
    if axis is None or isinstance(axis, tuple):
        axes = _checks.class_axes("logits", z, axis)
        z = _flattened(z, axes)
        mask, factors = (None if x is None else _flattened(x, axes) for x in (mask, factors))
        axis = -1
    else:
        axes = (_checks.class_axis("logits", z, axis),)
    assert z is not None
    axis = _checks.class_axis("logits", z, axis)
    kept = None if mask is None else as_rows(mask, axis)
    sign: Array | None = None
    if factors is None:
        result = _logsumexp_rows(z, axis, kept)
    else:
        result, sign = log_weighted_sum(as_rows(z, axis).astype(np.float64), as_rows(factors, axis), kept)
        result = result if return_sign else np.where(sign < 0, np.nan, result)
    shape = tuple(1 if i in axes else n for i, n in enumerate(given) if keepdims or i not in axes)
    value = round_once(result, z.dtype).reshape(shape)[()]
    if not return_sign:
        return value
    if sign is None:
        sign = np.where(np.isnan(result), np.nan, np.where(result == -np.inf, 0.0, 1.0))
    return value, sign.astype(z.dtype).reshape(shape)[()]


def _factors(b: ArrayLike, shape: tuple[int, ...]) -> Array:
    """Return the factors of the classes in the logits' shape."""
    factors = _checks.real_array("b", b)
    try:
        return np.broadcast_to(factors, shape)
    except ValueError:
        raise ValueError(
            f"b must broadcast to the logits' shape {shape}; got shape {factors.shape}"
        ) from None


def _flattened(array: NDArray[Any], axes: tuple[int, ...]) -> NDArray[Any]:
    """Return an array with some axes joined to one, the last."""
    others = [i for i in range(array.ndim) if i not in axes]
    return array.transpose(*others, *axes).reshape(*(array.shape[i] for i in others), -1)


@_dispatch.falls_back
def _logsumexp_rows(z: NDArray[Any], axis: int, mask: NDArray[np.bool_] | None) -> Array:
    """Return a number for every row, in float64."""
    result = np.empty(z.size // z.shape[axis])
    path = _dispatch.choose(z.shape[axis], singles=z.dtype == np.float32 and mask is None)
    if path != "reference":
        _dispatch.run(
            path, "logsumexp", z, axis, None, lambda some: (result[some], _transform(1.0, mask, some))
        )
    else:
        _reference_logsumexp(as_rows(z, axis), mask, result)
    return result


def _reference_logsumexp(rows: NDArray[Any], mask: NDArray[np.bool_] | None, result: Array) -> None:
    with np.errstate(all="ignore"):
        for block in blocks(*rows.shape):
            shifted = shifted_exp(rows[block].astype(np.float64), mask=None if mask is None else mask[block])
            # an infinite peak is the result; the shift has made NaN of it
            result[block] = np.where(
                np.isinf(shifted.peak), shifted.peak, shifted.peak + shifted.log_normaliser
            )


# what each function takes of a block of rows, and the value of masked entries
_ENTRIES: dict[str, tuple[Callable[[Shifted], Array], float]] = {
    "softmax": (lambda rows: rows.probs, 0.0),
    "log_softmax": (lambda rows: rows.log_probs, -np.inf),
}


def _map(
    name: str,
    logits: ArrayLike,
    axis: Axis,
    temperature: float,
    where: ArrayLike | None,
    out: NDArray[Any] | None,
) -> NDArray[Any]:
    result = _plain.mapped(name, logits, axis, temperature, where, out)
    if result is not None:
        return result
    if axis is None or isinstance(axis, tuple):
        return _map_joined(name, logits, axis, temperature, where, out)
    return _map_rows(name, logits, axis, temperature, where, out)


def _map_joined(
    name: str,
    logits: ArrayLike,
    axis: tuple[int, ...] | None,
    temperature: float,
    where: ArrayLike | None,
    out: NDArray[Any] | None,
) -> NDArray[Any]:
    """Join the class axes to one, and part them again."""
    z = _checks.floating("logits", logits)
    axes = _checks.class_axes("logits", z, axis)
    mask = _checks.mask(where, z.shape)
    result = _checks.output(out, z.shape, z.dtype)
    kept = None if mask is None else _flattened(mask, axes)
    values = _map_rows(name, _flattened(z, axes), -1, temperature, kept, None)
    order = [*(i for i in range(z.ndim) if i not in axes), *axes]
    result.transpose(order)[...] = values.reshape([z.shape[i] for i in order])
    return result


@_dispatch.falls_back
def _map_rows(
    name: str,
    logits: ArrayLike,
    axis: int,
    temperature: float,
    where: ArrayLike | None,
    out: NDArray[Any] | None,
) -> NDArray[Any]:
    """Check, then work through the rows by the loop that suits them."""
    z = _checks.floating("logits", logits)
    axis = _checks.class_axis("logits", z, axis)
    temperature = _checks.number("temperature", temperature, low=0.0, open_low=True)
    mask = _checks.mask(where, z.shape)
    result = _checks.output(out, z.shape, z.dtype)
    source = detached(z, out)
    plain = z.dtype == np.float32 and mask is None and temperature == 1.0
    path = _dispatch.choose(z.shape[axis], singles=plain) if _checks.moderate(temperature) else "reference"
    if path != "reference":
        kept = None if mask is None else as_rows(mask, axis)
        _dispatch.run(path, name, source, axis, result, lambda some: (_transform(temperature, kept, some),))
    else:
        _reference_map(
            name,
            as_rows(source, axis),
            None if mask is None else as_rows(mask, axis),
            temperature,
            RowWriter(result, axis),
        )
    return result


def _transform(temperature: float, kept: NDArray[np.bool_] | None, some: slice) -> Any:
    """What the loops need to know of a temperature and a mask; None in the usual case."""
    if temperature == 1.0 and kept is None:
        return None
    loops = _dispatch.kernels()
    assert loops is not None
    return loops.transform.temperature_and_mask(temperature, None if kept is None else kept[some])


def _reference_map(
    name: str, rows: NDArray[Any], mask: NDArray[np.bool_] | None, temperature: float, writer: RowWriter
) -> None:
    entry, masked = _ENTRIES[name]
    with np.errstate(all="ignore"):
        for block in blocks(*rows.shape):
            some = None if mask is None else mask[block]
            values = entry(shifted_exp(rows[block].astype(np.float64), mask=some, temperature=temperature))
            if some is not None:
                values = np.where(some, values, masked)
            writer.write(block, values)
    writer.close()
