"""A slice of the exhaustive checks, that what they call right is right, and what the stored outcome says."""

from __future__ import annotations

from pathlib import Path

import mpmath
import numpy as np
import pytest

pytest.importorskip("numba", reason="the checks are of the compiled loops")

import softmax_lab as sl
from experiments import exhaustive
from experiments.exhaustive import CHECKS, Tally

BITS = np.arange(1 << 16, dtype=np.uint16)
EXPONENTIALS = [name for name, check in CHECKS.items() if check.part == "exponential"]


@pytest.mark.parametrize("name", EXPONENTIALS)
def test_a_piece_of_each_exponential(name: str) -> None:
    found = CHECKS[name].run(CHECKS[name].pieces * 3 // 5)["exp"]
    assert found.arguments > 0
    assert found.worst < 2.0**-33
    d = float(found.where)
    assert exhaustive.LOWEST <= d <= 0


@pytest.mark.parametrize("make", [exhaustive._float32, exhaustive._float16_grid])
def test_the_pieces_make_up_the_whole(make: object) -> None:
    name = {exhaustive._float32: "float32", exhaustive._float16_grid: "float16 differences"}[make]  # type: ignore[index]
    first, last = make(0), make(CHECKS[name].pieces - 1)  # type: ignore[operator]
    assert first[0] == 0
    assert last[-1] == exhaustive.LOWEST
    second = make(1)  # type: ignore[operator]
    assert first[-1] > second[0]
    assert (np.diff(first) < 0).all()


def test_every_pair_of_bfloat16_is_met_once() -> None:
    x = exhaustive._bfloat16()
    assert len(x) == exhaustive._BFLOAT16_COUNT
    assert CHECKS["bfloat16 differences"].pieces * exhaustive._PEAKS == len(x)
    piece = 1500
    peaks = x[piece * exhaustive._PEAKS : (piece + 1) * exhaustive._PEAKS]
    d = x[None, :] - peaks[:, None]
    np.testing.assert_array_equal(
        np.sort(exhaustive._bfloat16_differences(piece)), np.sort(d[(d <= 0) & (d >= exhaustive.LOWEST)])
    )


def test_a_slice_of_the_pairs() -> None:
    """Logits of every kind against some of every kind: softmax and its gradient are rounded rightly, the
    others all but.
    """
    some = np.concatenate(
        [BITS[7::4001], np.array([0x0000, 0x8000, 0x7C00, 0xFC00, 0x7E00, 0xFFFF], np.uint16)]
    )
    found = exhaustive.check_pairs(some, BITS[5::257])
    rows = len(some) * len(BITS[5::257])
    assert {kind: tally.arguments for kind, tally in found.items()} == dict.fromkeys(exhaustive.KINDS, rows)
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
    found = exhaustive.check_pairs(z, z)
    assert found["softmax"].misrounded == 3
    assert found["gradient"].misrounded == 0


def test_the_middles_of_float16() -> None:
    value, below, above = exhaustive._tables()
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
    found = exhaustive.check_pairs(z[1:], z[:1])["log_softmax"]
    exact = exhaustive.exact_entry(-1.0, 2048.0, 2)
    with mpmath.workprec(4000):
        assert exact <= -2049
    assert found.ties == found.misrounded
    assert found.misrounded in (0, 1)  # the middle may be rounded to either side


@pytest.mark.parametrize(
    ("entry", "value"),
    [(0, 0.2689414213699951), (3, -0.3132616875182228), (4, 1.3132616875182228), (8, 0.2689414213699951)],
)
def test_exact_entries(entry: int, value: float) -> None:
    assert float(exhaustive.exact_entry(0.0, 1.0, entry)) == pytest.approx(value, rel=1e-15)


def test_nearest() -> None:
    assert exhaustive.is_nearest(np.float16(1), mpmath.mpf(1) + mpmath.mpf(2) ** -12)
    assert not exhaustive.is_nearest(np.float16(1), mpmath.mpf(1) + mpmath.mpf(2) ** -10)
    assert exhaustive.is_nearest(np.float32(0), mpmath.mpf(2) ** -151)


def test_a_stopped_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def piece(n: int) -> dict[str, Tally]:
        tried.append(n)
        if len(tried) == 20:
            raise KeyboardInterrupt
        return {"exp": Tally(1, 1, n % 2, 0, float(n), str(n))}

    check = exhaustive.Check("exponential", "numbers", "relative", 40, piece)
    monkeypatch.setitem(CHECKS, "float32", check)
    out = tmp_path / "outcome.csv"
    with pytest.raises(KeyboardInterrupt):
        exhaustive.run(["float32"], 1, out)
    table = exhaustive.run(["float32"], 1, out)
    assert [n for n in tried if n < 16] == list(range(16))  # batches of eight: the third was lost
    row = table.iloc[0]
    assert (row["arguments"], row["misrounded"], row["worst"], float(row["where"])) == (40, 20, 39.0, 39.0)
    assert [path.name for path in tmp_path.iterdir()] == ["outcome.csv"]
    again = exhaustive.run(["float32"], 1, out)  # in place of the old row
    assert len(again) == 1


def test_the_stored_outcome() -> None:
    """What chapter 10 says of it."""
    table = exhaustive.read()
    assert list(dict.fromkeys(table["check"])) == list(CHECKS)
    by = table.set_index(["check", "result"])
    assert by.loc[("float32", "exp"), "arguments"] == exhaustive._FLOAT32_COUNT
    assert by.loc[("float16 differences", "exp"), "arguments"] == exhaustive._GRID_COUNT
    pairs = table[table["check"] == "float16 pairs"]
    assert list(pairs["result"]) == list(exhaustive.KINDS)
    assert (pairs["arguments"] == 1 << 32).all()
    assert (table[table["part"] == "exponential"]["worst"] < 2.0**-33).all()
    assert (pairs["worst"] < 0.503).all()
    assert (table["ties"] <= table["misrounded"]).all()
    assert table["processor"].str.len().gt(0).all()
    shown = exhaustive.summary(table)
    assert shown["largest error"].str.match(r"^(2\^-\d+\.\d\d|0\.\d+ ulp)$").all()
