"""The SVM is optimal; descent with an exact gradient finds its direction, two classes never lose it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import minimize, nnls

from experiments.lost_gradient import margin


def test_the_svm_is_that_of_a_general_solver() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 6)
    features = 3 * np.eye(3)[labels] + random.normal(size=(18, 3))
    rows = margin.differences(features, labels)
    found = margin.hard_margin(features, labels)
    other = minimize(
        lambda w: w @ w / 2,
        np.ones(9),
        jac=lambda w: w,
        constraints={"type": "ineq", "fun": lambda w: rows @ w - 1, "jac": lambda w: rows},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    np.testing.assert_allclose(found.ravel(), other.x, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_svm_of_the_wine_meets_the_conditions_of_an_optimum(classes: int) -> None:
    problem = margin.make_problem(classes)
    assert problem.features.shape[::2] == (5, 14)
    assert not torch.equal(problem.labels[0], problem.labels[1])
    for features, labels, svm in zip(problem.features, problem.labels, problem.svm, strict=True):
        rows = margin.differences(features.double().numpy(), labels.numpy())
        kept = rows @ svm.numpy().ravel()
        assert kept.min() == pytest.approx(1.0, abs=1e-5)  # the features are rounded to float32
        # the weights are a sum of the rows that are kept just so, with shares >= 0
        _, distance = nnls(rows[kept < 1 + 1e-4].T, svm.numpy().ravel())
        assert distance < 1e-5
        assert float(svm.sum(0).abs().max()) < 1e-9


def test_rows_that_cannot_be_separated_are_refused() -> None:
    features, labels = np.array([[1.0], [2.0], [3.0]]), np.array([0, 1, 0])
    with pytest.raises(ValueError, match="separable"):
        margin.hard_margin(features, labels)
    with pytest.raises(ValueError, match="got 4"):
        margin.make_problem(4)


def test_constraints_are_differences_of_logits() -> None:
    random = np.random.default_rng(1)
    features, labels, w = random.normal(size=(4, 2)), np.array([0, 2, 1, 0]), random.normal(size=(3, 2))
    z = features @ w.T
    expected = [z[i, y] - z[i, k] for i, y in enumerate(labels) for k in range(3) if k != y]
    np.testing.assert_allclose(margin.differences(features, labels) @ w.ravel(), expected)


def run(loss: str, classes: int, steps: int, *, normalised: bool = True) -> pd.DataFrame:
    rate = 0.1 if normalised else 0.5
    problem = margin.make_problem(classes, (0, 1))
    return pd.DataFrame(margin.descend(loss, problem, normalised=normalised, rate=rate, steps=steps))


def test_a_step_is_the_gradient_over_its_length() -> None:
    problem = margin.make_problem(3, (0,))
    own = problem.start[0].double().requires_grad_()
    z = problem.features[0].double() @ own.T
    torch.nn.functional.cross_entropy(z, problem.labels[0]).backward()
    assert own.grad is not None
    expected = own.detach() - 0.1 * own.grad / own.grad.norm()
    row = run("exact", 3, 1).iloc[0]
    assert row["length"] == pytest.approx(float(expected.norm()), rel=1e-5)


def test_which_gradients_are_lost() -> None:
    last = {loss: run(loss, 3, 150).query("step == 150") for loss in margin.COMPARED}
    lost = {loss: bool((rows["zero_share"] > 0).all()) for loss, rows in last.items()}
    assert lost["torch"]
    assert not lost["exact"]
    assert not lost["mended"]
    for rows in last.values():
        assert rows["margin"].le(1 + 1e-6).all()
        assert rows["cosine"].le(1 + 1e-9).all()
    both = [last[loss]["cosine"].to_numpy() for loss in ("exact", "mended", "log_mean")]
    np.testing.assert_allclose(both[1], both[0], atol=2e-3)
    np.testing.assert_allclose(both[2], both[0], atol=2e-3)


def test_places_to_look_end_with_the_last_step() -> None:
    assert margin.stops(1) == [1]
    assert margin.stops(5)[-1] == 5
    assert len(margin.stops(20_000)) < 60
    for loss in ("torch",):
        assert sorted(set(run(loss, 2, 5)["step"])) == margin.stops(5)


def test_a_job_is_run_as_it_says() -> None:
    job = {"classes": 2, "descent": "plain", "rate": 0.5, "steps": 3, "loss": "torch"}
    rows = list(margin.work(job))
    assert {row["seed"] for row in rows} == set(range(5))
    assert set(rows[0]) == {*margin.TABLE.place, *margin.TABLE.measures}
    first = [row["cosine"] for row in rows if row["seed"] < 2]
    assert first == pytest.approx(list(run("torch", 2, 3, normalised=False)["cosine"]), rel=1e-6)
