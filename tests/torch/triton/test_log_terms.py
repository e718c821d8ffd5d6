"""The logarithm of a row's loss in Triton, against mpmath."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import pytest
import torch
import triton
import triton.language as tl

from softmax_lab.torch.triton.log_terms import Sum, Temperature, joined, log_terms

INF, NAN = math.inf, math.nan


@triton.jit
def _terms(out, given, temperature):  # type: ignore[no-untyped-def]
    i = tl.arange(0, 1)
    peak, others, target = tl.load(given + i), tl.load(given + 1 + i), tl.load(given + 2 + i)
    high, low, slope = log_terms(peak, others, target, temperature)
    tl.store(out + i, high)
    tl.store(out + 1 + i, low)
    tl.store(out + 2 + i, slope)


@triton.jit  # type: ignore[untyped-decorator]
def _joined(out, given, N: tl.constexpr):  # type: ignore[no-untyped-def]
    i = tl.arange(0, N)
    found = joined(Sum(tl.load(given + i), tl.load(given + N + i), tl.load(given + 2 * N + i)))
    tl.store(out, found.peak)
    tl.store(out + 1, found.beyond)
    tl.store(out + 2, found.total)


def terms(peak: float, others: float, target: float, temperature: float = 1.0) -> list[float]:
    out = torch.empty(3, dtype=torch.float64)
    high = float(torch.tensor(temperature, dtype=torch.float32))
    argument: Any = Temperature(high, temperature - high, tl.constexpr(int(temperature != 1.0)))
    _terms[(1,)](out, torch.tensor([peak, others, target], dtype=torch.float32), argument)
    return out.tolist()


@pytest.mark.parametrize("temperature", [1.0, 0.07, 3.0])
@pytest.mark.parametrize("target", [-1e4, -40.0, -3.0, -0.7, 0.0, 0.3, 2.0, 4.25, 17.0, 87.5, 1e3, 1e30])
def test_the_logarithm_and_its_derivative(target: float, temperature: float) -> None:
    peak, others = 0.1, 1.7
    high, low, slope = terms(peak, others, target, temperature)
    with mpmath.workdps(60 if abs(target) < 1e3 else 4000):
        narrow = [mpmath.mpf(float(torch.tensor(x, dtype=torch.float32))) for x in (peak, others, target)]
        s = (narrow[0] - narrow[2]) / mpmath.mpf(temperature) + mpmath.log(narrow[1])
        # log softplus(s) is s - e^s / 2 + ..., and e^s below 10^-4000 is no number here
        loss = mpmath.exp(s) if s < -4000 else mpmath.log1p(mpmath.exp(s))
        exact = s if s < -4000 else mpmath.log(loss)
        derivative = mpmath.mpf(1) if s < -4000 else 1 / (1 + mpmath.exp(-s)) / loss
        assert abs(high - exact) <= 2.0**-52 * max(abs(float(s)), 1.0)
        # the division by the temperature is rounded, the rest is a two-float
        share = 1e-14 if temperature == 1.0 else 1.0
        assert abs((mpmath.mpf(high) + mpmath.mpf(low)) - exact) <= 1e-15 * max(1.0, share * abs(float(s)))
        assert slope == pytest.approx(float(derivative), rel=2e-15)


@pytest.mark.parametrize(
    ("row", "log", "slope"),
    [
        ((-INF, 0.0, 3.0), -INF, 0.0),  # alone
        ((-INF, 0.0, -INF), NAN, NAN),  # nothing above -inf
        ((1.0, 2.0, -INF), INF, NAN),  # impossible
        ((1.0, 2.0, INF), NAN, NAN),
        ((INF, NAN, 1.0), NAN, NAN),
        ((1.0, 2.0, NAN), NAN, NAN),
    ],
)
def test_rows_that_are_no_ordinary_ones(row: tuple[float, float, float], log: float, slope: float) -> None:
    high, low, found = terms(*row)
    assert high == pytest.approx(log, nan_ok=True)
    assert found == pytest.approx(slope, nan_ok=True)
    assert low == 0.0 or math.isnan(log)


@pytest.mark.parametrize(
    ("parts", "log"),
    [
        ([(-1000.0, 0.0, 2.0), (-1001.0, 0.0, math.e)], math.log(3.0) - 1000.0),
        ([(-INF, -INF, 0.0), (-3.0, 0.0, 1.0)], -3.0),
        ([(-INF, -INF, 0.0), (800.0, 0.0, 1.0)], 800.0),
        ([(1e38, 1e20, 1.0), (1e38, 1e20 + 1e5, 1.0)], 1e38),
        ([(INF, INF, INF), (-3.0, 0.0, 1.0)], INF),
        ([(NAN, NAN, NAN), (-3.0, 0.0, 1.0)], NAN),
        ([(-INF, -INF, 0.0), (-INF, -INF, 0.0)], -INF),
    ],
)
def test_parts_are_joined(parts: list[tuple[float, float, float]], log: float) -> None:
    out = torch.empty(3, dtype=torch.float64)
    _joined[(1,)](out, torch.tensor(parts, dtype=torch.float64).t().contiguous(), 2)
    peak, beyond, total = out.tolist()
    value = peak + (beyond + math.log(total)) if 0.0 < total < INF and abs(peak) < INF else peak + 0.0 * total
    value = -INF if total == 0.0 else INF if total == INF else value
    assert value == pytest.approx(log, rel=1e-15, nan_ok=True)
