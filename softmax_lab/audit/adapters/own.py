"""An implementation of the user's own, named as ``module:object``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

__all__ = ["load_own"]


def load_own(reference: str) -> Any:
    """Return the object that ``"module:object"`` names, as console entry points do.

    The module is looked for in the current directory first, then among the installed ones.

    Raises
    ------
    ValueError
        Where the reference leads nowhere.
    """
    module_name, _, path = reference.partition(":")
    if not module_name or not path:
        raise ValueError(f"an implementation of your own is named module:object; got {reference!r}")
    found: Any = _import_own(module_name, reference)
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ValueError(f"{reference!r}: {module_name} has no {path!r}") from None
    return found


def _import_own(module: str, reference: str) -> Any:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise ValueError(
                f"{reference!r}: no module {module!r} in the current directory or among the installed ones"
            ) from None
        raise  # something that the module itself imports
    finally:
        sys.path.remove(here)
