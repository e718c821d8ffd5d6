"""Which loop works on a call, and on which rows.

The ways are the compiled loops over short rows, those over long rows, the products of either, and the NumPy
reference. Numba may be missing, or be told not to compile: then NumPy does the work, as was asked for. Where
Numba is there and fails, NumPy takes over too, and one warning says so.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, wraps
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from ._rows import read_only
from ._threads import WORTH_SHARING, share

__all__ = [
    "Loop",
    "LoopError",
    "Path",
    "choose",
    "falls_back",
    "is_plain",
    "kernels",
    "rescale",
    "run",
]

Path = Literal[
    "short",
    "long",
    "short_products",
    "products",
    "short_logs",
    "logs",
    "short_log_products",
    "log_products",
    "shards",
    "reference",
]

# Half precision goes to the loops as its bits: Numba has no arithmetic for it, the loops widen it on load.
_STORED_AS = {"float16": np.dtype(np.int16), "bfloat16": np.dtype(np.uint16)}
_NATIVE = (np.dtype(np.float32), np.dtype(np.float64))
_PLAIN = frozenset(_NATIVE)

# Results larger than a last-level cache are written past it, where rows are long: at the ends of short ones
# more is lost than won.
_STREAMED, _STREAMED_ROW = 1 << 25, 1 << 14  # bytes of all, and of a row
# entries that are copied together where rows do not lie one after the other: a core's cache holds them
_PIECE = 1 << 17


class Kernels(NamedTuple):
    """The modules of the compiled loops."""

    short: Any
    long: Any
    products: Any
    short_products: Any
    short_logs: Any
    logs: Any
    short_log_products: Any
    log_products: Any
    shards: Any
    transform: Any
    target: Any


class LoopError(RuntimeError):
    """A loop did not compile: nothing has been written, and :func:`choose` says "reference" from now on."""


class _State:
    """Whether the loops have failed in this process."""

    lock = threading.Lock()
    failed = False


@cache
def kernels() -> Kernels | None:
    """Return the compiled loops, or None where Numba cannot be had or does not compile.

    They are imported on the first call only.
    """
    if find_spec("numba") is None:
        return None
    try:
        import numba

        # for a debugger or a profile: the loops have no form without the compiler
        if getattr(numba.config, "DISABLE_JIT", False):
            return None
        from ._kernels import (
            log_products,
            log_rows,
            long_rows,
            products,
            shards,
            short_log_products,
            short_logs,
            short_products,
            short_rows,
            target,
            transform,
        )
    # a Numba that does not fit NumPy, LLVM or the processor fails in ways of its own
    except Exception as error:
        _give_up(error)
        return None
    return Kernels(
        short_rows,
        long_rows,
        products,
        short_products,
        short_logs,
        log_rows,
        short_log_products,
        log_products,
        shards,
        transform,
        target,
    )


def _give_up(error: Exception) -> None:
    """Leave everything to NumPy from now on, and say so once."""
    with _State.lock:
        first, _State.failed = not _State.failed, True
    if first:
        reason = str(error).strip().partition("\n")[0]
        warnings.warn(
            f"softmax_lab's compiled loops fail here, and NumPy takes over, slower ({type(error).__name__}: "
            f"{reason})",
            RuntimeWarning,
            stacklevel=2,
        )


Given = ParamSpec("Given")
Result = TypeVar("Result")


def falls_back(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Do a function's work again, by the reference, where its loop does not compile."""

    @wraps(function)
    def either(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except LoopError:
            return function(*args, **kwargs)

    return either


def choose(num_classes: int, *, product: bool = False, singles: bool = False) -> Path:
    """Return the loop for rows of a number of classes: their loss, or its product with the Hessian.

    ``singles`` says that sixteen lanes of float32 will do: then longer rows are worked on side by side.
    """
    loops = kernels()
    if loops is None or _State.failed:
        return "reference"
    short = num_classes <= loops.short.MOST_CLASSES
    if product:
        return "short_products" if short else "products"
    if singles:
        short = num_classes <= loops.short.MOST_IN_SINGLES
    return "short" if short else "long"


def _call(loop: Callable[..., Any], *arguments: Any) -> None:
    """Call a loop whose last arguments are its first row and the one after its last.

    A loop that does not compile raises :class:`LoopError`: it fails on no rows, too. Any other error is the
    caller's.
    """
    try:
        loop(*arguments)
    except Exception as error:
        try:
            loop(*arguments[:-2], 0, 0)
        except Exception:
            _give_up(error)
            raise LoopError("the compiled loops fail here: call again, and NumPy does the work") from error
        raise


def as_stored(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array as the loops read it: itself, or the bits of half precision."""
    if array.dtype in _NATIVE:
        return array
    return array.view(_STORED_AS[array.dtype.name])


Arguments = Callable[[slice], tuple[Any, ...]]


def run(
    path: Path,
    name: str,
    logits: NDArray[Any],
    axis: int,
    result: NDArray[Any] | None,
    arguments: Arguments,
    *,
    backward: bool = False,
    light: int = 1,
) -> None:
    """Run a compiled loop over the rows of ``logits`` along ``axis``.

    What it writes goes to ``result``, of the same shape.

    The loop is called as ``loop(rows, result, streaming, *arguments, K, start, stop)`` on flat arrays;
    ``arguments(some)`` returns what it needs for a slice of all rows. Rows that do not lie one after the
    other, or at odd addresses, are copied a cache full at a time, and never the array as a whole.
    ``backward`` and ``light`` are as in ``_threads.share``.
    """
    loops = kernels()
    assert loops is not None
    loop = getattr(getattr(loops, path), name)
    rows = np.moveaxis(logits, axis, -1) if axis != logits.ndim - 1 else logits
    written = None if result is None else np.moveaxis(result, axis, -1) if axis != logits.ndim - 1 else result
    num_classes = rows.shape[-1]
    if _in_place(rows) and (written is None or _in_place(written)):
        given, whole = arguments(slice(None)), _whole(path)
        _run_in_place(loop, rows, written, given, whole=whole, backward=backward, light=light)
        return

    def work(first: int, last: int) -> None:
        for index, some in pieces[first:last]:
            source = np.require(rows[index], requirements=("C", "ALIGNED"))
            target = np.empty(0, source.dtype) if written is None else np.empty_like(source)
            flat = as_stored(target).reshape(-1)
            _call(
                loop,
                read_only(as_stored(source).reshape(-1)),
                flat,
                False,
                *arguments(some),
                num_classes,
                0,
                some.stop - some.start,
            )
            if written is not None:
                written[index] = target

    pieces = list(_pieces(rows.shape))
    share(work, len(pieces), rows.size // max(1, len(pieces)), whole=1, backward=backward, light=light)


class Loop:
    """A compiled loop for plain arrays of one type (:func:`is_plain`), held by its machine code.

    The dispatcher of a compiled function looks up its code by the types of its arguments, at every call, and
    that takes as long as the work on some twenty short rows. Here all calls have arguments of the same types,
    and it is asked once. So many rows that several threads share them go the way of :func:`run`.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        #: what takes a loop's arguments, once it is known
        self.code: Callable[..., Any] | None = None

    def __call__(self, logits: NDArray[Any], result: NDArray[Any] | None, given: tuple[Any, ...]) -> None:
        """Run over all rows; ``given`` is what the loop needs beside them, for all."""
        if self.code is None or logits.size >= WORTH_SHARING:
            self._by_dispatcher(logits, result, given)
            return
        source, num_classes = logits.reshape(-1), logits.shape[-1]
        target = source if result is None else result.reshape(-1)  # where nothing is written
        self.code(source, target, False, *given, num_classes, 0, source.size // num_classes)

    def _by_dispatcher(
        self, logits: NDArray[Any], result: NDArray[Any] | None, given: tuple[Any, ...]
    ) -> None:
        loop = getattr(getattr(kernels(), self.path), self.name)
        arguments = _run_in_place(loop, logits, result, given, whole=_whole(self.path))
        if self.code is not None:
            return
        with suppress(AttributeError, KeyError):  # another Numba may keep it elsewhere: then as before
            self.code = loop.overloads[tuple(map(loop.typeof_pyval, arguments))].entry_point


def is_plain(array: Any) -> bool:
    """Whether an array is NumPy's own, float32 or float64, with one row after the other in memory."""
    if type(array) is not np.ndarray or array.dtype not in _PLAIN or array.ndim == 0:
        return False
    flags = array.flags
    return flags.c_contiguous and flags.aligned and array.size > 0


def _run_in_place(
    loop: Callable[..., None],
    rows: NDArray[Any],
    written: NDArray[Any] | None,
    given: tuple[Any, ...],
    *,
    whole: int,
    backward: bool = False,
    light: int = 1,
) -> tuple[Any, ...]:
    """Run a loop over all rows, and return arguments that it has been called with.

    Threads share the rows in parts that begin at multiples of ``whole``.
    """
    num_classes = rows.shape[-1]
    source = as_stored(rows).reshape(-1)
    source.flags.writeable = False  # as of all that the loops only read: this view is nobody else's
    target = np.empty(0, source.dtype) if written is None else as_stored(written).reshape(-1)
    num_rows = source.size // num_classes
    arguments = source, target, False, *given, num_classes, 0, num_rows
    if source.size < WORTH_SHARING:
        _call(loop, *arguments)
        return arguments
    large = target.nbytes >= _STREAMED and num_classes * target.itemsize >= _STREAMED_ROW
    streaming = large and not np.may_share_memory(source, target)
    share(
        lambda start, stop: _call(loop, source, target, streaming, *given, num_classes, start, stop),
        num_rows,
        num_classes,
        whole,
        backward=backward,
        light=light,
    )
    return arguments


def _whole(path: Path) -> int:
    """Return how many rows a loop takes at a time."""
    return 16 if path.startswith("short") else 1


def rescale(result: NDArray[Any], factor: float) -> None:
    """Multiply an array in place: in float64, each entry rounded once."""
    loops = kernels()
    assert loops is not None
    if not _in_place(result):
        np.multiply(result, factor, out=result, dtype=np.float64, casting="same_kind")
        return
    flat = result.reshape(-1)
    groups = -(-flat.size // 8)  # a multiplication costs an eighth of what the work on a logit does
    try:
        share(
            lambda start, stop: _call(loops.long.rescale, flat, factor, 8 * start, min(8 * stop, flat.size)),
            groups,
            1,
        )
    except LoopError:  # what has been computed stays
        np.multiply(result, factor, out=result, dtype=np.float64, casting="same_kind")


def _in_place(array: NDArray[Any]) -> bool:
    """Whether the loops can read or write the array where it is.

    Its rows lie one after the other, and each entry where its size puts it.
    """
    return array.flags.c_contiguous and array.flags.aligned


def _pieces(shape: tuple[int, ...]) -> Iterator[tuple[tuple[Any, ...], slice]]:
    """Cut an array of rows into pieces of about ``_PIECE`` entries.

    A piece is an index of the leading axes, and the rows that it stands for.
    """
    lead = shape[:-1]
    if not lead:
        yield (), slice(0, 1)
        return
    # the axes before ``depth`` are walked one by one, that axis in steps, the later ones are taken whole
    sizes = [int(np.prod(shape[depth + 1 :])) for depth in range(len(lead))]
    depth = next((i for i, size in enumerate(sizes) if size <= _PIECE), len(lead) - 1)
    step = max(1, _PIECE // max(1, sizes[depth]))
    rows_a_step = int(np.prod(lead[depth + 1 :]))
    first = 0
    for outer in np.ndindex(*lead[:depth]):
        for start in range(0, lead[depth], step):
            stop = min(start + step, lead[depth])
            count = (stop - start) * rows_a_step
            yield (*outer, slice(start, stop)), slice(first, first + count)
            first += count
