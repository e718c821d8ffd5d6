"""The network's two numbers are found again."""

from __future__ import annotations

import pytest

from experiments import large_vocabulary as lv


def test_network_is_found_again() -> None:
    true = lv.Network(3e-5, 2e-9)
    made = [
        lv.Reduced(p, size, 1e6 * (2 * (p - 1) * true.latency + 2 * (p - 1) / p * size * true.a_byte))
        for p in (2, 4)
        for size in (64, 4096, 1 << 20)
    ]
    assert lv.fit_network(made) == pytest.approx(true)
