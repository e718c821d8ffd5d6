"""The compiled loops on torch's own threads.

torch's products run on threads of GNU OpenMP, which spin for a while after each call. Threads of our own, on
the same cores, would take turns with them: a loss of ten milliseconds was seen to take ninety after a matrix
product. Asked by ``GOMP_parallel`` (the entry that compilers call for ``#pragma omp parallel``), the threads
that spin do the work instead.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from ..._threads import Team, use_team

__all__ = ["openmp_team"]

_Callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def openmp_team() -> Team | None:
    """Return the threads of the GNU OpenMP library that torch runs on; None where it has none.

    Other packages bring copies of their own, whose threads are others: torch's is in its folder, or the only
    one.
    """
    paths = _loaded("libgomp") if sys.platform == "linux" else set()
    paths = {path for path in paths if path.startswith(str(Path(torch.__file__).parent))} or paths
    if len(paths) != 1:
        return None
    parallel = ctypes.CDLL(paths.pop()).GOMP_parallel
    parallel.argtypes, parallel.restype = [_Callback, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None

    def team(work: Callable[[], None], threads: int) -> None:
        # the interpreter's lock is released meanwhile
        parallel(_Callback(lambda _: work()), None, threads, 0)

    return team


def _loaded(name: str) -> set[str]:
    """Return the paths of the loaded libraries of this name."""
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    return {
        line.split(maxsplit=5)[5]
        for line in maps.splitlines()
        if f"/{name}" in line and len(line.split(maxsplit=5)) == 6
    }


use_team(openmp_team())
