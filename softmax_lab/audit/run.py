"""Run the audit: every implementation, function, dtype and case, one row each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _checks
from .._extras import bfloat16, load
from .adapters import make
from .ahead import Ahead
from .checks import CHECKS, Finding
from .subject import FUNCTIONS, Subject, contained

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "NothingToAuditError", "run"]

COLUMNS = ("implementation", "function", "dtype", "case", "max_ulp", "ok", "wrong", "problem", "reason")


class NothingToAuditError(TypeError):
    """An object has none of the functions, or does not say its types as it must."""


def run(
    implementations: Mapping[str, Any] | Sequence[str] | str,
    *,
    limit_ulp: float = 4.0,
    dtypes: Sequence[str] | None = None,
    functions: Sequence[str] | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Audit implementations of softmax and cross-entropy against exact arithmetic.

    Parameters
    ----------
    implementations : mapping or sequence of str
        Names of the built-in adapters, such as ``["torch", "jax"]``; or names mapped to objects. An object
        has any of ``softmax(z)``, ``log_softmax(z)``, ``cross_entropy(z, y)`` (a loss per row),
        ``cross_entropy_grad(z, y)``, and of the logarithm of each row's loss ``log_cross_entropy(z, y)`` and
        ``log_cross_entropy_grad(z, y)``: NumPy rows (N, K) in, NumPy out. It may be a bare function that has,
        or is mapped from, one of these names. Its attribute ``dtypes`` says which types it takes. Keywords
        ``where``, ``label_smoothing`` and ``class_weight``, where a function names them, bring further cases,
        and so do ``axis`` of a softmax (arrays of two and of three axes) and ``upstream`` of a gradient (a
        factor a row). What raises ``NotImplementedError`` is left out.
    limit_ulp : float
        The largest error that passes, in ulp of the input's type.
    dtypes : sequence of str, optional
        Of float16, bfloat16, float32 and float64; all by default.
    functions : sequence of str, optional
        Of the names above; all by default.
    progress : bool
        Show a progress bar on the terminal.

    Returns
    -------
    pandas.DataFrame
        A row a (implementation, function, dtype, case): ``max_ulp`` (NaN where ulps are not the matter),
        ``ok``, ``wrong``, ``problem`` in words, and the case's ``reason``. ``wrong`` says that more than
        digits is lost: NaN, an infinity, 0, 1 or a sign where the exact value has another, or something that
        is no matter of ulps. Whatever a function raises or returns is a finding, never an error.

    Raises
    ------
    TypeError
        On an object with nothing to audit, or with ``dtypes`` that are no names of types.
    ValueError
        On an option out of its range, or a name that is no implementation.
    ModuleNotFoundError
        Where pandas, ml_dtypes (for bfloat16) or tqdm (for progress) is missing, saying how it is installed.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> frame = sl.audit.run(["softmax_lab"], dtypes=["float32"], functions=["softmax"], progress=False)
    >>> bool(frame.ok.all())
    True
    """
    pd = load("pandas", "the audit's table is made by pandas")
    limit_ulp = _checks.number("limit_ulp", limit_ulp, low=0.0)
    chosen_dtypes = _chosen("dtypes", dtypes, _checks.FLOAT_DTYPES)
    chosen_functions = _chosen("functions", functions, FUNCTIONS)
    kinds = {dtype: bfloat16() if dtype == "bfloat16" else np.dtype(dtype) for dtype in chosen_dtypes}
    subjects = [
        (name, Subject(implementation, function), dtype)
        for name, implementation in _objects(implementations).items()
        for function in chosen_functions
        if Subject(implementation, function).offered
        for dtype in _dtypes_of(name, implementation)
        if dtype in kinds
    ]
    rows: list[tuple[Any, ...]] = []
    with Ahead((subject, kinds[dtype]) for _, subject, dtype in subjects) as ahead:
        for name, subject, dtype in _with_progress(subjects, progress):
            ahead.ready(subject, kinds[dtype])
            rows += (
                (name, subject.function, dtype, check.name, *finding, check.reason)
                for check in CHECKS
                if (
                    finding := check.run(
                        subject.implementation, subject.function, kinds[dtype], limit_ulp=limit_ulp
                    )
                )
            )
    found = ("implementation", "function", "dtype", "case", *Finding._fields, "reason")
    frame = pd.DataFrame(rows, columns=list(found))
    frame["ok"] = frame["problem"] == ""
    return frame[list(COLUMNS)]


def _chosen(name: str, values: Sequence[str] | None, allowed: tuple[str, ...]) -> list[str]:
    if values is None:
        return list(allowed)
    if isinstance(values, str):
        values = [values]
    for value in values:
        _checks.choice(f"each of {name}", value, allowed)
    return [value for value in allowed if value in values]


def _objects(implementations: Mapping[str, Any] | Sequence[str] | str) -> dict[str, Any]:
    """Return name -> object, and refuse an object with nothing to audit."""
    if isinstance(implementations, Mapping):
        objects = dict(implementations)
    else:
        names = [implementations] if isinstance(implementations, str) else list(implementations)
        objects = {name: make(name) for name in names}
    if not objects:
        raise ValueError("implementations must name at least one; got none")
    return {name: _with_names(name, implementation) for name, implementation in objects.items()}


def _with_names(name: str, implementation: Any) -> Any:
    """Return an object that has some of the functions.

    A function that is called as one of them becomes an object with it alone.
    """
    if any(Subject(implementation, function).offered for function in FUNCTIONS):
        return implementation
    called = (re.split("[.:]", name)[-1], getattr(implementation, "__name__", None))
    function = next((each for each in called if each in FUNCTIONS), None)
    if function is None or not callable(implementation):
        raise NothingToAuditError(
            f"{name} must have at least one callable of {', '.join(FUNCTIONS)}, "
            "or be a function of one of these names; "
            f"got {type(implementation).__name__} with none"
        )
    return SimpleNamespace(
        **{function: implementation, "dtypes": getattr(implementation, "dtypes", _checks.FLOAT_DTYPES)}
    )


def _dtypes_of(name: str, implementation: Any) -> list[str]:
    """Return the types that an object says it takes: all, where it says nothing."""
    with contained():
        said = getattr(implementation, "dtypes", _checks.FLOAT_DTYPES)
        names = list(said) if isinstance(said, Iterable) and not isinstance(said, str) else [said]
    for each in names:
        if each not in _checks.FLOAT_DTYPES:
            raise NothingToAuditError(
                f"{name}.dtypes must hold names of {', '.join(_checks.FLOAT_DTYPES)}; got {each!r}"
            )
    return [dtype for dtype in _checks.FLOAT_DTYPES if dtype in names]


def _with_progress(
    subjects: list[tuple[str, Subject, str]], progress: bool
) -> Iterator[tuple[str, Subject, str]]:
    if not progress:
        yield from subjects
        return
    tqdm = load("tqdm", "the audit's progress, unless progress=False, is shown by tqdm").tqdm
    with tqdm(subjects, unit="function", disable=None) as bar:  # None: silent where there is no terminal
        for name, subject, dtype in bar:
            bar.set_postfix_str(f"{name} {subject.function} {dtype}")
            yield name, subject, dtype
