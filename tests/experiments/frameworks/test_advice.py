"""The demonstrations of the article's advice."""

from __future__ import annotations

import numpy as np

import softmax_lab as sl
from experiments import frameworks


def test_smoothing_lowers_confidence_and_reaches_the_label_noise() -> None:
    setting = frameworks.Digits(train_rows=100, hidden=16, steps=60, seeds=(0,))
    plain, smooth = frameworks.smoothing_runs((0.0, 0.3), setting)
    assert (plain.eps, smooth.eps) == (0.0, 0.3)
    assert smooth.confidence < plain.confidence
    assert smooth.gap < plain.gap
    assert 0 <= plain.ece <= 1
    noisy = frameworks.smoothing_runs((0.0,), setting._replace(noise=0.9))[0]
    assert noisy.accuracy < plain.accuracy - 0.1
    assert frameworks.smoothing_runs((0.0,), setting)[0] == plain


def test_weighted_optimum_is_a_distribution() -> None:
    ours, terms = frameworks.weighted_optimum(np.array([1.0, 3.0]), 0, 0.5)
    np.testing.assert_allclose(ours, [0.75, 0.25])
    np.testing.assert_allclose(terms, [0.5, 0.5])


def test_half_precision_loses_most_where_the_offset_is_large() -> None:
    near, far = frameworks.half_precision(0.0), frameworks.half_precision(100.0)
    assert (far.loc["logits stored in it"] > near.loc["logits stored in it"]).all()
    assert (near.loc["computed in float32 from them"] < 1e-6).all()


def test_free_logits_descend_and_keep_their_mean() -> None:
    path = frameworks.free_logits(np.array([3.0, 5.0]), 0, sl.LossSpec(), steps=20, learning_rate=0.5)
    assert path.shape == (21, 2)
    loss = sl.cross_entropy(path, np.zeros(21, np.int64), reduction="none")
    assert (np.diff(loss) < 0).all()
    np.testing.assert_allclose(path.mean(axis=1), 4.0)
