"""The cost formula, by hand."""

from __future__ import annotations

import pytest

from experiments import large_vocabulary as lv

RATES, NETWORK = lv.Rates(operations=1e9, logits=1e8, updates=1e7), lv.Network(latency=1e-4, a_byte=1e-9)


def test_step_seconds_by_hand() -> None:
    """There are N = 10 rows, D = 4, and K = 1000 classes on P = 5 workers.

    That is 200 classes each, 800 bytes a row of logits, and two rows a chunk.
    """
    parts = lv.step_seconds(lv.Problem(1000, 5, 10, 4, chunk_bytes=1600), RATES, NETWORK)
    assert parts == pytest.approx(
        {
            "products": 6 * 10 * 4 * 200 / 1e9,
            "loss": 10 * 200 / 1e8,
            "optimizer": 200 * 4 / 1e7,
            "row numbers": 8 * (2 * 5 * 1e-4 + 24 * 10 / 5 * 1e-9),
            "hidden gradient": 8 * (1e-4 + 4 * 10 * 4 / 5 * 1e-9),
        }
    )


def test_one_worker_sends_nothing() -> None:
    parts = lv.step_seconds(lv.Problem(1000, 1, 10, 4), RATES, NETWORK)
    assert parts["row numbers"] == parts["hidden gradient"] == 0
    assert lv.replicated_gradient_seconds(lv.Problem(1000, 1, 10, 4), NETWORK) == 0


def test_memory_of_a_worker() -> None:
    parts = lv.worker_bytes(lv.Problem(1000, 5, 10, 4, chunk_bytes=1600))
    assert parts == {"weight": 3200, "gradient": 3200, "optimizer": 3200, "chunk": 1600, "hidden rows": 320}
