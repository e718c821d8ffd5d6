"""The machine that an experiment runs on, as a row of a table names it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from pathlib import Path

import softmax_lab as sl

__all__ = ["circumstances", "limit_threads", "narrower", "now", "processor", "vectors", "versions"]

TIMED = ("softmax-lab", "numpy", "numba", "scipy", "torch", "jax", "optax", "tensorflow")


def processor() -> str:
    """Return the name of the processor, as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def versions() -> str:
    """Return the versions of everything that is timed, in one cell."""
    found = []
    for name in TIMED:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return f"python {platform.python_version()}, " + ", ".join(found)


def _features() -> dict[str, bool]:
    """Return what the processor can do, as LLVM names it."""
    import llvmlite.binding as llvm

    return dict(llvm.get_host_cpu_features())


def _own_width(features: dict[str, bool]) -> int:
    if features.get("avx512f"):
        return 512
    return 256 if features.get("avx2") else 128


def vectors() -> str:
    """Return the bits of a vector of the loops: "512", or "256 of 512" where the compiler may not use all."""
    import numba

    own, told = _own_width(_features()), str(numba.config.CPU_FEATURES or "")  # type: ignore[attr-defined]
    return f"256 of {own}" if own > 256 and "-avx512f" in told.split(",") else str(own)


def narrower(folder: Path) -> dict[str, str]:
    """Return the environment in which Numba compiles for vectors of 256 bits: without AVX-512.

    What it compiles is kept in ``folder``. Numba reads both when it is imported. LLVM's ``prefer-256-bit``
    would change nothing: the loops say how wide their vectors are.
    """
    taken = ("avx512", "avx10", "evex512")
    features = [
        f"{'+' if on and not name.startswith(taken) else '-'}{name}"
        for name, on in sorted(_features().items())
    ]
    return os.environ | {"NUMBA_CPU_FEATURES": ",".join(features), "NUMBA_CACHE_DIR": str(folder)}


def now() -> str:
    """Return the time in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())


def circumstances() -> dict[str, object]:
    """Return when, on what, with how many threads and with which versions something is measured."""
    return {
        "when": now(),
        "processor": processor(),
        "threads": sl.get_num_threads(),
        "versions": versions(),
    }


def limit_threads(threads: int) -> None:
    """Give every provider the same number of threads.

    The frameworks read the environment when they are imported: call this before.
    """
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "NPROC"):
        os.environ[name] = str(threads)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sl.set_num_threads(threads)
