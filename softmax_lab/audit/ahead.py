"""Programs that an implementation compiles for each shape, made in several threads before the cases ask.

A compiler such as XLA takes longer than all that is computed afterwards, on one core, and lets other threads
run. So each program that the cases need is called for once, all cores at work, and the answers are thrown
away. The cases find their programs compiled. They call the same functions in the same order as ever.
"""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .adapters.adapter import Adapter
from .checks import CHECKS
from .subject import BrokenError, NotOfferedError, Subject

__all__ = ["Call", "compile_ahead", "programs"]

Rows = NDArray[Any]


class Call(NamedTuple):
    """A call that a case makes."""

    z: Rows
    y: Rows | None
    keywords: dict[str, Any]


def programs(subject: Subject, dtype: np.dtype[Any]) -> dict[Hashable, Call]:
    """Return a call for each program that the cases need of a function; none where nothing is compiled.

    The cases are put to a stand-in that notes what it is called with, and answers zeros.
    """
    implementation = subject.implementation
    found: dict[Hashable, Call] = {}
    if not isinstance(implementation, Adapter) or not implementation.compiles_shapes:
        return found

    def note(z: Rows, y: Rows | None = None, **keywords: Any) -> Rows:
        found.setdefault(implementation.program(z, y, **keywords), Call(z, y, keywords))
        return np.zeros(z.shape[:1] if subject.function == "cross_entropy" else z.shape)

    # a case asks the signature which keywords are taken
    note.__signature__ = inspect.signature(getattr(implementation, subject.function))  # type: ignore[attr-defined]
    stand_in = SimpleNamespace(**{subject.function: note})
    for check in CHECKS:
        check.run(stand_in, subject.function, dtype)
    return found


def compile_ahead(subject: Subject, dtype: np.dtype[Any]) -> None:
    """Call for each program once, in as many threads as there are cores to run on."""
    calls = list(programs(subject, dtype).values())
    if not calls:
        return

    def attempt(call: Call) -> None:
        # what is wrong is found by the cases
        with contextlib.suppress(BrokenError, NotOfferedError):
            subject(call.z, call.y, **call.keywords)

    with ThreadPoolExecutor(_cores()) as pool:
        for _ in pool.map(attempt, calls):
            pass


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
