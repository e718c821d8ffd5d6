"""Shares of rows and the reference of a running sum, against mpmath."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch

from softmax_lab.torch._machinery.log_rows import Reference, WeightedLogs, shares_of, weighted_logs

INF, NAN = math.inf, math.nan


def logs(*rows: float, low: float = 0.0) -> WeightedLogs:
    high = torch.tensor(rows, dtype=torch.float64)
    return WeightedLogs(high, torch.where(high.isfinite(), low, 0.0))


def no_weights(count: int) -> torch.Tensor:
    return torch.zeros(count, dtype=torch.float64)


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6, 1e15, 1e38])
def test_the_value_and_the_shares(scale: float) -> None:
    """The rounding errors of the logarithms count: two rows differ by nothing else."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(9, generator=generator, dtype=torch.float64) - scale
    rows[4] = rows[2]
    low = torch.randn(9, generator=generator, dtype=torch.float64) * math.ulp(scale) / 4
    found = shares_of(WeightedLogs(rows, low), no_weights(9), "nan")
    with mpmath.workdps(80):
        exact = [mpmath.mpf(float(a)) + mpmath.mpf(float(b)) for a, b in zip(rows, low, strict=True)]
        peak = max(exact)
        powers = [mpmath.exp(x - peak) for x in exact]
        total = mpmath.fsum(powers)
        assert found.value.item() == pytest.approx(float(peak + mpmath.log(total / 9)), rel=1e-15)
        expected = [float(power / total) for power in powers]
    assert found.rho.tolist() == pytest.approx(expected, rel=1e-13, abs=1e-300)


def test_rows_that_do_not_count() -> None:
    log_omega = torch.tensor([0.0, -INF, math.log(3.0)], dtype=torch.float64)
    high = torch.tensor([-5.0, NAN, -5.0], dtype=torch.float64)
    found = shares_of(weighted_logs(high, torch.zeros_like(high), log_omega), log_omega, "nan")
    assert found.value.item() == pytest.approx(-5.0, rel=1e-15)
    assert found.rho.tolist() == pytest.approx([0.25, 0.0, 0.75], rel=1e-15)


@pytest.mark.parametrize("count", [0, 3])
def test_nothing_counts(count: int) -> None:
    log_omega = torch.full((count,), -INF, dtype=torch.float64)
    zero = no_weights(count)
    for empty, value in (("nan", NAN), ("zero", 0.0)):
        found = shares_of(weighted_logs(zero, zero, log_omega), log_omega, empty)
        assert found.value.item() == pytest.approx(value, nan_ok=True)
        assert found.rho.tolist() == [0.0] * count


@pytest.mark.parametrize(
    ("rows", "value", "rho"),
    [
        ((-INF, -INF), -INF, (0.0, 0.0)),
        ((-INF, -3.0), -3.0 - math.log(2.0), (0.0, 1.0)),
        ((INF, -3.0), INF, (NAN, 0.0)),
        ((NAN, -3.0, -INF), NAN, (NAN, NAN, 0.0)),
    ],
)
def test_singular_rows(rows: tuple[float, ...], value: float, rho: tuple[float, ...]) -> None:
    found = shares_of(logs(*rows), no_weights(len(rows)), "nan")
    assert found.value.item() == pytest.approx(value, nan_ok=True)
    assert found.rho.tolist() == pytest.approx(list(rho), nan_ok=True)


@pytest.mark.parametrize("scale", [1.0, 700.0, 1e9, 1e13, 1e38])
def test_a_reference_rises_by_powers_of_two(scale: float) -> None:
    """However the rows come, the sum relative to the last reference is that of all rows."""
    generator = torch.Generator().manual_seed(1)
    rows = (torch.rand(40, generator=generator, dtype=torch.float64) - 1.0) * scale
    low = torch.randn(40, generator=generator, dtype=torch.float64) * math.ulp(scale) / 4
    reference, total, rises = Reference(), 0.0, 0
    for start in range(0, 40, 4):
        chunk = WeightedLogs(rows[start : start + 4], low[start : start + 4])
        reference, shrink = reference.raised(chunk)
        rises += shrink != 1.0
        if scale < 1e12:
            assert shrink == 0.0 or math.frexp(shrink)[0] == 0.5
        factors = reference.factors(chunk)
        assert float(factors.max()) <= 1.0 + 1e-9
        total = total * shrink + float(factors.sum())
    assert rises > 1
    with mpmath.workdps(80):
        exact = [mpmath.mpf(float(a)) + mpmath.mpf(float(b)) for a, b in zip(rows, low, strict=True)]
        base = mpmath.mpf(reference.high) + mpmath.mpf(reference.low)
        expected = float(mpmath.fsum(mpmath.exp(x - base) for x in exact))
    assert total == pytest.approx(expected, rel=1e-12)


def test_rows_without_a_finite_logarithm_are_no_reference() -> None:
    none, factor = Reference().raised(logs(-INF, -INF))
    assert none == Reference()
    assert factor == 1.0
    assert none.factors(logs(-INF)).tolist() == [0.0]
    reference, _ = none.raised(logs(NAN, -4.0, INF))
    assert reference == Reference(-4.0, 0.0)
    assert reference.raised(logs(INF, NAN, -INF)) == (reference, 1.0)
    assert reference.factors(logs(NAN, -4.0, INF, -INF)).tolist() == pytest.approx(
        [NAN, 1.0, INF, 0.0], nan_ok=True
    )
