"""What is said of a wrong number: two that differ never look equal."""

from __future__ import annotations

import math

import numpy as np
import pytest

from softmax_lab.audit.values import Exact
from softmax_lab.audit.verdict import Evidence, diagnose, told_apart


@pytest.mark.parametrize(
    ("one", "other", "digits", "texts"),
    [
        (1.56819e-37, 1.56820e-37, 6, ("1.56819e-37", "1.5682e-37")),
        (1.568190e-37, 1.568193e-37, 6, ("1.56819e-37", "1.568193e-37")),
        (4.0003, 4.0, 3, ("4.0003", "4")),
        (1.0, math.nextafter(1.0, 2.0), 4, ("1", "1.0000000000000002")),
        (-0.25, 0.25, 4, ("-0.25", "0.25")),
        (2.0, 2.0, 4, ("2", "2")),
    ],
)
def test_two_numbers_take_the_digits_that_tell_them_apart(
    one: float, other: float, digits: int, texts: tuple[str, str]
) -> None:
    assert told_apart(one, other, digits) == texts
    assert told_apart(other, one, digits) == texts[::-1]


def evidence(
    computed: float,
    high: float,
    low: float = 0.0,
    *,
    function: str = "softmax",
    ulps: float = 9.0,
    limit: float = 4.0,
) -> Evidence:
    exact = Exact(np.array([[high, 0.7]]), np.array([[low, 0.0]]))
    return Evidence(
        function, np.float32, np.array([[computed, 0.7]]), exact, np.array([[ulps, 0.0]]), limit, whole=False
    )


def test_a_rounding_error_shows_in_the_digits() -> None:
    assert "1.56819e-37 where 1.568193e-37 is exact" in diagnose(evidence(1.568190e-37, 1.568193e-37))


def test_an_error_below_a_float_shows_in_what_is_added_to_it() -> None:
    assert "0.10000000000000001 where 0.10000000000000001 - 3e-18 is exact" in diagnose(
        evidence(0.1, 0.1, -3e-18, ulps=0.3, limit=0.01)
    )


def test_a_confident_class_shows_in_the_digits() -> None:
    words = diagnose(evidence(-1.0000001e-7, -1.0000002e-7, function="log_softmax"))
    assert "is returned as -1.0000001e-07; its true value is -1.0000002e-07" in words


def test_an_error_just_over_the_limit_does_not_look_like_the_limit() -> None:
    assert diagnose(evidence(0.1, 0.1000003, ulps=4.00002)).startswith("4.00002 ulp off")
