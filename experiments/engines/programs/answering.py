"""What every engine's program shares: it answers the audit's protocol, with NumPy arrays in between.

It runs in the engine's own environment, and needs NumPy alone. ``book/protocol.md`` has the protocol.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

__all__ = ["options", "serve"]

# what an engine prints of itself, as it is imported too, goes to standard error
_ANSWERS = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)


def options(*modes: str) -> argparse.Namespace:
    """Return what the command line asks for: the axis of the classes, and one of the engine's modes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--axis", type=int, default=-1, choices=(-1, 0))
    parser.add_argument("--mode", default="", choices=("", *modes))
    return parser.parse_args()


def serve(
    name: str,
    along: Mapping[str, Callable[[Any, int], Any]],
    losses: Mapping[str, Callable[[Any, Any], Any]] | None = None,
    *,
    dtypes: Iterable[str] = ("float32",),
    axis: int = -1,
) -> None:
    """Answer until the input ends.

    Parameters
    ----------
    along : mapping
        Function to ``f(z, axis)``: softmax and its logarithm of an array along one of its two axes.
    losses : mapping
        Function to ``f(z, y)``: of rows along the last axis. They are left out where ``axis`` is another.
    dtypes : iterable of str
        The types that ``z`` may have. bfloat16 needs ml_dtypes.
    axis : int
        Where the classes are: with 0 each row is a column of what the engine gets.
    """
    functions: dict[str, Callable[..., Any]] = {
        function: _along(call, axis) for function, call in along.items()
    }
    if axis == -1:
        functions |= losses or {}
    said = {"name": name, "functions": list(functions), "dtypes": list(dtypes)}
    for line in sys.stdin:
        asked = json.loads(line)
        answer = said if "hello" in asked else _answer(functions, asked)
        print(json.dumps(answer), file=_ANSWERS, flush=True)


def _along(call: Callable[[Any, int], Any], axis: int) -> Callable[[Any], Any]:
    if axis == -1:
        return lambda z: call(z, -1)
    return lambda z: np.asarray(call(np.ascontiguousarray(z.T), 0)).T


def _answer(functions: Mapping[str, Callable[..., Any]], asked: Mapping[str, Any]) -> dict[str, Any]:
    # NumPy reads "nan", "inf" and "-inf" too
    z = np.array(asked["logits"], dtype=np.float64).astype(_dtype(asked["dtype"]))
    arguments = [z] if "target" not in asked else [z, _target(asked["target"], z)]
    try:
        with np.errstate(all="ignore"):
            result = np.asarray(functions[asked["function"]](*arguments))
    except NotImplementedError as error:
        return {"error": f"not offered: {error}"}
    except Exception as error:  # whatever the engine raises is its answer
        return {"error": f"{type(error).__name__}: {error}"[:500]}
    return {"result": _listed(result.astype(np.float64))}


def _dtype(name: str) -> Any:
    if name != "bfloat16":
        return np.dtype(name)
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


def _target(target: list[Any], z: Any) -> Any:
    if target and isinstance(target[0], list):
        return np.array(target, dtype=np.float64).astype(z.dtype)
    return np.array(target, dtype=np.int64)


def _listed(result: Any) -> Any:
    """Return nested lists in which what JSON cannot write is text."""
    if result.ndim > 1:
        return [_listed(row) for row in result]
    if np.isfinite(result).all():
        return result.tolist()
    return [
        x if np.isfinite(x) else "nan" if np.isnan(x) else "inf" if x > 0 else "-inf" for x in result.tolist()
    ]
