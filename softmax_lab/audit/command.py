"""A program in any language under the audit: started once, asked by JSON lines, never waited for in vain."""

from __future__ import annotations

import contextlib
import os
import queue
import shlex
import signal
import subprocess
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .._checks import FLOAT_DTYPES, number, whole
from . import protocol
from .subject import PLAIN, BrokenError

__all__ = ["Command", "Program", "SilentError"]

_LONGEST = 256 * 2**20  # bytes of an answer's line: a million float64 have a tenth of it
_KEPT = 200  # lines of standard error
_GRACE = 2.0  # seconds to end by itself, once asked to


class Command:
    r"""A program as an implementation for :func:`softmax_lab.audit.run`.

    It is started once, and reads and writes a JSON object a line; the page on the protocol describes them.
    Whatever it does instead of answering (it crashes, hangs, writes something else, or nothing) is a finding
    in words. After a crash or a hang it is started again for the next case, by default twice at most.

    .. versionadded:: 0.2

    Parameters
    ----------
    arguments : sequence of str or str
        The program and its arguments. A text is split as a shell would split it; no shell runs.
    timeout : float
        Seconds that an answer may take, and the start.
    starts : int
        How often it is started at most: once, and again after each crash or hang.

    Attributes
    ----------
    name : str
        What the program calls itself, or else the command.
    dtypes : tuple of str
        The types that it takes.
    timeout : float
        As given; it may be set anew.
    stderr : str
        The end of what it has written to its standard error.

    Raises
    ------
    ValueError
        Where there is no such program, or on an option out of its range.

    Examples
    --------
    >>> import sys
    >>> import softmax_lab as sl
    >>> program = '''
    ... import json, math, sys
    ... hello = {"name": "mine", "functions": ["softmax"], "dtypes": ["float64"]}
    ... for line in sys.stdin:
    ...     asked = json.loads(line)
    ...     if "hello" in asked:
    ...         print(json.dumps(hello), flush=True)
    ...         continue
    ...     e = [[math.exp(float(z)) for z in row] for row in asked["logits"]]
    ...     print(json.dumps({"result": [[x / sum(row) for x in row] for row in e]}), flush=True)
    ... '''
    >>> case = {check.name: check for check in sl.audit.CHECKS}
    >>> with sl.audit.Command([sys.executable, "-c", program]) as mine:
    ...     found = [case[name].run(mine, "softmax", "float64") for name in ("tied", "huge")]
    >>> found[0].problem
    ''
    >>> print(found[1].problem)
    the program ended with status 1 before it answered; its standard error ends with: OverflowError: math
    range error
    """

    def __init__(self, arguments: Sequence[str] | str, *, timeout: float = 60.0, starts: int = 3) -> None:
        parts = _split(arguments)
        self._arguments = parts
        self.timeout = number("timeout", timeout, low=0.0, open_low=True)
        self._lock = threading.Lock()
        self._starts = self._left = whole("starts", starts, low=1)
        self._program: Program | None = None
        self._stderr = ""
        self._why_not = ""
        self.name = shlex.join(parts)
        self.dtypes: tuple[str, ...] = FLOAT_DTYPES
        functions: tuple[str, ...] = PLAIN
        try:
            self.name, functions, self.dtypes = self._started().introduction
        except BrokenError as error:
            # nothing is known of it, so every function has the finding
            self._why_not = str(error)
            self.close()
        for function in functions:
            setattr(self, function, partial(self._ask, function))

    def _ask(
        self, function: str, logits: NDArray[Any], target: NDArray[Any] | None = None
    ) -> NDArray[np.float64]:
        if self._why_not:
            raise BrokenError(self._why_not)
        with self._lock:  # a program has one line of questions, from however many threads they come
            program = self._started()
            line = self._told(program, protocol.question(function, logits, target))
            return protocol.result(line)

    def _started(self) -> Program:
        """Return the program, started where it does not run."""
        if self._program is None:
            if self._left == 0:
                raise BrokenError(
                    f"not asked any more: the program crashed or hung {self._starts} times before"
                )
            self._left -= 1
            self._program = Program(self._arguments)
            self._program.introduction = protocol.introduction(self._told(self._program, protocol.HELLO))
        return self._program

    def _told(self, program: Program, question: str) -> str:
        """Return the answer's line; a program that has none to give is ended."""
        try:
            return program.answer(question, self.timeout)
        except SilentError as silent:
            self.close()
            last = next((line for line in reversed(self._stderr.splitlines()) if line.strip()), "")
            tail = f"; its standard error ends with: {last.strip()[:160]}" if last else ""
            raise BrokenError(f"{silent}{tail}") from None

    @property
    def stderr(self) -> str:
        return self._program.stderr if self._program is not None else self._stderr

    def close(self) -> None:
        """End the program, where it runs."""
        program, self._program = self._program, None
        if program is not None:
            program.end()
            self._stderr = program.stderr

    def __enter__(self) -> Command:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _split(arguments: Sequence[str] | str) -> list[str]:
    try:
        parts = shlex.split(arguments) if isinstance(arguments, str) else [str(part) for part in arguments]
    except ValueError as error:
        raise ValueError(f"a command must be split as a shell splits it; {arguments!r}: {error}") from error
    if not parts or not parts[0]:
        raise ValueError(f"a command must name a program; got {arguments!r}")
    return parts


class SilentError(Exception):
    """The program has no answer to give, and will have none; the message says why."""


class Program:
    """A running program, and the threads that write to it and read from it.

    Each pipe has a thread: none of them can block the audit, whatever the program does with it.
    """

    introduction: protocol.Introduction

    def __init__(self, arguments: Sequence[str]) -> None:
        try:
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # what it starts itself ends with it
            )
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise ValueError(f"the program {arguments[0]!r} cannot be started: {why}") from error
        self._questions: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        # few, so that a program that writes without end waits and fills no memory
        self._lines: queue.Queue[bytes] = queue.Queue(maxsize=4)
        self._errors: deque[bytes] = deque(maxlen=_KEPT)
        stop = threading.Event()
        streams = self._process.stdin, self._process.stdout, self._process.stderr
        assert all(streams)
        _thread(_write, streams[0], self._questions)
        _thread(_read, streams[1], self._lines, stop)
        self._watching = _thread(_keep, streams[2], self._errors)
        self._finalizer = weakref.finalize(self, _end, self._process, self._questions, self._lines, stop)

    @property
    def stderr(self) -> str:
        return b"".join(self._errors).decode("utf-8", "replace")

    def answer(self, question: str, timeout: float) -> str:
        """Send a question and return the next line.

        Raise ``BrokenError`` where a line stood there unasked, and ``SilentError`` where none comes.
        """
        unasked = self._waiting()
        if unasked:
            raise BrokenError(
                f"wrote {unasked[:60]!r} without being asked; expected one line an answer, and nothing else "
                f"on standard output"
            )
        self._questions.put(question.encode() + b"\n")
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            raise SilentError(f"no answer within {timeout:g} s; the program was ended") from None
        if not line:
            raise SilentError(self._ending())
        if not line.endswith(b"\n") and len(line) >= _LONGEST:
            raise SilentError(f"answers a line of more than {_LONGEST} bytes; the program was ended")
        return line.decode("utf-8", "replace").rstrip("\r\n")

    def _waiting(self) -> str:
        """Take what stands in the queue, and return its first line; the end of the output stays there."""
        first = b""
        with contextlib.suppress(queue.Empty):
            while line := self._lines.get_nowait():
                first = first or line
            self._lines.put(b"")
        return first.decode("utf-8", "replace").rstrip("\r\n")

    def _ending(self) -> str:
        """Say how the program's output has ended."""
        try:
            status = self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            return "the program closed its standard output before it answered, and was ended"
        if status < 0:
            return f"the program was ended by {_signal_name(-status)} before it answered"
        return f"the program ended with status {status} before it answered"

    def end(self) -> None:
        self._finalizer()
        self._watching.join(_GRACE)  # its last words


def _signal_name(which: int) -> str:
    try:
        return signal.Signals(which).name
    except ValueError:
        return f"signal {which}"


def _thread(work: Callable[..., None], *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=work, args=arguments, daemon=True)
    thread.start()
    return thread


def _write(stream: IO[bytes], questions: queue.SimpleQueue[bytes | None]) -> None:
    # a pipe that nobody reads any more is seen by who waits for the answer
    with contextlib.suppress(OSError, ValueError), stream:
        while (line := questions.get()) is not None:
            stream.write(line)
            stream.flush()


def _read(stream: IO[bytes], lines: queue.Queue[bytes], stop: threading.Event) -> None:
    """Hand on the lines, and at the end an empty one."""
    with contextlib.suppress(OSError, ValueError), stream:
        while not stop.is_set():
            line = stream.readline(_LONGEST)
            while not stop.is_set():
                with contextlib.suppress(queue.Full):
                    lines.put(line, timeout=0.5)
                    break
            if not line:
                return


def _keep(stream: IO[bytes], kept: deque[bytes]) -> None:
    with contextlib.suppress(OSError, ValueError), stream:
        while line := stream.readline(2**16):
            kept.append(line)


def _end(
    process: subprocess.Popen[bytes],
    questions: queue.SimpleQueue[bytes | None],
    lines: queue.Queue[bytes],
    stop: threading.Event,
) -> None:
    """Close the program's input, give it a moment, and end it with all that it has started."""
    questions.put(None)
    stop.set()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE if process.poll() is None else 0)
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE)
    # a thread that still waits for an answer gets the end of the output
    with contextlib.suppress(queue.Full):
        lines.put_nowait(b"")
