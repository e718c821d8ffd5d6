"""The small network's gradient against finite differences, and runs that repeat."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

import softmax_lab as sl
from experiments import digits_balance as db

SMALL = db.Config(rho=10.0, hidden=8, steps=20)


@pytest.mark.parametrize("loss", ["plain", "balanced_softmax", "class_balanced"])
def test_gradient_matches_finite_differences(loss: str) -> None:
    rng = np.random.default_rng(0)
    network = db.initial_network(seed=0, hidden=5, inputs=4)
    images, labels = rng.normal(size=(7, 4)), rng.integers(10, size=7)
    spec = db.make_spec(loss, np.arange(10, 0, -1))
    _, gradient = db.loss_and_gradient(network, images, labels, spec)
    for parameter, slope in zip(network, gradient, strict=True):
        for index in np.ndindex(parameter.shape):
            numeric = _central_difference(network, parameter, index, lambda: db.loss_and_gradient(network, images, labels, spec)[0])
            assert slope[index] == pytest.approx(numeric, rel=1e-6, abs=1e-9)


def _central_difference(network: db.Network, parameter: db.Array, index: tuple[int, ...], loss: object, step: float = 1e-5) -> float:
    centre = parameter[index]
    values = []
    for shift in (step, -step):
        parameter[index] = centre + shift
        values.append(loss())  # type: ignore[operator]
    parameter[index] = centre
    return float((values[0] - values[1]) / (2 * step))


def test_runs_repeat_and_seeds_differ() -> None:
    first, again = db.run(SMALL), db.run(SMALL)
    pd.testing.assert_frame_equal(first, again)
    other = db.run(db.Config(rho=10.0, hidden=8, steps=20, seed=1))
    assert not np.allclose(first["logit_sum"], other["logit_sum"])


def test_a_table_has_a_row_for_every_checkpoint_and_class() -> None:
    table = db.run(SMALL)
    assert table["step"].unique().tolist() == [0, 1, 2, 5, 10, 20]
    assert (table.groupby("step")["class"].apply(list) == [*map(list, itertools.repeat(range(10), 6))]).all()
    ends = table["step"].isin((0, 20))
    assert (table["probe_recall"].notna() == ends).all()
    assert not table[ends].isna().any(axis=None)
    assert not table.drop(columns="probe_recall").isna().any(axis=None)
    assert table["recall"].between(0, 1).all()
    assert table.loc[ends, "probe_recall"].between(0, 1).all()


def test_classes_are_named_by_frequency() -> None:
    for seed in range(3):
        split = db.make_split(db.Config(rho=100.0, seed=seed))
        assert (np.diff(split.counts) <= 0).all()
        np.testing.assert_array_equal(np.bincount(split.train[1]), split.counts)
        assert split.counts[0] / split.counts[-1] == 100


def test_held_out_rows_are_halved_within_each_class() -> None:
    split = db.make_split(SMALL)
    for _, labels in (split.probe, split.test):
        np.testing.assert_array_equal(np.bincount(labels), np.full(10, 37))
    rows = [{image.tobytes() for image in images} for images, _ in (split.train, split.probe, split.test)]
    for one, other in itertools.combinations(rows, 2):
        assert not one & other


def test_rho_and_loss_share_the_start_and_the_test_rows() -> None:
    start, other = (next(db.train(c, db.make_split(c)))[1] for c in (SMALL, db.Config(rho=100.0, hidden=8, loss="balanced_softmax")))
    for one, two in zip(start, other, strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(db.make_split(SMALL).test[0], db.make_split(db.Config(rho=100.0)).test[0])


def test_an_epoch_takes_every_row_once() -> None:
    draws = db.batches(np.random.default_rng(0), rows=10, size=4)
    for _ in range(2):
        epoch = np.concatenate(list(itertools.islice(draws, 3)))
        np.testing.assert_array_equal(np.sort(epoch), np.arange(10))


@pytest.mark.parametrize(("steps", "marks"), [(0, [0]), (1, [0, 1]), (20, [0, 1, 2, 5, 10, 20]), (30, [0, 1, 2, 5, 10, 20, 30])])
def test_checkpoints(steps: int, marks: list[int]) -> None:
    assert db.checkpoints(steps) == marks


def test_training_lowers_the_loss() -> None:
    split = db.make_split(SMALL)
    losses = [db.loss_and_gradient(network, *split.train, sl.LossSpec())[0] for _, network in db.train(SMALL, split)]
    assert losses[-1] < 0.9 * losses[0]


def test_recall_per_class() -> None:
    assert db.recall(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0])).tolist() == [0.5, 1.0, 0.0]


def test_the_program_prints_the_ratios(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(db, "grid", lambda: [SMALL])
    db.main()
    assert "logit_sum" in capsys.readouterr().out
