"""The slowest process counts."""

from __future__ import annotations

from experiments.large_vocabulary.command import slowest


def test_the_slowest_process_counts() -> None:
    assert slowest([[[3.0, 2.0, 5.0]], [[1.0, 4.0, 6.0]]]) == (1.0, 2.0, 5.0)
