"""Exact values of the audited functions, from the mpmath oracle, as (high, low) float64 pairs.

The values are the same for every implementation, and cost seconds. So ``exact_values.npz`` carries them,
keyed by a digest of function, arguments and recipe version. What it lacks is computed on the spot: another
NumPy draws other random rows, and a user has rows of his own. ``python tools/exact_values.py`` writes the
file anew.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._files import replace
from ..spec import LossSpec
from .subject import LOG_LOSSES, ONE_A_ROW

__all__ = ["Exact", "exact_values", "storing"]

_RECIPE = "1"  # of the functions below: another recipe makes the stored values unknown
_FILE = "exact_values.npz"

Rows = NDArray[Any]


class Exact(NamedTuple):
    """Exact values as an unevaluated sum, and the largest term of each where its terms cancel truly."""

    high: NDArray[np.float64]
    low: NDArray[np.float64]
    scale: NDArray[np.float64] | None = None


def exact_values(function: str, z: Rows, y: Rows | None = None, spec: LossSpec = LossSpec()) -> Exact:
    """Return the exact result of one of the audited functions on rows (N, K).

    A loss takes labels (N,) or target distributions (N, K). float64 arguments stand for exactly themselves. A
    row with NaN, with +inf or with nothing above -inf has NaN everywhere: every framework returns that, and
    it is the only honest answer.
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
    # neutral fields are left out, so that a new one leaves the names as they are
    fields = {name: value for name, value in json.loads(spec.to_json()).items() if spec.has(name)}
    shapes = [str(z.shape), "" if y is None else f"{y.dtype}{y.shape}"]
    parts = [_RECIPE, function, json.dumps(fields, sort_keys=True), *shapes]
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
    shape = z.shape[:1] if function in ONE_A_ROW else z.shape
    return Exact(
        *(None if part[0] is None else np.stack(part).reshape(shape) for part in zip(*rows, strict=True))  # type: ignore[arg-type]
    )


def _row(function: str, row: NDArray[np.float64], target: Any, spec: LossSpec) -> tuple[Any, Any, Any]:
    """Return (high, low, scale) of one row."""
    from .. import exact  # mpmath is needed here only

    length = 1 if function in ONE_A_ROW else len(row)
    soft = function == "cross_entropy_grad" and (np.ndim(target) == 1 or spec != LossSpec())
    cancels = soft or function in LOG_LOSSES
    if np.isnan(row).any() or row.max() in (np.inf, -np.inf):
        return np.full(length, np.nan), np.zeros(length), np.zeros(length) if cancels else None
    calls: dict[str, Callable[[], Any]] = {
        "softmax": lambda: exact.softmax(row),
        "log_softmax": lambda: exact.log_softmax(row),
        "cross_entropy": lambda: [exact.cross_entropy(row, target, spec)],
        "cross_entropy_grad": lambda: exact.cross_entropy_grad(row, target, spec),
        "log_cross_entropy": lambda: [exact.log_loss(row, target, spec).value],
        "log_cross_entropy_grad": lambda: exact.log_loss(row, target, spec).gradient,
    }
    scale = None
    if function in LOG_LOSSES:
        # the value is a difference of two logits' size; of a gradient the entry at the target is the largest
        log = exact.log_loss(row, target, spec)
        size = (
            max(map(abs, log.gradient))
            if function not in ONE_A_ROW
            else max(abs(log.others), abs(log.target))
        )
        scale = exact.two_floats([size] * length)[0]
    elif cancels:
        terms = exact.cross_entropy_grad_terms(row, target, spec)
        scale = exact.two_floats([max(map(abs, some)) for some in terms])[0]
    return *exact.two_floats(calls[function]()), scale


@contextmanager
def storing(path: Path | None = None) -> Iterator[None]:
    """Compute afresh what is asked for meanwhile, and store that alone, by default in the package's file.

    An error leaves an old file as it was.
    """
    path = Path(str(resources.files(__package__).joinpath(_FILE))) if path is None else path
    _stored().clear()
    _computed.clear()
    try:
        yield
        content = io.BytesIO()
        np.savez_compressed(content, **_computed)  # type: ignore[arg-type]
        replace(path, content.getvalue())
    finally:
        _stored.cache_clear()  # the file is read again
    print(f"{path.name}: {len(_computed)} calculations, {path.stat().st_size / 1024:.0f} KiB")
