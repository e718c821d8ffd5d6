"""The pieces of the exponential's arguments make up the whole, and one of each is tried."""

from __future__ import annotations

import pytest

pytest.importorskip("numba", reason="the checks are of the compiled loops")

import numpy as np

from experiments.exhaustive import CHECKS, exponential

SINGLES = "float32 in sixteen lanes"
EXPONENTIALS = [name for name, check in CHECKS.items() if check.part == "exponential" and name != SINGLES]


@pytest.mark.parametrize("name", EXPONENTIALS)
def test_a_piece_of_each_exponential(name: str) -> None:
    found = CHECKS[name].run(CHECKS[name].pieces * 3 // 5)["exp"]
    assert found.arguments > 0
    assert found.worst < 2.0**-33
    d = float(found.where)
    assert exponential.LOWEST <= d <= 0


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.99])
def test_a_piece_in_sixteen_lanes(share: float) -> None:
    check = CHECKS[SINGLES]
    found = check.run(int(check.pieces * share))["exp in sixteen lanes"]
    assert found.arguments > 0
    assert found.worst < 2.0**-25.5


def test_every_logit_of_sixteen_lanes_is_met() -> None:
    pieces = CHECKS[SINGLES].pieces
    ends = [
        exponential._every_logit(piece)[[0, -1]] for piece in (0, pieces // 2 - 1, pieces // 2, pieces - 1)
    ]
    assert ends[0][0] == 0
    assert ends[2][0] == 0
    assert np.signbit(ends[2][0])
    assert ends[1][1] == np.nextafter(np.float32(8192), np.float32(0)) == -ends[3][1]
    following = exponential._every_logit(1)[0]
    assert following == np.nextafter(ends[0][1], np.float32(np.inf))


@pytest.mark.parametrize("make", [exponential._float32, exponential._float16_grid])
def test_the_pieces_make_up_the_whole(make: object) -> None:
    name = {exponential._float32: "float32", exponential._float16_grid: "float16 differences"}[make]  # type: ignore[index]
    first, last = make(0), make(CHECKS[name].pieces - 1)  # type: ignore[operator]
    assert first[0] == 0
    assert last[-1] == exponential.LOWEST
    second = make(1)  # type: ignore[operator]
    assert first[-1] > second[0]
    assert (np.diff(first) < 0).all()


def test_every_pair_of_bfloat16_is_met_once() -> None:
    x = exponential._bfloat16()
    assert len(x) == exponential._BFLOAT16_COUNT
    assert CHECKS["bfloat16 differences"].pieces * exponential._PEAKS == len(x)
    piece = 1500
    peaks = x[piece * exponential._PEAKS : (piece + 1) * exponential._PEAKS]
    d = x[None, :] - peaks[:, None]
    np.testing.assert_array_equal(
        np.sort(exponential._bfloat16_differences(piece)), np.sort(d[(d <= 0) & (d >= exponential.LOWEST)])
    )
