"""Optional dependencies: imported where they are needed, or answered with the smallest extra that installs
them.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any

import numpy as np

__all__ = ["EXTRAS", "absent", "bfloat16", "load", "missing"]

#: extra -> the modules that it brings; every optional module has an extra that brings no other package of
#: this table
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
    """Return the error that says what modules are for, and how the smallest extra with all of them is
    installed.
    """
    extra = min(
        (name for name, brought in EXTRAS.items() if set(modules) <= set(brought)),
        key=lambda name: len(EXTRAS[name]),
    )
    what = "it" if len(modules) == 1 else "them"
    return ModuleNotFoundError(
        f"{purpose}; install {what} with: pip install 'softmax-lab[{extra}]'", name=modules[0]
    )


def absent(*modules: str) -> list[str]:
    """Return those of some top-level modules that are not installed; imports nothing."""
    return [module for module in modules if find_spec(module) is None]


def bfloat16() -> np.dtype[Any]:
    """Return the NumPy type of bfloat16."""
    dtype: np.dtype[Any] = np.dtype(load("ml_dtypes", "NumPy has bfloat16 from ml_dtypes").bfloat16)
    return dtype
