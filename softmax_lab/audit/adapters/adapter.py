"""What every built-in adapter says of itself."""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Mapping
from typing import Any, ClassVar, Literal

from numpy.typing import NDArray

from ..._checks import FLOAT_DTYPES
from ..subject import FUNCTIONS, KEYWORDS
from .framework import Framework

__all__ = ["Adapter", "Rows"]

Rows = NDArray[Any]


class Adapter:
    """An implementation under the audit's names, with what it needs and what it offers.

    A function or a keyword that a framework does not have is absent from the adapter. Its cases are then left
    out. So the methods and their signatures are the only list of what is offered.
    """

    #: the name on the command line, in tables and in pictures
    name: ClassVar[str]
    framework: ClassVar[Framework]
    dtypes: ClassVar[tuple[str, ...]] = FLOAT_DTYPES
    #: what can share the time of compilations: threads of this process, or other processes, which leave their
    #: programs on disk; None: nothing is compiled
    compiled_in: ClassVar[Literal["threads", "processes"] | None] = None
    #: functions that run the programs of another one
    sharing: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def functions(cls) -> tuple[str, ...]:
        """Return the audited functions that the adapter has."""
        return tuple(function for function in FUNCTIONS if hasattr(cls, function))

    @classmethod
    def keywords(cls, function: str) -> tuple[str, ...]:
        """Return the keywords that one of the audited functions takes; none where the adapter lacks it."""
        parameters = inspect.signature(getattr(cls, function)).parameters if hasattr(cls, function) else ()
        return tuple(keyword for keyword in KEYWORDS if keyword in parameters)

    def program(self, z: Rows, y: Rows | None = None, **keywords: Any) -> Hashable:
        """Return what tells apart the programs that calls of a function need: by default the shapes."""
        shapes = (None if array is None else array.shape for array in (z, y, keywords.get("where")))
        return (*shapes, keywords.get("axis"), "upstream" in keywords)

    def compiles(self) -> bool:
        """Whether programs have to be compiled: those that are on disk already need nobody else."""
        return self.compiled_in is not None

    def environment(self) -> dict[str, str]:
        """Return the variables with which another process makes the same programs."""
        return {}
