"""Runs that repeat, splits that do not overlap, and the summaries."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

import softmax_lab as sl
from experiments.digits import balance as db
from experiments.digits import mlp

SMALL = db.Config(rho=10.0, hidden=8, steps=20)


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


@pytest.mark.parametrize("loss", ["plain", "class_balanced", "gradient_balanced"])
def test_seeds_side_by_side_are_each_as_alone(loss: str) -> None:
    configs = db.grid((10.0,), (0, 1, 2), (loss,), hidden=8, steps=20)
    splits = [db.make_split(config) for config in configs]
    *_, (step, networks) = db.train_together(configs, splits)
    assert step == 20
    for config, split, network in zip(configs, splits, networks, strict=True):
        *_, (_, alone) = db.train(config, split)
        for one, two in zip(network, alone, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-12)
    tables = pd.concat([db.run(config) for config in configs], ignore_index=True)
    pd.testing.assert_frame_equal(db.run_all(configs, progress=False), tables, rtol=1e-7)


def test_only_seeds_run_side_by_side() -> None:
    configs = db.grid((10.0, 20.0), (0, 1), ("plain", "ldam"))
    assert [len(seeds) for seeds in db.together(configs)] == [2, 2, 2, 2]
    splits = [db.make_split(config) for config in configs[:3:2]]
    with pytest.raises(AssertionError):
        next(db.train_together(configs[:3:2], splits))


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
    start, other = (
        next(db.train(c, db.make_split(c)))[1]
        for c in (SMALL, db.Config(rho=100.0, hidden=8, loss="balanced_softmax"))
    )
    for one, two in zip(start, other, strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(db.make_split(SMALL).test[0], db.make_split(db.Config(rho=100.0)).test[0])


def test_an_epoch_takes_every_row_once() -> None:
    draws = db.batches(np.random.default_rng(0), rows=10, size=4)
    for _ in range(2):
        epoch = np.concatenate(list(itertools.islice(draws, 3)))
        np.testing.assert_array_equal(np.sort(epoch), np.arange(10))


@pytest.mark.parametrize(
    ("steps", "marks"), [(0, [0]), (1, [0, 1]), (20, [0, 1, 2, 5, 10, 20]), (30, [0, 1, 2, 5, 10, 20, 30])]
)
def test_checkpoints(steps: int, marks: list[int]) -> None:
    assert db.checkpoints(steps) == marks


def test_training_lowers_the_loss() -> None:
    split = db.make_split(SMALL)
    losses = [
        mlp.loss_and_gradient(network, *split.train, sl.LossSpec())[0]
        for _, network in db.train(SMALL, split)
    ]
    assert losses[-1] < 0.9 * losses[0]


def test_recall_per_class() -> None:
    assert db.recall(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0])).tolist() == [0.5, 1.0, 0.0]


def test_geometric_mean_over_the_seeds() -> None:
    index = pd.MultiIndex.from_product(
        [[10.0], ["plain"], [0, 1], [0, 20]], names=["rho", "loss", "seed", "step"]
    )
    means = db.geometric_mean(pd.DataFrame({"logit_sum": [1.0, 2.0, 4.0, 8.0]}, index=index))
    assert means.loc[(10.0, "plain")]["logit_sum"].to_dict() == pytest.approx({0: 2.0, 20: 4.0})


def test_tail_mean_takes_the_rarest_classes_of_every_run() -> None:
    keys = {"rho": 10.0, "loss": "plain", "step": 20}
    table = pd.concat(
        pd.DataFrame({**keys, "seed": seed, "class": range(10), "recall": np.arange(10.0) ** 2 + seed})
        for seed in (0, 1)
    )
    assert db.tail_mean(table, "recall").xs(
        (10.0, "plain", 20), level=("rho", "loss", "step")
    ).to_dict() == pytest.approx({0: (49 + 64 + 81) / 3, 1: (50 + 65 + 82) / 3})
    assert db.tail_mean(table, "recall", classes=1).tolist() == [81.0, 82.0]


def test_tail_recalls_are_of_the_right_runs() -> None:
    def runs(rho: float, start: float) -> pd.DataFrame:
        return pd.concat(
            pd.DataFrame(
                {
                    **{"rho": rho, "loss": loss, "seed": seed, "step": step, "class": range(10)},
                    **{"recall": start + step / 100, "probe_recall": start + step / 100 + 0.01},
                }
            )
            for loss in ("plain", "ldam")
            for seed in (3, 4)
            for step in (0, 20)
        )

    found = db.tail_recalls(runs(100.0, 0.5), runs(1.0, 0.7), 100.0)
    assert found.index.tolist() == [3, 4]
    assert found.loc[3].to_dict() == pytest.approx(
        {"own": 70, "new": 71, "balanced, own": 90, "balanced, new": 91, "untrained, new": 51}
    )


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(98.4, "98"), (10.0, "10"), (3.44, "3.4"), (1.0, "1.0"), (0.3449, "0.34"), (0.0381, "0.038")],
)
def test_figures(ratio: float, text: str) -> None:
    assert db.figures(ratio) == text


def test_spread_is_the_geometric_mean_and_the_range() -> None:
    assert db.spread(pd.Series([0.5, 2.0, 27.0])) == "3.0 (0.5 to 27)"


def test_the_program_prints_the_ratios(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(db, "grid", lambda: [SMALL])
    db.main()
    assert "logit_sum" in capsys.readouterr().out
