"""Optional dependencies: imported where they are needed.

One that is missing is answered with the smallest extra that installs it.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any

import numpy as np

__all__ = ["EXTRAS", "absent", "bfloat16", "load", "missing", "smallest_extra"]

#: extra -> the modules that it brings
EXTRAS: dict[str, tuple[str, ...]] = {
    "jax": ("jax",),
    "matplotlib": ("matplotlib",),
    "ml-dtypes": ("ml_dtypes",),
    "mpmath": ("mpmath",),
    "pandas": ("pandas",),
    "pillow": ("PIL",),
    "scikit-learn": ("sklearn",),
    "scipy": ("scipy",),
    "tensorflow": ("tensorflow",),
    "torch": ("torch", "ml_dtypes"),  # bfloat16 tensors on the CPU need both
    "tqdm": ("tqdm",),
    "audit": ("ml_dtypes", "mpmath", "pandas", "scipy", "tqdm"),
}


def load(module: str, purpose: str) -> Any:
    """Import an optional module and return it.

    Raises
    ------
    ModuleNotFoundError
        Where it is missing, or lacks a module of its own: ``purpose``, and the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        top = module.partition(".")[0]
        lacks = (
            "" if error.name is None or error.name.partition(".")[0] == top else f", which lacks {error.name}"
        )
        raise missing(purpose + lacks, top) from error


def missing(purpose: str, *modules: str) -> ModuleNotFoundError:
    """Return the error that says what modules are for, and how they are installed."""
    what = "it" if len(modules) == 1 else "them"
    return ModuleNotFoundError(
        f"{purpose}; install {what} with: pip install 'softmax-lab[{smallest_extra(*modules)}]'",
        name=modules[0],
    )


def smallest_extra(*modules: str) -> str:
    """Return the extra that brings all of some optional modules, and the fewest others."""
    having_all = (extra for extra, brought in EXTRAS.items() if set(modules) <= set(brought))
    return min(having_all, key=lambda extra: len(EXTRAS[extra]))


def absent(*modules: str) -> list[str]:
    """Return those of some top-level modules that are not installed; imports nothing."""
    return [module for module in modules if find_spec(module) is None]


def bfloat16() -> np.dtype[Any]:
    """Return the NumPy type of bfloat16."""
    dtype: np.dtype[Any] = np.dtype(load("ml_dtypes", "NumPy has bfloat16 from ml_dtypes").bfloat16)
    return dtype
