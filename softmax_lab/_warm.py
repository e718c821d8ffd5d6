"""Compiling ahead: what the first calls of a process would wait for.

It is done by the public functions on tiny arrays. So what is compiled is what calls need, and no list of
types can fall behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _checks, _dispatch
from ._extras import bfloat16, load
from .cross_entropy import (
    cross_entropy,
    cross_entropy_backward,
    cross_entropy_forward,
    cross_entropy_grad,
    cross_entropy_hvp,
)
from .log_cross_entropy import log_cross_entropy, log_cross_entropy_grad, log_cross_entropy_hvp
from .softmax import log_softmax, logsumexp, softmax
from .spec import LossSpec, refused_by_log

__all__ = ["Warmed", "warm"]

# From the shortest rows to such as are not held as a whole: whatever decides on a loop decides between two of
# these. A length whose loop is there already costs next to nothing.
_LENGTHS = (2, 8, 16, 32, 64, 256, 1 << 10, 1 << 12, 1 << 15, (1 << 20) + 1)


class Warmed(NamedTuple):
    """What :func:`warm` has found and done; a loop counts once for each combination of types."""

    compiled: int  # loops that it has compiled
    ready: int  # loops that were there: in this process, or on disk


def warm(
    specs: Iterable[LossSpec] = (LossSpec(),),
    dtypes: Iterable[str] = ("float32",),
    *,
    where: bool = False,
    soft: bool = False,
    log: bool = False,
    progress: bool = False,
) -> Warmed:
    """Compile the loops that common calls need, so that no call has to wait for them.

    The first call of a function on a type compiles a loop, in a few seconds. The result is kept on disk
    for later processes, beside the package or where the environment variable ``NUMBA_CACHE_DIR`` says, and
    serves the kind of processor that it was compiled on.

    .. versionadded:: 0.2

    Parameters
    ----------
    specs : iterable of LossSpec
        The losses to compile: value, gradient, the gradient from a later pass, the Hessian-vector product. A
        spec with an entry a class is compiled for rows of its number of classes, any other for short and for
        long rows.
    dtypes : iterable of str
        The logits' types, by name: float16, bfloat16, float32, float64. Softmax, log-softmax and log-sum-exp
        are compiled for them too.
    where : bool
        Whether calls with a mask are compiled as well.
    soft : bool
        Whether losses are compiled for target distributions of the logits' type as well, where a spec takes
        them.
    log : bool
        Whether the log of the mean loss is compiled as well, with the specs that it takes: value, gradient
        and Hessian-vector product.
    progress : bool
        Whether a bar is shown, where there is a terminal.

    Returns
    -------
    Warmed
        ``compiled``, how many loops this call has compiled, and ``ready``, how many were there already. Both
        are 0 where Numba cannot be had, and NumPy does the work.

    Raises
    ------
    TypeError, ValueError
        On what is no spec or no name of a type, or none at all; before any work is done.
    ModuleNotFoundError
        Where ml_dtypes (for bfloat16) or tqdm (for progress) is missing, saying how it is installed.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> sl.warm([sl.losses.focal()]).compiled >= 0
    True
    >>> sl.warm([sl.losses.focal()]).compiled
    0
    """
    wanted = _specs(specs)
    kinds = [bfloat16() if name == "bfloat16" else np.dtype(name) for name in _names(dtypes)]
    tqdm = load("tqdm", "progress is shown by tqdm").tqdm if progress else None
    if _dispatch.choose(2) == "reference":
        return Warmed(0, 0)
    calls = [*_calls(wanted, kinds, where, soft), *(_log_calls(wanted, kinds, where) if log else ())]
    before, _ = _counted()
    if tqdm is None:
        for _, call in calls:
            call()
    else:
        with tqdm(calls, unit="call", disable=None) as bar:  # None: silent where there is no terminal
            for name, call in bar:
                bar.set_postfix_str(name)
                call()
    after, there = _counted()
    return Warmed(after - before, there - (after - before))


def _specs(specs: Iterable[LossSpec]) -> list[LossSpec]:
    if isinstance(specs, LossSpec) or not isinstance(specs, Iterable):
        raise TypeError(f"specs must be several LossSpec, as a list; got {type(specs).__name__}")
    wanted = list(specs)
    for spec in wanted:
        if not isinstance(spec, LossSpec):
            raise TypeError(f"each of specs must be a LossSpec; got {type(spec).__name__}")
    if not wanted:
        raise ValueError("specs must hold at least one LossSpec; got none")
    return wanted


def _names(dtypes: Iterable[str]) -> list[str]:
    if isinstance(dtypes, str) or not isinstance(dtypes, Iterable):
        raise TypeError(f"dtypes must be several names of types, as a list; got {dtypes!r}")
    names = list(dtypes)
    for name in names:
        _checks.choice("each of dtypes", name, _checks.FLOAT_DTYPES)
    if not names:
        raise ValueError("dtypes must name at least one type; got none")
    return names


Call = tuple[str, Callable[[], Any]]


def _calls(specs: list[LossSpec], kinds: list[np.dtype[Any]], where: bool, soft: bool) -> Iterator[Call]:
    """Yield what to call, with its name."""
    for kind in kinds:
        for num_classes in _LENGTHS:
            for kept in _masks(num_classes, where):
                yield f"softmax, {kind.name}", _softmaxes(np.zeros((2, num_classes), kind), kept)
        for spec in specs:
            for num_classes in _LENGTHS if spec.num_classes is None else (spec.num_classes,):
                logits = np.zeros((2, num_classes), kind)
                for kept in _masks(num_classes, where):
                    for target in _targets(logits, soft and not spec.needs_class_index):
                        yield f"loss, {kind.name}", _losses(logits, target, spec, kept)


def _log_calls(specs: list[LossSpec], kinds: list[np.dtype[Any]], where: bool) -> Iterator[Call]:
    """Yield what to call for the log of the mean loss, with its name."""
    for kind in kinds:
        for spec in specs:
            if refused_by_log(spec):
                continue
            for num_classes in _LENGTHS if spec.num_classes is None else (spec.num_classes,):
                logits = np.zeros((2, num_classes), kind)
                for kept in _masks(num_classes, where):
                    yield f"log of the mean loss, {kind.name}", _log_losses(logits, spec, kept)


def _log_losses(logits: NDArray[Any], spec: LossSpec, kept: NDArray[np.bool_] | None) -> Callable[[], None]:
    def call() -> None:
        log_cross_entropy(logits, np.zeros(2, np.int64), spec, where=kept)
        # unlike rows, whose shares are not 1
        logits[0, 0] = 1
        log_cross_entropy_grad(logits, np.zeros(2, np.int64), spec, where=kept)
        log_cross_entropy_hvp(logits, np.zeros(2, np.int64), logits, spec, where=kept)

    return call


def _masks(num_classes: int, where: bool) -> list[NDArray[np.bool_] | None]:
    return [None, np.arange(num_classes) < max(1, num_classes - 1)] if where else [None]


def _targets(logits: NDArray[Any], soft: bool) -> list[NDArray[Any]]:
    labels = np.zeros(len(logits), np.int64)
    if not soft:
        return [labels]
    shares = np.zeros_like(logits)
    shares[:, 0] = 1
    return [labels, shares]


def _softmaxes(logits: NDArray[Any], kept: NDArray[np.bool_] | None) -> Callable[[], None]:
    def call() -> None:
        softmax(logits, where=kept)
        log_softmax(logits, where=kept)
        logsumexp(logits, where=kept)

    return call


def _losses(
    logits: NDArray[Any], target: NDArray[Any], spec: LossSpec, kept: NDArray[np.bool_] | None
) -> Callable[[], None]:
    def call() -> None:
        cross_entropy(logits, target, spec, where=kept)
        cross_entropy_grad(logits, target, spec, where=kept)
        _, stored = cross_entropy_forward(logits, target, spec, where=kept)
        cross_entropy_backward(logits, target, stored, np.ones(1), spec, where=kept)
        cross_entropy_hvp(logits, target, logits, spec, where=kept)

    return call


def _counted() -> tuple[int, int]:
    """Return how many loops this process has compiled, and how many it has."""
    from ._kernels.compiler import LOOPS

    compiled = sum(sum(loop.stats.cache_misses.values()) for loop in LOOPS)
    return compiled, sum(len(loop.signatures) for loop in LOOPS)
