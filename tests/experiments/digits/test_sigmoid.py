"""Objectives against SciPy and finite differences, minima that are minima, and scores counted by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import special
from scipy.optimize import check_grad

from experiments.digits import sigmoid as ds

PENALTY = 0.05


@pytest.fixture
def rows() -> ds.Rows:
    """Return 60 rows of 4 features and 3 classes that no line separates."""
    rng = np.random.default_rng(0)
    return ds.Rows(rng.normal(size=(60, 4)), rng.permutation(np.arange(60) % 3))


def test_sigmoid_and_its_loss_are_scipys() -> None:
    z = np.linspace(-700, 700, 281)
    on = np.arange(len(z)) % 2 == 0
    value, slope = ds.sigmoid_loss(z, on)
    np.testing.assert_allclose(ds.sigmoid(z), special.expit(z), rtol=1e-14)
    np.testing.assert_allclose(value, -special.log_expit(np.where(on, z, -z)), rtol=1e-14)
    np.testing.assert_allclose(slope, np.where(on, -special.expit(-z), special.expit(z)), rtol=1e-14)


def test_softmax_gradient_matches_finite_differences(rows: ds.Rows) -> None:
    weights = np.random.default_rng(1).normal(size=12)
    error = check_grad(
        lambda w: ds.softmax_objective(w.reshape(4, 3), rows, PENALTY)[0],
        lambda w: ds.softmax_objective(w.reshape(4, 3), rows, PENALTY)[1].ravel(),
        weights,
    )
    assert error < 1e-6


def test_sigmoid_gradient_matches_finite_differences(rows: ds.Rows) -> None:
    column, on = np.random.default_rng(1).normal(size=4), rows.labels == 1
    value, slope = (
        lambda w, part=part: ds.sigmoid_objective(w, rows.images, on, PENALTY)[part] for part in (0, 1)
    )
    assert check_grad(value, slope, column) < 1e-6


def test_fits_are_minima(rows: ds.Rows) -> None:
    softmax, sigmoids = (fit(rows, PENALTY) for fit in ds.FITS.values())
    assert softmax.shape == sigmoids.shape == (4, 3)
    assert np.abs(ds.softmax_objective(softmax, rows, PENALTY)[1]).max() < 1e-8
    for k in range(3):
        assert (
            np.abs(ds.sigmoid_objective(sigmoids[:, k], rows.images, rows.labels == k, PENALTY)[1]).max()
            < 1e-8
        )


def test_split_is_thirds_that_depend_on_the_seed() -> None:
    split, again, other = (ds.make_split(seed) for seed in (0, 0, 1))
    assert [len(part.labels) for part in split] == [599, 599, 599]
    assert (split.train.images[:, -1] == 1).all()
    np.testing.assert_array_equal(split.train.images, again.train.images)
    assert (split.train.images != other.train.images).any()
    seen = [{row.tobytes() for row in part.images} for part in split]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]


def test_readouts() -> None:
    z = np.array([[2.0, -1.0, 0.5]])
    sigma, odds = special.expit(z), np.exp(z)
    np.testing.assert_allclose(ds.sum_normalised(z), sigma / sigma.sum(), rtol=1e-14)
    np.testing.assert_allclose(ds.odds_normalised(z), odds / odds.sum(), rtol=1e-14)
    assert {model for model, _ in ds.READOUTS.values()} == ds.FITS.keys()


def test_score_by_hand() -> None:
    scores = ds.score(np.array([[0.8, 0.2], [0.6, 0.4]]), np.array([0, 1]))
    assert scores["accuracy"] == 0.5
    assert scores["nll"] == pytest.approx(-np.log([0.8, 0.4]).mean())
    # with two classes that add up to one, each row counts twice
    assert scores["binary_nll"] == pytest.approx(2 * scores["nll"])
    assert scores["ece"] == pytest.approx((0.2 + 0.6) / 2)
    assert scores["confidence"] == pytest.approx(0.7)
    assert np.isnan(ds.score(np.array([[0.8, 0.8]]), np.array([0]))["nll"])


def test_chosen_takes_the_least_validation_loss_of_each_readout() -> None:
    table = ds.sweep(seeds=(0,), penalties=(1e-3, 1.0))
    best = ds.chosen(table)
    assert sorted(best["readout"]) == sorted(ds.READOUTS)
    assert (best["part"] == "test").all()
    for readout in ds.READOUTS:
        loss = "binary_nll" if readout == "sigmoids" else "nll"
        held = table[(table["part"] == "validation") & (table["readout"] == readout)].set_index("penalty")[
            loss
        ]
        assert (best[best["readout"] == readout]["penalty"] == held.idxmin()).all()
    pooled = ds.held_out_probabilities(best)
    for _, row in best.iterrows():
        probs, labels = pooled[row["readout"]]
        pd.testing.assert_series_equal(
            pd.Series(ds.score(probs, labels)),
            row[["accuracy", "nll", "binary_nll", "ece", "confidence"]],
            check_names=False,
            check_dtype=False,
        )


def test_relabelling_touches_one_sigmoid_and_every_softmax_column(rows: ds.Rows) -> None:
    merged = ds.relabelled(rows, old=2, new=1)
    assert set(merged.labels) == {0, 1}
    softmax, sigmoids = (
        ds.column_changes(fit(rows, PENALTY), fit(merged, PENALTY)) for fit in ds.FITS.values()
    )
    assert sigmoids.shape == (2,)
    assert sigmoids[0] == 0
    assert min(sigmoids[1], softmax.min()) > 0.01


def test_column_changes() -> None:
    assert ds.column_changes(np.array([[3.0, 1.0], [4.0, 0.0]]), np.array([[3.0], [9.0]])).tolist() == [1.0]


def test_an_unknown_digit_is_told_from_known_ones() -> None:
    softmax, sigmoids = ds.unknown_class(left_out=4, seed=0, penalty=1e-2)
    assert (softmax["readout"], sigmoids["readout"]) == ("softmax", "sigmoids")
    for row in (softmax, sigmoids):
        assert 0.5 < row["auroc"] <= 1
        assert row["unknown"] < row["known"] <= 1
        assert row["unknown_above_half"] < row["known_above_half"] <= 1


def test_the_program_prints_its_tables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ds, "sweep", lambda sweep=ds.sweep: sweep(seeds=(0,), penalties=(1e-1,)))
    monkeypatch.setattr(ds, "unknown_classes", lambda penalty: pd.DataFrame(ds.unknown_class(4, 0, 1e-1)))
    ds.main()
    assert "odds / sum" in capsys.readouterr().out
