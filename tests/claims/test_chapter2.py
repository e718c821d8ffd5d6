"""Evidence for the verdicts of chapter 2: what each remedy does, what it leaves, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import softmax_lab as sl
from experiments import speed, stability

EVERY_TYPE = pytest.mark.parametrize("dtype", stability.DTYPES)
Logits = st.lists(st.floats(-300, 300), min_size=2, max_size=6)
DIVISION, LSE, SHIFTED_LOG = (
    stability.SOFTMAX[name] for name in ("exp(z - max) / sum", "exp(z - lse)", "exp((z - max) - log sum)")
)
NAIVE = stability.SOFTMAX["exp(z) / sum"]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Overflow is the subject of this chapter."""
    with np.errstate(all="ignore"):
        yield


def _row(dtype: str, *logits: float) -> NDArray[Any]:
    return np.array([logits]).astype(dtype)


# 0.3


@EVERY_TYPE
def test_claim_0_3_overflow_gives_nan_not_large_gradients(dtype: str) -> None:
    over = stability.exp_range(dtype)[0]
    for y in (0, 1):
        gradient = stability.GRADIENT["naive p - y"](_row(dtype, 1.05 * over, 0.0), np.array([y]))
        assert np.isnan(gradient[0, 0])
    # inside the range, up to its edge
    for z in (stability.rows(dtype, offset=0.8 * over, gap=over / 2), stability.rows(dtype, gap=over)):
        gradient = stability.GRADIENT["naive p - y"](z, np.zeros(len(z), np.int64)).astype(float)
        assert (np.abs(gradient) <= 1).all()


@given(Logits, st.data())
def test_claim_0_3_exact_gradient_is_bounded(z: list[float], data: st.DataObject) -> None:
    gradient = sl.exact.cross_entropy_grad(z, data.draw(st.integers(0, len(z) - 1)))
    with mpmath.workdps(sl.exact.DIGITS):
        assert all(abs(entry) <= 1 for entry in gradient)
        assert mpmath.fsum(entry**2 for entry in gradient) <= 2


@EVERY_TYPE
def test_claim_0_3_infinite_only_through_the_probability(dtype: str) -> None:
    """Explosion: 1/p_y overflows for a subnormal p_y, though the maximum is subtracted.

    The closed form stays at -1.
    """
    over, _, zero = stability.exp_range(dtype)
    z, y = _row(dtype, 0.0, -(over - zero) / 2), np.array([1])
    assert 0 < DIVISION(z)[0, 1] < 1 / np.exp(over)
    through_log = stability.GRADIENT["shifted p, through log p"](z, y)[0].astype(float)
    assert through_log[0] == np.inf
    assert np.isnan(through_log[1])
    for name in ("shifted p - y", "softmax_lab"):
        assert np.allclose(stability.GRADIENT[name](z, y).astype(float), [[1, -1]])
    beyond = _row(dtype, 0.0, 1.05 * zero)
    assert np.isnan(stability.GRADIENT["shifted p, through log p"](beyond, y).astype(float)).all()


@EVERY_TYPE
def test_claim_0_3_vanishing_is_not_cured_by_the_shift(dtype: str) -> None:
    gap = -1.2 * np.log(stability.unit_roundoff(dtype))  # 9 in float16, 44 in float64
    z, y = _row(dtype, gap, 0.0), np.array([0])
    for name in ("naive p - y", "shifted p - y"):
        assert stability.GRADIENT[name](z, y)[0, 0] == 0
    ours = stability.GRADIENT["softmax_lab"](z, y)
    assert ours[0, 0] < 0
    assert stability.ulps("cross_entropy_grad", ours, z, y).max() < 4


# 2.1


@given(Logits)
def test_claim_2_1_the_shift_changes_nothing(z: list[float]) -> None:
    """The shift changes neither the probabilities nor a ratio of exponentials, e^(z_i - z_j).

    No difference is removed.
    """
    with mpmath.workdps(sl.exact.DIGITS):
        row = [mpmath.mpf(x) for x in z]
        shifted = [x - max(row) for x in row]
        for a, b in zip(sl.exact.softmax(row), sl.exact.softmax(shifted), strict=True):
            assert abs(a - b) <= a * mpmath.mpf(10) ** -350
        ratio = mpmath.exp(shifted[0]) / mpmath.exp(shifted[1])
        assert abs(ratio - mpmath.exp(row[0] - row[1])) <= ratio * mpmath.mpf(10) ** -350


@EVERY_TYPE
def test_claim_2_1_the_differences_are_still_there(dtype: str) -> None:
    """The counterexample: after the subtraction the exponentials are as far apart as before."""
    z = _row(dtype, 8.0, 0.0)
    e, shifted = np.exp(z).astype(float)[0], np.exp(z - z.max()).astype(float)[0]
    assert shifted[0] / shifted[1] == pytest.approx(e[0] / e[1], rel=8 * stability.unit_roundoff(dtype))
    assert shifted[0] / shifted[1] > 2000


@EVERY_TYPE
@pytest.mark.parametrize("offset", [-1e4, -100.0, 100.0, 1e4])
def test_claim_2_1_the_shift_removes_overflow(dtype: str, offset: float) -> None:
    z = stability.rows(dtype, offset=offset)
    p = DIVISION(z)
    assert np.isfinite(p.astype(float)).all()
    assert stability.ulps("softmax", p, z).max() < 20
    if not stability.exp_range(dtype)[2] < offset < stability.exp_range(dtype)[0]:
        assert np.isnan(NAIVE(z).astype(float)).any(axis=1).all()


@EVERY_TYPE
def test_claim_2_1_any_finite_row(dtype: str) -> None:
    largest = float(np.finfo(dtype).max) if dtype != "bfloat16" else 2.0**127 * (2 - 2.0**-7)
    for z in ([largest, largest], [-largest, -largest], [largest, -largest]):
        p = DIVISION(np.array([z]).astype(dtype)).astype(float)
        assert p.sum() == 1


# 2.2


@EVERY_TYPE
def test_claim_2_2_as_written_it_overflows_like_the_quotient(dtype: str) -> None:
    over, article = stability.exp_range(dtype)[0], stability.LOG_SOFTMAX["log(exp(z) / sum)"]
    for share in (0.5, 0.9, 0.98, 1.02, 1.5):
        z = _row(dtype, share * over, 0.0)
        broken = not np.isfinite(article(z).astype(float)).all()
        assert broken == np.isnan(NAIVE(z).astype(float)).any() == (share > 1)


@EVERY_TYPE
@pytest.mark.parametrize("name", ["z - lse", "(z - max) - log sum", "softmax_lab"])
def test_claim_2_2_on_paper_and_shifted_it_holds(dtype: str, name: str) -> None:
    over = stability.exp_range(dtype)[0]
    for x in (1.5 * over, 20 * over):
        log_p = stability.LOG_SOFTMAX[name](_row(dtype, x, 0.0))[0].astype(float)
        assert log_p == pytest.approx([0, -x], rel=0.01, abs=1e-6)


@EVERY_TYPE
def test_claim_2_2_the_other_logarithms_fail(dtype: str) -> None:
    """Without the shift the sum is infinite.

    The logarithm of a shifted softmax is -inf where the probability underflows.
    """
    over, _, zero = stability.exp_range(dtype)
    assert np.isneginf(
        stability.LOG_SOFTMAX["z - log sum"](_row(dtype, 1.05 * over, 0.0)).astype(float)
    ).all()
    z = _row(dtype, 0.0, 1.05 * zero)
    assert np.isneginf(stability.LOG_SOFTMAX["log(exp(z - max) / sum)"](z).astype(float)[0, 1])
    assert stability.LOG_SOFTMAX["(z - max) - log sum"](z).astype(float)[0, 1] == pytest.approx(
        1.05 * zero, rel=0.01
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(3))
def test_claim_2_2_where_the_maximum_is_added_back_matters(dtype: str, seed: int) -> None:
    """Division against exp(z - lse) at an offset of 1e4, measured, and between the bounds."""
    z = stability.rows(dtype, offset=1e4, seed=seed)
    division, shifted_log, lse = (
        float(stability.ulps("softmax", variant(z), z).max()) for variant in (DIVISION, SHIFTED_LOG, LSE)
    )
    assert lse > 500 * division
    assert lse > 200 * shifted_log
    bound = stability.bounds(z)
    assert bound.lse.max() > 100 * bound.division.max()


# 2.3


@EVERY_TYPE
@pytest.mark.parametrize("temperature", [0.5, 2.0, 8.0])
def test_claim_2_3_temperature_only_moves_the_overflow(dtype: str, temperature: float) -> None:
    end = temperature * stability.exp_range(dtype)[0]
    assert np.isfinite(stability.tempered(_row(dtype, 0.97 * end, 0.0), temperature).astype(float)).all()
    assert np.isnan(stability.tempered(_row(dtype, 1.03 * end, 0.0), temperature).astype(float)[0, 0])
    assert np.isfinite(sl.softmax(_row(dtype, 1.03 * end, 0.0), temperature=temperature).astype(float)).all()


@given(st.lists(st.floats(-20, 20), min_size=2, max_size=5), st.floats(1.5, 20))
def test_claim_2_3_temperature_is_another_function(z: list[float], temperature: float) -> None:
    """It smooths, as the article says: the entropy rises, and equals the old one only for equal logits."""
    sharp, smooth = sl.exact.softmax(z), sl.exact.softmax(z, temperature)
    with mpmath.workdps(sl.exact.DIGITS):
        before, after = (-mpmath.fsum(p * mpmath.log(p) for p in probs) for probs in (sharp, smooth))
        if max(z) - min(z) > 1e-6:
            assert after > before
            assert max(abs(a - b) for a, b in zip(sharp, smooth, strict=True)) > 1e-9
        else:
            assert after >= before - mpmath.mpf(10) ** -350


# 9.1


def test_claim_9_1_the_more_accurate_formula_is_not_the_slower_one() -> None:
    """Of the formulas that survive, the division is the most accurate.

    In no stored timing is it slower by more than noise.
    """
    table = stability.read_timings().query("function == 'softmax'")
    cost = table.pivot_table(index="variant", columns=["rows", "classes", "dtype"], values="to_copy")
    for name in ("exp(z - lse)", "exp((z - max) - log sum)"):
        assert (cost.loc["exp(z - max) / sum"] < 1.05 * cost.loc[name]).all()
    for dtype in ("float32", "float64"):
        z = np.concatenate([stability.rows(dtype, offset=offset) for offset in (-1e4, -100.0, 30.0, 1e3)])
        division, shifted_log, lse = (
            float(stability.ulps("softmax", variant(z), z).max()) for variant in (DIVISION, SHIFTED_LOG, LSE)
        )
        assert division < shifted_log < lse


def test_claim_9_1_the_last_digits_cost_time() -> None:
    """The package's corrections are dear as passes over arrays.

    In a compiled loop they cost less, and are not free: beside it stands the same loop without them, from one
    run.
    """
    table = stability.read_timings().query("function == 'softmax'")
    cost = table.pivot_table(index="variant", columns=["rows", "classes", "dtype"], values="to_copy")
    division = cost.loc["exp(z - max) / sum"]
    assert (cost.loc["softmax_lab, NumPy"] > 2 * division).all()
    assert (division > cost.loc["exp(z) / sum"]).all()  # the maximum is not free
    curve = speed.rounding_curve()
    without, ours = (curve.xs(name, level="precision") for name in ("shifted", "softmax_lab"))
    price = 1 / without["of ours"]
    assert (f"{price.min():.1f}", f"{price.max():.1f}") == ("1.4", "2.0")  # as the ledger says
    assert (ours[["max_ulp", "max_ulp_confident"]] <= without[["max_ulp", "max_ulp_confident"]]).all(
        axis=None
    )
    assert (ours["max_ulp_confident"] < 1).all()
    for dtype, offset in (("float32", 40.0), ("float64", 300.0)):
        z = stability.rows(dtype, offset=offset, gap=2 * offset)
        error = {
            name: float(stability.ulps("softmax", variant(z), z).max())
            for name, variant in stability.TIMED["softmax"].items()
        }
        assert error["exp(z - max) / sum"] > 8 * max(error["softmax_lab"], error["softmax_lab, NumPy"])


@pytest.mark.parametrize(("dtype", "half"), [("float32", 40.0), ("float64", 300.0)])
def test_claim_9_1_inside_its_range_the_naive_formula_is_the_more_accurate(dtype: str, half: float) -> None:
    """No subtraction, nothing to round: the shift costs digits where it was not needed."""
    z = stability.rows(dtype, offset=half, gap=2 * half)
    naive, division = (float(stability.ulps("softmax", variant(z), z).max()) for variant in (NAIVE, DIVISION))
    assert naive < 8 < division
