"""The rows of a run are paired and do not leak."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from experiments import long_tail as lt
from tests.experiments.long_tail.toy import TOY


def rows_of(part: tuple[Any, Any]) -> list[bytes]:
    return [row.tobytes() for row in part[0]]


def test_rows_are_the_same_for_every_loss_and_nested_over_rho() -> None:
    one, other, steep = (
        lt.make_problem(c) for c in (TOY, replace(TOY, loss="ldam"), replace(TOY, rho=100.0))
    )
    for a, b in zip((one.train, one.test), (other.train, other.test), strict=True):
        assert rows_of(a) == rows_of(b)
    assert set(rows_of(steep.train)) < set(rows_of(one.train))
    assert rows_of(steep.test) == rows_of(one.test)
    assert steep.counts[0] / steep.counts[-1] == 100
    assert rows_of(lt.make_problem(replace(TOY, seed=1)).train) != rows_of(one.train)


@pytest.mark.parametrize("loss", ["plain", "gradient_balanced_steered"])
def test_tuning_sees_training_rows_alone(loss: str) -> None:
    config = replace(TOY, loss=loss, rho=100.0)
    final, tuning = lt.make_problem(config), lt.make_problem(replace(config, part="tune"))
    whole = lt.make_problem(replace(TOY, rho=100.0))
    training = set(rows_of(whole.train))
    for problem in (final, tuning):
        for a, b in itertools.combinations((problem.train, problem.steer, problem.test), 2):
            assert not set(rows_of(a)) & set(rows_of(b))
        assert set(rows_of(problem.train)) | set(rows_of(problem.steer)) <= training
        assert (len(problem.steer[0]) > 0) == (loss == "gradient_balanced_steered")
    assert set(rows_of(tuning.test)) <= training
    assert not set(rows_of(final.test)) & training
    present = np.bincount(whole.train[1], minlength=10)
    held = np.bincount(tuning.test[1], minlength=10)
    np.testing.assert_array_equal(held, np.where(present > 1, np.maximum(np.rint(0.2 * present), 1), 0))


def test_noise_absent_classes_and_order() -> None:
    clean, noisy = lt.make_problem(TOY), lt.make_problem(replace(TOY, noise=0.3))
    assert rows_of(clean.train) == rows_of(noisy.train)
    changed = clean.train[1] != noisy.train[1]
    assert 0.2 < changed.mean() < 0.4
    np.testing.assert_array_equal(noisy.counts, np.bincount(noisy.train[1], minlength=10))
    np.testing.assert_array_equal(clean.test[1], noisy.test[1])
    absent = lt.make_problem(replace(TOY, absent=2))
    assert absent.counts[-2:].tolist() == [0, 0]
    assert absent.counts[:-2].tolist() == clean.counts[:-2].tolist()
    permuted = lt.make_problem(replace(TOY, permuted=True))
    assert permuted.counts[np.argsort(permuted.rank)].tolist() == clean.counts.tolist()
    assert permuted.counts.tolist() != clean.counts.tolist()
