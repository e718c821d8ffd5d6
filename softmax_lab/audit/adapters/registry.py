"""The registry of built-in adapters, by name: the command line, the tests and the book read it."""

from __future__ import annotations

from typing import Any

from ..._version import __version__
from ..subject import ExitError, contained
from .adapter import Adapter
from .framework import Framework
from .jax import Jax, JaxJit
from .numpy import Textbook
from .own import load_own
from .scipy import SciPy
from .softmax_lab import SOFTMAX_LAB, SoftmaxLab
from .tensorflow import TensorFlow, TensorFlowFunction
from .torch import Torch, TorchCompiled

__all__ = ["ADAPTERS", "FRAMEWORKS", "installed", "make", "versions"]

#: name -> adapter, in the order of tables and pictures
ADAPTERS: dict[str, type[Adapter]] = {
    adapter.name: adapter
    for adapter in (
        SoftmaxLab,
        Textbook,
        SciPy,
        Torch,
        TorchCompiled,
        TensorFlow,
        TensorFlowFunction,
        Jax,
        JaxJit,
    )
}

#: what the adapters need, each once
FRAMEWORKS: tuple[Framework, ...] = tuple(dict.fromkeys(adapter.framework for adapter in ADAPTERS.values()))


def make(name: str) -> Any:
    """Return the implementation called ``name``, importing what it needs.

    Parameters
    ----------
    name : str
        One of ``ADAPTERS``, or ``"module:object"``: an object of one's own. Its module is looked for in the
        current directory first, then among the installed ones.

    Raises
    ------
    MissingFramework
        Where the framework is not installed, saying how to install it.
    ValueError
        On a name that is neither.
    ExitError
        Where the import, or the constructor, would end the program, as ``sys.exit`` does.

    Examples
    --------
    >>> import numpy as np
    >>> from softmax_lab.audit.adapters import make
    >>> make("softmax_lab").softmax(np.array([[40.0, 0.0]]))
    array([[1.00000000e+00, 4.24835426e-18]])
    """
    if ":" not in name and name not in ADAPTERS:
        raise ValueError(
            f"an implementation must be one of {', '.join(ADAPTERS)}, or module:object of your own; "
            f"got {name!r}"
        )
    try:
        with contained():
            return load_own(name) if ":" in name else ADAPTERS[name]()
    except ExitError as error:
        raise ExitError(f"importing {name!r} {error}") from error


def installed(name: str) -> bool:
    """Whether the framework of a built-in adapter is there to import; imports nothing.

    Examples
    --------
    >>> from softmax_lab.audit.adapters import installed
    >>> installed("numpy")
    True
    """
    return ADAPTERS[name].framework.installed


def versions() -> dict[str, str]:
    """Return the version of this package, and of each installed framework by its metadata; imports nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from softmax_lab.audit.adapters import versions
    >>> versions()["numpy"] == np.__version__
    True
    """
    found = {framework.module: framework.version for framework in FRAMEWORKS}
    # metadata is as old as the installation; the source says what runs
    found[SOFTMAX_LAB.module] = __version__
    return {module: version for module, version in found.items() if version is not None}
