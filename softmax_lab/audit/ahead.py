"""Programs that an implementation compiles, made on all cores before the cases ask.

A compiler takes longer than all that is computed afterwards, on one core. So each program that the cases need
is called for once, all cores at work, and the answers are thrown away. The cases find their programs
compiled. They call the same functions in the same order as ever.

XLA lets other threads run. So each function's programs are made in threads, just before its cases. Torch
compiles one program at a time in a process, and keeps programs on disk. So other processes make those of the
last functions, while this one makes those of the first by itself.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Hashable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._extras import bfloat16
from .adapters import ADAPTERS, make
from .adapters.adapter import Adapter
from .checks import CHECKS
from .command import Program, SilentError
from .subject import BrokenError, NotOfferedError, Subject

__all__ = ["Ahead", "Call", "compile_ahead", "programs", "serve"]

Rows = NDArray[Any]

_MOST = 4  # other processes: each takes half a gigabyte, and a dozen functions are shared out
_LIMIT = 120.0  # seconds that another process may take for one function


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
    if not isinstance(implementation, Adapter) or implementation.compiled_in is None:
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


def compile_ahead(subject: Subject, dtype: np.dtype[Any], threads: int | None = None) -> None:
    """Call for each program once, in so many threads: by default as many as there are cores to run on."""
    calls = list(programs(subject, dtype).values())
    if not calls:
        return

    def attempt(call: Call) -> None:
        # what is wrong is found by the cases
        with contextlib.suppress(BrokenError, NotOfferedError):
            subject(call.z, call.y, **call.keywords)

    with ThreadPoolExecutor(threads or _cores()) as pool:
        for _ in pool.map(attempt, calls):
            pass


class Ahead:
    """The functions that an audit comes to, in its order, with their types: each is made ready as it is due.

    Leaving the context ends the other processes.
    """

    def __init__(self, coming: Iterable[tuple[Subject, np.dtype[Any]]]) -> None:
        self._coming = list(coming)
        self._others: _Others | None = None

    def ready(self, subject: Subject, dtype: np.dtype[Any]) -> None:
        """Make the function's programs, or wait for who makes them."""
        implementation = subject.implementation
        if not isinstance(implementation, Adapter) or not implementation.compiles():
            return
        if implementation.compiled_in == "threads":
            compile_ahead(subject, dtype)
            return
        if self._others is None:
            self._others = _Others(implementation, self._coming, min(_cores() - 1, _MOST))
        self._others.wait_for(subject, dtype)

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *error: object) -> None:
        if self._others is not None:
            self._others.end()


class _Others:
    """Other processes that make the programs of an adapter, the last ones first.

    A process that fails is not asked again. What is not made is left to the cases.
    """

    def __init__(
        self, adapter: Adapter, coming: Iterable[tuple[Subject, np.dtype[Any]]], number: int
    ) -> None:
        self._adapter = adapter
        self._due: dict[tuple[str, str], Future[None]] = {}
        self._programs = _started(adapter, number)
        self._free: queue.SimpleQueue[Program] = queue.SimpleQueue()
        if not self._programs:
            return
        for program in self._programs:
            self._free.put(program)
        self._pool = ThreadPoolExecutor(len(self._programs))
        # of functions that share programs the first asks for them
        asked = {
            self._key(subject, dtype): f"{subject.function} {dtype.name}"
            for subject, dtype in reversed(list(coming))
            if subject.implementation is adapter
        }
        self._due = {key: self._pool.submit(self._make, question) for key, question in asked.items()}

    def wait_for(self, subject: Subject, dtype: np.dtype[Any]) -> None:
        """Wait while another process makes the function's programs; what waits itself is made here."""
        making = self._due.pop(self._key(subject, dtype), None)
        if making is not None and not making.cancel():
            making.result()
        if not self._due:
            self.end()

    def _key(self, subject: Subject, dtype: np.dtype[Any]) -> tuple[str, str]:
        return self._adapter.sharing.get(subject.function, subject.function), dtype.name

    def _make(self, question: str) -> None:
        with contextlib.suppress(queue.Empty, SilentError, BrokenError):
            program = self._free.get_nowait()
            program.answer(question, _LIMIT)
            self._free.put(program)

    def end(self) -> None:
        ending, self._programs = self._programs, []
        if ending:
            self._pool.shutdown(wait=False, cancel_futures=True)
        for program in ending:
            program.end()


def _started(adapter: Adapter, number: int) -> list[Program]:
    """Start processes; none where Python cannot be started, or where only this process has the adapter."""
    if type(adapter) is not ADAPTERS.get(adapter.name):
        return []
    try:
        return [Program(_arguments(adapter)) for _ in range(number)]
    except (ValueError, TypeError):
        return []


def _arguments(adapter: Adapter) -> list[str]:
    """Return the command of a process that serves: this Python, with its path, whatever was run."""
    code = (
        f"import os, sys; sys.path[:] = {sys.path!r}; os.environ.update({adapter.environment()!r}); "
        f"from {__name__} import serve; serve({adapter.name!r})"
    )
    return [sys.executable, "-c", code]


def serve(name: str) -> None:
    """Make the programs that each line of the standard input asks for, and answer it by a line.

    The process ends with its input: nobody waits any more.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is written is no answer
    signal.signal(signal.SIGTERM, _leave)
    asked: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(asked,), daemon=True).start()
    adapter = make(name)
    while True:
        function, dtype = asked.get().split()
        compile_ahead(Subject(adapter, function), bfloat16() if dtype == "bfloat16" else np.dtype(dtype), 1)
        print("made", file=answers, flush=True)


def _listen(asked: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        asked.put(line)
    if hasattr(os, "killpg"):
        os.killpg(os.getpid(), signal.SIGTERM)
    else:
        os._exit(0)


def _leave(*signalled: object) -> None:
    """End, and let the compilers end that have the signal too.

    They remove what they have begun. One that is ended by force would leave half a file to be found on disk.
    """
    time.sleep(0.2)
    os._exit(0)


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
