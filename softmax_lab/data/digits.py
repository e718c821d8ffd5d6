"""The 1,797 real 8x8 images of handwritten digits that scikit-learn carries: no download."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._extras import load

__all__ = ["digits"]


def digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return (images, labels): ``(1797, 64)`` pixels scaled to [0, 1], and ``(1797,)`` class indices 0..9.

    Raises
    ------
    ModuleNotFoundError
        Without scikit-learn, saying which extra installs it.

    Examples
    --------
    >>> from softmax_lab import data
    >>> images, labels = data.digits()
    >>> images.shape, labels.shape
    ((1797, 64), (1797,))

    References
    ----------
    E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository
    (1998).
    """
    bunch: Any = _load()
    return np.asarray(bunch.data, dtype=np.float64) / 16.0, np.asarray(bunch.target, dtype=np.int64)


def _load() -> Any:
    return load("sklearn.datasets", "the digits come with scikit-learn").load_digits()
