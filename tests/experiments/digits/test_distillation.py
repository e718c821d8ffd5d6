"""Splits, objectives and the choice of the temperature; a short run that repeats."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest

import softmax_lab as sl
from experiments.digits import distillation as dd
from experiments.digits import mlp

SMALL = dd.Config(
    seeds=(0, 1),
    student_rows=(100, 30),
    train=100,
    validation=60,
    teacher_hidden=12,
    steps=25,
    temperatures=(1.0, 4.0),
)


@pytest.fixture(scope="module")
def problems() -> dd.Students:
    return dd.students(SMALL)


@pytest.fixture(scope="module")
def table(problems: dd.Students) -> pd.DataFrame:
    return dd.run_all(SMALL, problems)


def test_split_uses_every_row_once() -> None:
    split = dd.make_split(0, 897, 400)
    assert [len(rows.labels) for rows in split] == [897, 400, 500]
    everything = np.concatenate([rows.images for rows in split])
    assert sorted(map(bytes, everything)) == sorted(map(bytes, sl.data.digits()[0]))
    assert not np.array_equal(split.train.labels, dd.make_split(1, 897, 400).train.labels)


def test_minibatches_stay_within_the_visible_rows_and_repeat() -> None:
    config = dataclasses.replace(SMALL, steps=200)
    drawn, again = (np.stack(list(dd.minibatches(config, [0, 0], [100, 3]))) for _ in range(2))
    np.testing.assert_array_equal(drawn, again)
    assert drawn.shape == (200, 2, config.batch)
    assert [np.unique(drawn[:, p]).tolist() for p in range(2)] == [list(range(100)), [0, 1, 2]]


def test_problems_are_every_seed_with_every_number_of_rows(problems: dd.Students) -> None:
    assert [*zip(problems.visible, problems.seeds, strict=True)] == [*itertools.product((100, 30), (0, 1))]
    assert problems.teacher_logits.shape == (4, 100, 10)
    np.testing.assert_array_equal(problems.teacher_logits[0], problems.teacher_logits[2])


def test_objectives(problems: dd.Students) -> None:
    labels, spec, factor = dd.objective("smoothed", 1.0, problems, SMALL)
    assert (labels.shape, spec, factor) == ((4, 100), sl.losses.label_smoothing(SMALL.smoothing), 1.0)
    assert dd.objective("tempered", 4.0, problems, SMALL)[1:] == (sl.LossSpec(temperature=4.0), 1.0)
    assert dd.objective("distilled, no T^2", 4.0, problems, SMALL)[1:] == (sl.LossSpec(temperature=4.0), 1.0)
    soft, spec, factor = dd.objective("distilled", 4.0, problems, SMALL)
    np.testing.assert_allclose(soft, sl.softmax(problems.teacher_logits / 4.0), rtol=1e-12)
    assert (spec, factor) == (sl.LossSpec(temperature=4.0), 16.0)


def test_every_setting_is_run_once_for_every_problem(table: pd.DataFrame) -> None:
    assert set(table["method"]) == set(dd.METHODS)
    assert len(table) == 4 * len(dd.settings(SMALL)) == 4 * 6
    assert not table.duplicated(["student_rows", "seed", "method", "temperature"]).any()
    assert table[["validation_error", "test_error"]].stack().between(0, 1).all()


def test_runs_repeat(table: pd.DataFrame, problems: dd.Students) -> None:
    again = dd.run_all(dataclasses.replace(SMALL, temperatures=(4.0,)), problems, methods=("distilled",))
    first = table[(table["method"] == "distilled") & (table["temperature"] == 4.0)].reset_index(drop=True)
    pd.testing.assert_frame_equal(first, again)


def test_students_start_alike_and_learn(problems: dd.Students, table: pd.DataFrame) -> None:
    untrained = dd.fit("alone", 1.0, problems, dataclasses.replace(SMALL, steps=0))
    assert untrained["test_loss"][0] != untrained["test_loss"][1]
    same = dd.fit("distilled", 1.0, problems, dataclasses.replace(SMALL, steps=0))
    pd.testing.assert_series_equal(untrained["test_loss"], same["test_loss"])
    assert (
        table.loc[table["method"] == "alone", "test_loss"].to_numpy()
        < 0.95 * untrained["test_loss"].to_numpy()
    ).all()


def test_the_validation_rows_choose_the_temperature() -> None:
    rows = [
        (2.0, 0.3, 0.9),
        (4.0, 0.2, 0.8),
        (8.0, 0.25, 0.1),
    ]  # temperature, validation loss, test error: the best test error must not win
    table = pd.DataFrame(rows, columns=["temperature", "validation_loss", "test_error"]).assign(
        student_rows=100, seed=0, method="distilled"
    )
    alone = pd.DataFrame([(1.0, 0.5, 0.7)], columns=["temperature", "validation_loss", "test_error"])
    picked = dd.chosen(
        pd.concat([table, alone.assign(student_rows=100, seed=0, method="alone")], ignore_index=True)
    )
    assert picked.loc[(100, "distilled", 0), "temperature"] == 4.0
    assert dd.against_alone(picked, "test_error", 100, "distilled").tolist() == pytest.approx([0.1])


def test_measure_against_a_loop(problems: dd.Students) -> None:
    network = dd.stacked([mlp.initial_network(seed, 5) for seed in (0, 1)])
    rows = [split.test for split in problems.splits[:2]]
    measured = dd.measure(network, rows, temperature=2.0)
    for p, (images, labels) in enumerate(rows):
        logits = mlp.forward(mlp.Network(*(parameter[p] for parameter in network)), images)[1]
        assert measured["error"][p] == pytest.approx((logits.argmax(axis=1) != labels).mean())
        assert measured["loss"][p] == pytest.approx(
            -np.mean(sl.log_softmax(logits / 2)[np.arange(len(labels)), labels])
        )


def test_spread() -> None:
    assert dd.spread([1.0, 2.0, 6.0]) == "3.0 (1.0 to 6.0)"
    assert dd.spread([0.123, 0.125], 2) == "0.12 (0.12 to 0.12)"


def test_how_often() -> None:
    assert dd.how_often([16.0, 8.0, 16.0]) == "8 (1), 16 (2)"


@pytest.mark.parametrize("true_temperature", [0.4, 1.0, 3.0])
def test_fitted_temperature_undoes_a_known_one(true_temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2.0, size=(20_000, 5))
    labels = (sl.softmax(logits).cumsum(axis=1) < rng.uniform(size=(len(logits), 1))).sum(axis=1)
    fitted = dd.fit_temperature(logits * true_temperature, labels)
    assert fitted == pytest.approx(true_temperature, rel=0.03)
    q = sl.softmax(logits * true_temperature, temperature=fitted)
    scaled = logits * true_temperature
    assert np.mean(np.sum(q * scaled, axis=1)) == pytest.approx(
        np.mean(scaled[np.arange(len(labels)), labels]), rel=1e-4
    )


def test_fitted_temperature_of_rows_that_are_all_right_is_the_bound() -> None:
    assert dd.fit_temperature(np.eye(3), np.arange(3), bounds=(0.05, 10.0)) == pytest.approx(0.05, rel=1e-3)


def test_overconfident_network_gives_logits_of_the_held_out_rows() -> None:
    splits, validation, test = dd.overconfident(dataclasses.replace(SMALL, steps=300), hidden=16)
    assert validation.shape == (2, 60, 10)
    assert test.shape == (2, 1797 - 160, 10)
    assert np.mean(test.argmax(axis=-1) == np.stack([split.test.labels for split in splits])) > 0.6


def test_the_program_prints_every_method(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], table: pd.DataFrame
) -> None:
    monkeypatch.setattr(dd, "run_all", lambda: table)
    dd.main()
    printed = capsys.readouterr().out
    assert all(method in printed for method in dd.METHODS)
