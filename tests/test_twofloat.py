"""Error-free transformations against exact rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import ml_dtypes
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from softmax_lab import _twofloat

floats = st.floats(-1e100, 1e100).filter(lambda x: x == 0 or abs(x) > 1e-100)


@given(floats, floats)
def test_two_sum_and_two_product_are_exact(a: float, b: float) -> None:
    s, e = _twofloat.two_sum(np.array([a]), np.array([b]))
    assert Fraction(s[0]) + Fraction(e[0]) == Fraction(a) + Fraction(b)
    p, e = _twofloat.two_product(np.array([a]), b)
    assert Fraction(p[0]) + Fraction(e[0]) == Fraction(a) * Fraction(b)


@given(floats, st.floats(1e-50, 1e50))
def test_divide_has_twice_the_digits(a: float, b: float) -> None:
    q, low = _twofloat.divide(np.array([a]), np.zeros(1), b)
    exact = Fraction(a) / Fraction(b)
    assert abs(Fraction(q[0]) + Fraction(low[0]) - exact) <= abs(exact) * Fraction(1, 2**100)


@given(st.lists(st.floats(-1e10, 1e10), min_size=1, max_size=70))
def test_row_sum_is_nearly_exact_and_pure(x: list[float]) -> None:
    rows = np.array([x, x[::-1]])
    kept = rows.copy()
    total = _twofloat.row_sum(rows)
    np.testing.assert_array_equal(rows, kept)
    exact = float(sum(map(Fraction, x)))
    assert abs(total[0] - exact) <= np.spacing(abs(exact)) + 1e-26 * sum(map(abs, x))


def test_row_sum_carries_infinities() -> None:
    np.testing.assert_array_equal(
        _twofloat.row_sum(np.array([[1.0, np.inf, 2.0], [np.nan, 1.0, 1.0], [np.inf, -np.inf, 0.0]])),
        [np.inf, np.nan, np.nan],
    )


@given(st.floats(-3e38, 3e38))
def test_bfloat16_is_rounded_once(x: float) -> None:
    """To the nearest, ties to even, against the definition.

    The plain cast goes through float32 and can miss.
    """
    dtype = np.dtype(ml_dtypes.bfloat16)
    rounded = float(_twofloat.round_once(np.array([x]), dtype)[0])
    candidates = [float(np.uint32(bits << 16).view(np.float32)) for bits in _neighbours(x)]
    best = min(abs(Fraction(c) - Fraction(x)) for c in candidates if np.isfinite(c))
    assert abs(Fraction(rounded) - Fraction(x)) == best


def _neighbours(x: float) -> list[int]:
    bits = int(np.float32(x).view(np.uint32)) >> 16
    return [b for b in (bits - 1, bits, bits + 1) if 0 <= b < 1 << 16 and (b & 0x7FFF) < 0x7F80]


def test_the_plain_cast_would_round_twice() -> None:
    x = np.array([1.0 + 2.0**-8 + 2.0**-40])  # just above a tie of bfloat16; float32 drops the last part
    dtype = np.dtype(ml_dtypes.bfloat16)
    assert float(x.astype(dtype)[0]) == 1.0
    assert float(_twofloat.round_once(x, dtype)[0]) == 1.0 + 2.0**-7
