"""Distances in ulp: the spacing of floats, and the conventions where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from softmax_lab._ulp import float_format, spacing, ulp_distance

from .ulps import dtype_of

NAN, INF = float("nan"), float("inf")


def distance(
    computed: float, high: float, low: float = 0.0, dtype: Any = np.float64, **scale: float
) -> float:
    """Return the distance of one number."""
    size = {name: np.array([value]) for name, value in scale.items()}
    return float(ulp_distance([computed], np.array([high]), np.array([low]), dtype, **size)[0])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_a_format_is_that_of_its_type(dtype: str) -> None:
    form, kind = float_format(dtype_of(dtype)), dtype_of(dtype).type
    assert float(kind(1) + kind(form.eps)) == 1 + form.eps
    assert kind(1) + kind(form.eps / 2) == kind(1)
    assert float(kind(form.largest)) == form.largest
    assert float(kind(form.smallest)) == form.smallest


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("x", [1.0, 1.5, 0.1, 1023.0, 2.0**-10])
def test_one_ulp_is_the_spacing_of_floats(x: float, dtype: type) -> None:
    value = dtype(x)
    assert distance(np.nextafter(value, dtype(9999)), float(value), dtype=dtype) == pytest.approx(1.0)
    assert distance(value, float(value), dtype=dtype) == 0


def test_just_below_a_power_of_two_the_spacing_is_the_finer_one() -> None:
    assert distance(1.0, 1.0, 2.0**-60) == 2.0**-8
    assert distance(1.0, 1.0, -(2.0**-60)) == 2.0**-7


@pytest.mark.parametrize(
    ("computed", "high", "dtype", "expected"),
    [
        (NAN, NAN, np.float64, 0.0),
        (INF, INF, np.float64, 0.0),
        (-INF, -INF, np.float64, 0.0),
        (INF, -INF, np.float64, INF),
        (1.0, NAN, np.float64, INF),
        (NAN, 1.0, np.float64, INF),
        (INF, 1.0, np.float64, INF),
        (1e308, INF, np.float64, INF),
        (INF, 1e60, np.float32, 0.0),  # beyond the type
        (1e60, 1e60, np.float32, 0.0),  # a wider answer may be right
        (0.0, 2.0**-127, np.float32, 0.5),  # flushed to zero
        (0.0, 2.0**-160, np.float32, 2.0**-34),
    ],
)
def test_conventions_where_there_is_no_spacing(
    computed: float, high: float, dtype: type, expected: float
) -> None:
    assert distance(computed, high, dtype=dtype) == expected


def test_a_sum_that_cancels_is_measured_by_its_largest_term() -> None:
    assert distance(1.0, 1.0, 2.0**-52, scale=1024.0) == 2.0**-10
    assert distance(1.0, 1.0, 2.0**-52, scale=0.5) == 1.0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_spacing_of_values_is_numpys_and_never_below_the_smallest_normal_number(dtype: type) -> None:
    values: NDArray[Any] = np.array([1.0, -1.5, 0.1, 1023.0], dtype=dtype)
    np.testing.assert_array_equal(spacing(values, dtype), np.abs(np.spacing(values)).astype(np.float64))
    np.testing.assert_array_equal(spacing([0.0], dtype), [float_format(dtype).smallest])
