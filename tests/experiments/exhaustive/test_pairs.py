"""A slice of the pairs is tried, and wrong results are seen."""

from __future__ import annotations

import pytest

pytest.importorskip("numba", reason="the checks are of the compiled loops")

import mpmath
import numpy as np

import softmax_lab as sl
from experiments.exhaustive import pairs

BITS = np.arange(1 << 16, dtype=np.uint16)


def test_a_slice_of_the_pairs() -> None:
    """Logits of every kind against some of every kind.

    Softmax and its gradient are rounded rightly, the others all but.
    """
    some = np.concatenate(
        [BITS[7::4001], np.array([0x0000, 0x8000, 0x7C00, 0xFC00, 0x7E00, 0xFFFF], np.uint16)]
    )
    found = pairs.check_pairs(some, BITS[5::257])
    rows = len(some) * len(BITS[5::257])
    assert {kind: tally.arguments for kind, tally in found.items()} == dict.fromkeys(pairs.KINDS, rows)
    for kind, tally in found.items():
        assert tally.worst < 0.503, kind
        assert tally.misrounded < 0.02 * tally.results, kind
    assert found["softmax"].misrounded == found["gradient"].misrounded == 0


def test_wrong_results_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """One float16 to the side, a NaN where there is none, and none where there is one: each is counted."""
    real = sl.softmax
    z = np.array([0x3C00, 0x4000, 0x7E00], np.uint16)  # 1, 2, NaN

    def shifted(values: np.ndarray) -> np.ndarray:
        p = real(values)
        p[1, 0] = np.nextafter(p[1, 0], np.float16(1))  # of [1, 2]
        p[3, 1] = np.nan  # of [2, 1]
        p[8, 0] = 0.5  # of [NaN, NaN]
        return np.asarray(p)

    monkeypatch.setattr(sl, "softmax", shifted)
    found = pairs.check_pairs(z, z)
    assert found["softmax"].misrounded == 3
    assert found["gradient"].misrounded == 0


def test_the_middles_of_float16() -> None:
    value, below, above = pairs._tables()
    finite = np.isfinite(value)
    ordered = np.sort(value[finite])
    assert len(ordered) == 2 * 31 * 1024
    for h in (0x0000, 0x8000, 0x0001, 0x03FF, 0x0400, 0x3C00, 0xBC00, 0x7BFF, 0xFBFF):
        x = value[h]
        # nearest means nearer than the neighbours' middles, on both sides
        with np.errstate(over="ignore"):
            assert np.float16(np.nextafter(above[h], -np.inf)) == x
            assert np.float16(np.nextafter(below[h], np.inf)) == x
            assert np.float16(np.nextafter(above[h], np.inf)) != x
            assert np.float16(np.nextafter(below[h], -np.inf)) != x
    assert above[0x7BFF] == below[0x7C00] == 65520
    assert np.isnan(value[~finite & (np.abs(value) != np.inf)]).all()


def test_a_tie_is_what_float64_cannot_tell() -> None:
    """log p = -2049 - 1e-890 lies beyond the middle of two float16; in float64 it is the middle itself."""
    z = np.array([2048.0, -1.0], np.float16).view(np.uint16)
    found = pairs.check_pairs(z[1:], z[:1])["log_softmax"]
    exact = pairs.exact_entry(-1.0, 2048.0, 2)
    with mpmath.workprec(4000):
        assert exact <= -2049
    assert found.ties == found.misrounded
    assert found.misrounded in (0, 1)  # the middle may be rounded to either side


@pytest.mark.parametrize(
    ("entry", "value"),
    [(0, 0.2689414213699951), (3, -0.3132616875182228), (4, 1.3132616875182228), (8, 0.2689414213699951)],
)
def test_exact_entries(entry: int, value: float) -> None:
    assert float(pairs.exact_entry(0.0, 1.0, entry)) == pytest.approx(value, rel=1e-15)
