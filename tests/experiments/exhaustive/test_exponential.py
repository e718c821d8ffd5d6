"""The pieces of the exponential's arguments make up the whole, and one of each is tried."""

from __future__ import annotations

import pytest

pytest.importorskip("numba", reason="the checks are of the compiled loops")

import numpy as np

from experiments.exhaustive import CHECKS, exponential

EXPONENTIALS = [name for name, check in CHECKS.items() if check.part == "exponential"]


@pytest.mark.parametrize("name", EXPONENTIALS)
def test_a_piece_of_each_exponential(name: str) -> None:
    found = CHECKS[name].run(CHECKS[name].pieces * 3 // 5)["exp"]
    assert found.arguments > 0
    assert found.worst < 2.0**-33
    d = float(found.where)
    assert exponential.LOWEST <= d <= 0


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
