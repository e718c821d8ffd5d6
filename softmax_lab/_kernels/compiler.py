"""Compilation: machine code cached on disk, and never stale.

Numba's own cache looks at the file of the function alone and so misses an edit in a helper's file; here the
stamp that a cached function must match is a digest of all kernel sources. Where no folder can be written (a
read-only install without a home) functions are compiled in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
from numba import types
from numba.core import caching
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.extending import overload

__all__ = [
    "LOOPS",
    "allocating",
    "allocating_overload",
    "called_overload",
    "compiled",
    "helper",
    "inlined",
    "inlined_overload",
]


def _digest() -> str:
    """Return a digest of every source file of the kernels.

    The constants that they share and the version that compiles them are in it too.
    """
    data = hashlib.sha256(f"{numba.__version__}".encode())
    folder = Path(__file__).parent
    for path in [*sorted(folder.glob("*.py")), folder.parent / "_rows.py", folder.parent / "_twofloat.py"]:
        data.update(path.read_bytes())
    return data.hexdigest()


STAMP = _digest()


def _stamped(locator: type[Any]) -> type[Any]:
    """A cache folder's locator whose stamp is the digest of all kernels."""
    return type(locator.__name__, (locator,), {"get_source_stamp": lambda self: STAMP})


class _CacheImplementation(caching.CompileResultCacheImpl):
    _locator_classes = tuple(_stamped(locator) for locator in caching.CompileResultCacheImpl._locator_classes)


class _Cache(caching.FunctionCache):
    _impl_class = _CacheImplementation

    def save_overload(self, signature: Any, data: Any) -> None:
        """Store a compiled function; on a full disk it serves this process alone."""
        with suppress(OSError):
            super().save_overload(signature, data)


# What the loops have nothing for: closures, `with`, unrolled literals, array expressions, annotated listings.
_UNUSED_PASSES = {
    "AnnotateTypes",
    "FindLiterallyCalls",
    "InlineClosureLikes",
    "InlineInlinables",
    "InlineOverloads",
    "LiteralPropagationSubPipelinePass",
    "LiteralUnroll",
    "MakeFunctionToJitFunction",
    "NopythonRewrites",
    "WithLifting",
}


class _Compiler(CompilerBase):
    """Numba's own passes but for those without work here, which take their time all the same."""

    def define_pipelines(self) -> list[Any]:
        manager = DefaultPassBuilder.define_nopython_pipeline(self.state)
        manager.passes = [step for step in manager.passes if step[0].__name__ not in _UNUSED_PASSES]
        manager.finalize()
        return [manager]


class _Engine:
    """The code generator of a part, which has no address: its environment is nowhere to be stored."""

    def __init__(self, codegen: Any) -> None:
        self._codegen = codegen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)

    def set_env(self, env_name: str, env: Any) -> None:
        """Store nothing: a helper calls nothing of Python's, and raises nothing."""


class _Part(JITCodeLibrary):  # type: ignore[misc]
    """A helper's code, to be linked into the loops that call it, and never run by itself.

    Numba would optimise each helper too, with all that the helper calls, and make machine code of it; nobody
    runs that code.
    """

    @property
    def codegen(self) -> Any:
        return _Engine(self._codegen)

    def get_pointer_to_function(self, name: str) -> int:
        return 0

    def _optimize_final_module(self) -> None:
        """Leave it to the loop: LLVM optimises a loop with all that is linked into it, and once is enough."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True


class _PartCompiler(_Compiler):
    """The same passes for a helper."""

    def define_pipelines(self) -> list[Any]:
        codegen = self.state.targetctx.codegen()
        self.state.library = _Part(codegen, self.state.func_id.func_qualname)
        return super().define_pipelines()


# a division by zero is an infinity or NaN, and no exception
_IEEE = {"error_model": "numpy", "pipeline_class": _Compiler}
# Nobody calls a helper from Python, or by its address: the two wrappers would be a third of all compiling.
_HELPER = {**_IEEE, "pipeline_class": _PartCompiler, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
# Helpers borrow the arrays that they are given: counting references to them, atomically, would cost more than
# the work on a vector. So they must not return one, not even inside a tuple: the caller would release it.
_BORROWING = {**_HELPER, "_nrt": False}


def _for_types(dispatcher: Any) -> Any:
    """Have a helper compiled once for a type, and not again for each constant of it that a caller passes."""
    fold = dispatcher._compiler.fold_argument_types

    def fold_types(args: Any, kws: Any) -> Any:
        return fold(tuple(types.unliteral(arg) for arg in args), kws)

    dispatcher._compiler.fold_argument_types = fold_types
    return dispatcher


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a helper into every loop that calls it."""
    return _for_types(numba.njit(forceinline=True, **_BORROWING)(function))


def helper(function: Callable[..., Any]) -> Any:
    """Compile a helper that is called, not copied.

    It runs seldom, or long enough for the call not to count.
    """
    return _for_types(numba.njit(**_BORROWING)(function))


def allocating(function: Callable[..., Any]) -> Any:
    """Compile a helper that makes arrays of its own, or returns those that it is given."""
    return _for_types(numba.njit(**_HELPER)(function))


def allocating_overload(function: Callable[..., Any]) -> Any:
    """Choose an implementation by the arguments' types; it makes arrays of its own."""
    return overload(function, jit_options=_HELPER)


def called_overload(function: Callable[..., Any]) -> Any:
    """Choose an implementation by the arguments' types; it is called, not copied."""
    return overload(function, jit_options=_BORROWING)


def inlined_overload(function: Callable[..., Any]) -> Any:
    """Choose an implementation by the arguments' types, compiled into every loop that calls it."""
    return overload(function, jit_options={"forceinline": True, **_BORROWING})


#: all loops, in the order of their definition: what has been compiled is asked of them
LOOPS: list[Any] = []


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a loop, cached on disk.

    It runs without the interpreter's lock, so that rows can be shared between threads.
    """
    dispatcher = numba.njit(nogil=True, **_IEEE)(function)
    LOOPS.append(dispatcher)
    try:
        dispatcher._cache = _Cache(dispatcher.py_func)
    except RuntimeError:  # no folder to write to
        return dispatcher
    return dispatcher
