"""The digits are the real ones, scaled, and their absence is explained."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from softmax_lab.data import digits


def test_the_real_images() -> None:
    images, labels = digits()
    assert images.shape == (1797, 64)
    assert labels.shape == (1797,)
    assert (images.dtype.name, labels.dtype.name) == ("float64", "int64")
    assert (images.min(), images.max()) == (0.0, 1.0)
    # counts of the test part of the UCI data set, as its documentation gives them
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_pixels_are_the_seventeen_grey_levels_over_sixteen() -> None:
    images, _ = digits()
    np.testing.assert_array_equal(np.unique(images), np.arange(17) / 16)


def test_each_call_returns_its_own_arrays() -> None:
    images, labels = digits()
    images[:] = -1
    labels[:] = -1
    again, again_labels = digits()
    assert again.min() == 0
    assert again_labels.min() == 0


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(
        ModuleNotFoundError,
        match=r"come with scikit-learn; install it with: pip install 'softmax-lab\[scikit-learn\]'$",
    ):
        digits()
