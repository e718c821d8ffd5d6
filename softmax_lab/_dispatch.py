"""Which loop works on a call: compiled over long rows, compiled over short rows, or the NumPy reference."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ._threads import share

__all__ = ["Path", "choose", "kernels", "run"]

Path = Literal["lanes", "rows", "reference"]

_COMPILED = (np.dtype(np.float32), np.dtype(np.float64))


@cache
def kernels() -> dict[str, Any] | None:
    """Return the modules of compiled loops by path, or None where Numba cannot be had. Imported on the first call only."""
    try:
        from ._kernels import lanes, rows
    except ImportError:
        return None
    return {"lanes": lanes, "rows": rows}


def choose(dtype: np.dtype[Any], num_classes: int, *, special: bool = False) -> Path:
    """Return the loop for rows of a dtype and a number of classes.

    ``special`` is what no compiled loop does: masks, a temperature, fields of a LossSpec that act on the logits.
    """
    if special or dtype not in _COMPILED:
        return "reference"
    loops = kernels()
    if loops is None:
        return "reference"
    return "lanes" if num_classes <= loops["lanes"].MOST_CLASSES else "rows"


def run(path: Path, name: str, rows: NDArray[Any], result: NDArray[Any] | None, *arguments: Any) -> None:
    """Run a compiled loop over contiguous rows (N, K): ``loop(rows, result, *arguments, K, start, stop)``, flat arrays."""
    loops = kernels()
    assert loops is not None
    loop, num_classes = getattr(loops[path], name), rows.shape[1]
    flat_rows, flat_result = rows.reshape(-1), None if result is None else result.reshape(-1)
    share(lambda start, stop: loop(flat_rows, flat_result, *arguments, num_classes, start, stop), len(rows), num_classes)
