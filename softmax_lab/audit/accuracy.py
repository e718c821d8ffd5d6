"""Worst errors of the package's own functions, those that the audit of others has no name for included.

Each function of a few hard rows is held to the oracle. The oracle forms the K x K matrices and their spectra,
so the rows have up to a dozen classes. ``tests/test_accuracy.py`` has the same for long rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._extras import load
from ..calculus import softmax_jacobian, softmax_jacobian_norm, softmax_jvp, softmax_spectrum
from ..cross_entropy import cross_entropy_grad, cross_entropy_hvp
from ..softmax import log_softmax, logsumexp, softmax
from .cases import HARD_ROWS, labelled

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["worst_errors"]

_MOST_CLASSES = 12
_ROWS_A_CASE = 4

Errors = Iterator[tuple[str, NDArray[np.float64]]]


def worst_errors(dtypes: Sequence[str] = ("float32", "float64")) -> pd.DataFrame:
    """Return the largest error of every public function on the hard rows, in ulp, and the case that has it.

    Where terms truly cancel (soft targets, products with a vector) it is counted in ulps of the largest term.

    Returns
    -------
    pandas.DataFrame
        Indexed by function; columns ``(dtype, "ulp")`` and ``(dtype, "case")``.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> bool(sl.audit.worst_errors(["float32"])["float32", "ulp"].max() < 2)
    True
    """
    pd = load("pandas", "the table is made by pandas")
    worst: dict[tuple[str, str], tuple[float, str]] = {}
    for dtype in dtypes:
        for case in HARD_ROWS:
            rows = case.make(dtype)[:_ROWS_A_CASE]
            if rows.shape[1] > _MOST_CLASSES:
                continue
            for function, errors in _errors(rows):
                worst[function, dtype] = max(
                    worst.get((function, dtype), (-1.0, "")), (float(errors.max()), case.name)
                )
    functions = list(dict.fromkeys(function for function, _ in worst))
    columns = {
        (dtype, part): [worst[f, dtype][i] for f in functions]
        for dtype in dtypes
        for i, part in enumerate(("ulp", "case"))
    }
    return pd.DataFrame(columns, index=pd.Index(functions, name="function"))


def _errors(rows: NDArray[Any]) -> Errors:
    """Yield (function, error of each component in ulp) for every public function of these rows."""
    from .. import exact

    for z in rows:
        yield from _of_logits(z)
        yield from _of_derivatives(z)
    pairs, labels = labelled(rows)
    for z, y, value, gradient in zip(
        pairs, labels, *cross_entropy_grad(pairs, labels, reduction="none"), strict=True
    ):
        yield "cross_entropy", exact.ulp_error(value, [exact.cross_entropy(z, int(y))])
        yield "cross_entropy_grad", exact.ulp_error(gradient, exact.cross_entropy_grad(z, int(y)))


def _of_logits(z: NDArray[Any]) -> Errors:
    from .. import exact

    yield "softmax", exact.ulp_error(softmax(z), exact.softmax(z))
    yield "log_softmax", exact.ulp_error(log_softmax(z), exact.log_softmax(z))
    yield "logsumexp", exact.ulp_error(logsumexp(z), [exact.logsumexp(z)])
    target = np.isfinite(z) / np.isfinite(z).sum()  # equal shares for the classes that are possible
    gradient = cross_entropy_grad(z, target, reduction="none")[1]
    largest = [max(map(abs, terms)) for terms in exact.cross_entropy_grad_terms(z, target)]
    yield (
        "cross_entropy_grad, soft",
        exact.ulp_error(gradient, exact.cross_entropy_grad(z, target), scale=largest),
    )


def _of_derivatives(z: NDArray[Any]) -> Errors:
    """Yield the errors of the derivatives; the Jacobian stands twice.

    Once it is held to the probabilities that it was given, and once, end to end, to the logits.
    """
    mpmath = load("mpmath", "the exact values are computed by mpmath")
    from .. import exact

    p, jacobian = softmax(z), exact.softmax_jacobian(z)
    tangent = np.linspace(-1.0, 1.0, len(z)).astype(z.dtype)
    with mpmath.workdps(exact.DIGITS):
        product = [
            mpmath.fsum(g * mpmath.mpf(float(t)) for g, t in zip(row, tangent, strict=True))
            for row in jacobian
        ]
        scale = exact.softmax(z)  # no |t_k| is above 1: p_k is the largest term
        spectrum = sorted(mpmath.eigsy(mpmath.matrix(jacobian), eigvals_only=True))
        norms: dict[Any, Any] = {
            "fro": mpmath.sqrt(mpmath.fsum(x * x for row in jacobian for x in row)),
            2: spectrum[-1],
        }
        norms[1] = norms[np.inf] = max(mpmath.fsum(map(abs, row)) for row in jacobian)
    computed = softmax_jacobian(p).ravel()
    yield "softmax_jacobian", exact.ulp_error(computed, _jacobian_of(p))
    yield "softmax_jacobian, from logits", exact.ulp_error(computed, [x for row in jacobian for x in row])
    yield "softmax_jvp", exact.ulp_error(softmax_jvp(p, tangent), product, scale=scale)
    yield "softmax_spectrum", exact.ulp_error(softmax_spectrum(p), spectrum)
    yield (
        "softmax_jacobian_norm",
        np.concatenate([exact.ulp_error(softmax_jacobian_norm(p, ord=o), [x]) for o, x in norms.items()]),
    )
    yield (
        "cross_entropy_hvp",
        exact.ulp_error(cross_entropy_hvp(z, 0, tangent, reduction="none"), product, scale=scale),
    )


def _jacobian_of(p: NDArray[Any]) -> list[Any]:
    """Return p_i (sum of the others) and -p_i p_j, row by row, of probabilities as they are given."""
    mpmath = load("mpmath", "the exact values are computed by mpmath")
    from .. import exact

    with mpmath.workdps(exact.DIGITS):
        given = [mpmath.mpf(float(x)) for x in p]
        total = mpmath.fsum(given)
        return [x * (total - x if i == j else -y) for i, x in enumerate(given) for j, y in enumerate(given)]
