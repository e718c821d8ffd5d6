"""Two processes train like one."""

from __future__ import annotations

import pytest

from experiments import large_vocabulary as lv

TINY = lv.Setting(vocabulary=101, width=8, rows=16, steps=4, dtype="float64", chunk_bytes=8 * 51 * 5)


@pytest.mark.long
def test_two_processes_train_like_one() -> None:
    one, two = lv.train(TINY), lv.run(TINY, 2, threads=2)
    assert [record.step for record in two] == list(range(TINY.steps))
    assert lv.largest_difference(one, two) < 1e-14
    assert one[-1].loss != one[0].loss
    chunks = -(-TINY.rows // 5)
    assert {record.calls for record in one} == {0}
    assert {record.calls for record in two} == {1 + 2 * chunks + 1}
    # two reports, three numbers a row, the hidden gradient
    numbers = 6 * 2 + 3 * TINY.rows + TINY.rows * TINY.width
    assert {record.kilobytes for record in two} == {8 * numbers / 1e3}
