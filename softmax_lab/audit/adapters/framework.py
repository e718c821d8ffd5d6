"""What an adapter needs: a framework, by the module that is imported and the extra that installs it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..._extras import EXTRAS, absent, load, smallest_extra

__all__ = ["Framework", "MissingFramework", "variable_set"]


class MissingFramework(ImportError):  # noqa: N818 - the name says what it is
    """A framework that an adapter needs is not installed, or does not work here.

    The message says what to install.
    """


@dataclass(frozen=True)
class Framework:
    """A framework that adapters call.

    Parameters
    ----------
    module : str
        Its top-level module.
    part : str
        The module that the adapters import: a part of the framework, or by default all of it.
    distributions : tuple of str
        The names under which package indexes have it; by default the module's name.
    """

    module: str
    part: str = ""
    distributions: tuple[str, ...] = ()

    @property
    def extra(self) -> str:
        """The smallest extra that installs the framework; "" where the base install brings it."""
        optional = any(self.module in brought for brought in EXTRAS.values())
        return smallest_extra(self.module) if optional else ""

    @property
    def installed(self) -> bool:
        """Whether the framework is there to import; imports nothing."""
        return not absent(self.module)

    @property
    def version(self) -> str | None:
        """The installed version by its metadata, or None; imports nothing."""
        for distribution in self.distributions or (self.module,):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                return importlib.metadata.version(distribution)
        return None

    def load(self) -> Any:
        """Import what the adapters call, and return it.

        Raises
        ------
        MissingFramework
            Where it is missing or lacks a module of its own, saying how to install it.
        """
        try:
            return load(self.part or self.module, f"the audit of {self.module} needs {self.module}")
        except ModuleNotFoundError as error:
            raise MissingFramework(str(error)) from error


@contextlib.contextmanager
def variable_set(name: str, value: str) -> Iterator[None]:
    """Set a variable of the environment for a while, unless the user has set it."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
