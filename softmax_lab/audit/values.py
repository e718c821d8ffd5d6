"""Exact values of the audited functions, from the mpmath oracle, as (high, low) float64 pairs.

They are the same for every implementation and cost seconds, so ``exact_values.npz`` carries them, keyed by a
digest of function, arguments and recipe version. Whatever is not there (another NumPy that draws other random
rows, a user's own rows) is computed on the spot. ``python tools/exact_values.py`` writes the file anew; a
test recomputes a sample.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..spec import LossSpec

__all__ = ["FUNCTIONS", "Exact", "exact_values"]

FUNCTIONS = ("softmax", "log_softmax", "cross_entropy", "cross_entropy_grad")
_RECIPE = "1"  # of the functions below: another recipe makes the stored values unknown
_FILE = "exact_values.npz"

Rows = NDArray[Any]


class Exact(NamedTuple):
    """Exact values as an unevaluated sum, and the largest term of each where its terms cancel truly."""

    high: NDArray[np.float64]
    low: NDArray[np.float64]
    scale: NDArray[np.float64] | None = None


def exact_values(function: str, z: Rows, y: Rows | None = None, spec: LossSpec = LossSpec()) -> Exact:
    """Return the exact result of ``function`` on rows (N, K), with labels (N,) or target distributions (N,
    K).

    A row with NaN, with +inf or with nothing above -inf has NaN everywhere: what every framework returns, and
    the only honest answer. float64 arguments stand for exactly themselves.
    """
    wide = np.ascontiguousarray(z, dtype=np.float64)
    target = (
        None if y is None else np.ascontiguousarray(y, dtype=np.int64 if y.dtype.kind in "iu" else np.float64)
    )
    key = digest(function, wide, target, spec)
    if key in _stored():
        return _unpack(_stored()[key])
    if key not in _computed:
        _computed[key] = _pack(_compute(function, wide, target, spec))
    return _unpack(_computed[key])


_computed: dict[str, NDArray[np.float64]] = {}


def digest(function: str, z: Rows, y: Rows | None, spec: LossSpec) -> str:
    """Name a calculation by everything that it depends on."""
    parts = [_RECIPE, function, spec.to_json(), str(z.shape), "" if y is None else f"{y.dtype}{y.shape}"]
    data = "|".join(parts).encode() + z.tobytes() + (b"" if y is None else y.tobytes())
    return hashlib.sha256(data).hexdigest()[:24]


@cache
def _stored() -> dict[str, NDArray[np.float64]]:
    path = resources.files(__package__).joinpath(_FILE)
    if not path.is_file():
        return {}
    with resources.as_file(path) as file, np.load(file) as archive:
        return dict(archive)


def _pack(exact: Exact) -> NDArray[np.float64]:
    return np.stack([part for part in exact if part is not None])


def _unpack(packed: NDArray[np.float64]) -> Exact:
    return Exact(*packed)


def _compute(function: str, z: Rows, y: Rows | None, spec: LossSpec) -> Exact:
    """Ask the oracle row by row."""
    targets: list[Any] = [None] * len(z) if y is None else [int(t) if y.ndim == 1 else t for t in y]
    rows = [_row(function, row, target, spec) for row, target in zip(z, targets, strict=True)]
    shape = z.shape[:1] if function == "cross_entropy" else z.shape
    return Exact(
        *(None if part[0] is None else np.stack(part).reshape(shape) for part in zip(*rows, strict=True))  # type: ignore[arg-type]
    )


def _row(function: str, row: NDArray[np.float64], target: Any, spec: LossSpec) -> tuple[Any, Any, Any]:
    """Return (high, low, scale) of one row."""
    from .. import exact  # mpmath is needed here only

    length = 1 if function == "cross_entropy" else len(row)
    cancels = function == "cross_entropy_grad" and (np.ndim(target) == 1 or spec != LossSpec())
    if np.isnan(row).any() or row.max() in (np.inf, -np.inf):
        return np.full(length, np.nan), np.zeros(length), np.zeros(length) if cancels else None
    calls: dict[str, Callable[[], Any]] = {
        "softmax": lambda: exact.softmax(row),
        "log_softmax": lambda: exact.log_softmax(row),
        "cross_entropy": lambda: [exact.cross_entropy(row, target, spec)],
        "cross_entropy_grad": lambda: exact.cross_entropy_grad(row, target, spec),
    }
    scale = None
    if cancels:
        terms = exact.cross_entropy_grad_terms(row, target, spec)
        scale = exact.two_floats([max(map(abs, some)) for some in terms])[0]
    return *exact.two_floats(calls[function]()), scale


def write() -> None:
    """Compute the exact values of every check afresh and store them beside this module."""
    from pathlib import Path

    from .run import run

    _stored().clear()
    run(["softmax_lab"])
    path = Path(str(resources.files(__package__).joinpath(_FILE)))
    temporary = path.with_suffix(".tmp.npz")
    np.savez_compressed(temporary, **_computed)  # type: ignore[arg-type]
    temporary.replace(path)
    print(f"{path.name}: {len(_computed)} calculations, {path.stat().st_size / 1024:.0f} KiB")
