"""The text, the two ways to train, and the cost formula.

The stored results hold what the page says of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist

from experiments import large_vocabulary as lv

TINY = lv.Setting(vocabulary=101, width=8, rows=16, steps=4, dtype="float64", chunk_bytes=8 * 51 * 5)
RATES, NETWORK = lv.Rates(operations=1e9, logits=1e8, updates=1e7), lv.Network(latency=1e-4, a_byte=1e-9)


def test_tokens_follow_their_predecessor_half_of_the_time() -> None:
    tokens = lv.text(20_000, 50, seed=1)
    pairs = np.zeros((50, 50))
    np.add.at(pairs, (tokens[:-1], tokens[1:]), 1)
    often = pairs.sum(1) > 200
    share = pairs[often].max(1) / pairs[often].sum(1)
    assert np.all((share > 0.4) & (share < 0.75))
    np.testing.assert_array_equal(tokens, lv.text(20_000, 50, seed=1))


def test_zipf_is_a_law_with_a_tail() -> None:
    p = lv.zipf(1000)
    assert p.sum() == pytest.approx(1)
    assert p[0] == pytest.approx(10 * p[9])


def test_floor_is_the_entropy_of_the_law() -> None:
    p, k = lv.zipf(7), 7
    rows = [0.5 * np.eye(k)[s] + 0.5 * p for s in range(k)]
    assert lv.floor(k) == pytest.approx(np.mean([-(row * np.log(row)).sum() for row in rows]))


@pytest.mark.slow
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


def test_processes_that_fail_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lv, "ROOT", tmp_path)  # where there is nothing to run
    with pytest.raises(RuntimeError, match="1 processes ended with status"):
        lv.in_processes(1, 1, "train", {}, alone=True)


def test_network_is_found_again() -> None:
    true = lv.Network(3e-5, 2e-9)
    made = [
        lv.Reduced(p, size, 1e6 * (2 * (p - 1) * true.latency + 2 * (p - 1) / p * size * true.a_byte))
        for p in (2, 4)
        for size in (64, 4096, 1 << 20)
    ]
    assert lv.fit_network(made) == pytest.approx(true)


def test_step_seconds_by_hand() -> None:
    """N = 10 rows, D = 4, K = 1000 classes on P = 5 workers: 200 classes each, 800 bytes a row of logits, two
    rows a chunk.
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


@pytest.fixture
def alone() -> Iterator[None]:
    """A group of this process only."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    yield
    dist.destroy_process_group()


def test_what_the_formula_needs_is_measured(alone: None) -> None:
    assert min(lv.measure_rates(classes=100, rows=4, width=4, repeats=1)) > 0
    (step,) = lv.time_steps([51], rows=4, width=4, chunk_bytes=1, repeats=1)
    assert step.problem == lv.Problem(51, 1, 4, 4, 1)
    times = lv.time_all_reduce([64, 4096], repeats=1)
    assert [time[:2] for time in times] == [(1, 64), (1, 4096)]
    assert all(row[-1] > 0 for row in (step, *times))


def test_the_slowest_process_counts() -> None:
    assert lv.slowest([[[3.0, 2.0, 5.0]], [[1.0, 4.0, 6.0]]]) == (1.0, 2.0, 5.0)


def test_table_comes_back(tmp_path: Path) -> None:
    rows = [lv.Record(2, "float32", 0, 10.8, 0.25, 100.0, 18, 12.5, 0.01)]
    lv.write(tmp_path / "table.csv", rows)
    assert lv.read(tmp_path / "table.csv", lv.Record) == rows


@pytest.mark.skipif(
    not lv.TRAINING.is_file(), reason="the results are not there: python -m experiments.large_vocabulary"
)
def test_stored_runs_agree() -> None:
    records = lv.read(lv.TRAINING, lv.Record)
    for dtype, steps, limit in (("float32", 300, 1e-5), ("float64", 30, 1e-13)):
        one, two = (
            [r for r in records if (r.processes, r.dtype) == (processes, dtype)] for processes in (1, 2)
        )
        assert len(one) == len(two) == steps
        assert 0 < lv.largest_difference(one, two) < limit
        assert two[-1].peak_mb < one[-1].peak_mb
    assert min(r.loss for r in records) > lv.floor(lv.Setting.vocabulary)
