"""Run the audit: every implementation, function, dtype and case, one row each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _checks
from .checks import CHECKS, Check, Finding
from .subject import BrokenError, NotOfferedError, Subject
from .values import FUNCTIONS

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "run"]

COLUMNS = ("implementation", "function", "dtype", "case", "max_ulp", "ok", "problem", "reason")


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
        Names mapped to objects with any of ``softmax(z)``, ``log_softmax(z)``, ``cross_entropy(z, y)`` (a loss a row) and
        ``cross_entropy_grad(z, y)``, NumPy rows (N, K) in and NumPy out; or names of the built-in adapters, such as
        ``["torch", "jax"]``. Keywords ``where``, ``label_smoothing`` and ``class_weight``, where a function names them,
        bring further cases; what raises ``NotImplementedError`` is left out; an attribute ``dtypes`` says which types
        the object takes.
    limit_ulp : float
        The largest error that passes, in ulp of the input's type.
    dtypes : sequence of str, optional
        Of float16, bfloat16, float32 and float64; all by default.
    functions : sequence of str, optional
        Of the four names above; all by default.
    progress : bool
        Show a progress bar on the terminal.

    Returns
    -------
    pandas.DataFrame
        A row a (implementation, function, dtype, case): ``max_ulp`` (NaN where ulps are not the matter), ``ok``,
        ``problem`` in words, and the case's ``reason``.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> frame = sl.audit.run(["softmax_lab"], dtypes=["float32"], functions=["softmax"], progress=False)
    >>> bool(frame.ok.all())
    True
    """
    import pandas as pd

    limit_ulp = _checks.number("limit_ulp", limit_ulp, low=0.0)
    chosen_dtypes = _chosen("dtypes", dtypes, _checks.FLOAT_DTYPES)
    chosen_functions = _chosen("functions", functions, FUNCTIONS)
    subjects = [
        (name, Subject(implementation, function), dtype)
        for name, implementation in _objects(implementations).items()
        for function in chosen_functions
        if callable(getattr(implementation, function, None))
        for dtype in chosen_dtypes
        if dtype in getattr(implementation, "dtypes", _checks.FLOAT_DTYPES)
    ]
    rows = [
        (name, subject.function, dtype, check.name, *finding, check.reason)
        for name, subject, dtype in _with_progress(subjects, progress)
        for check, finding in _findings(subject, dtype, limit_ulp)
    ]
    frame = pd.DataFrame(rows, columns=["implementation", "function", "dtype", "case", "max_ulp", "problem", "reason"])
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
        from . import adapters

        names = [implementations] if isinstance(implementations, str) else list(implementations)
        objects = {name: adapters.make(name) for name in names}
    if not objects:
        raise ValueError("implementations must name at least one; got none")
    for name, implementation in objects.items():
        if not any(callable(getattr(implementation, function, None)) for function in FUNCTIONS):
            raise TypeError(
                f"{name} must have at least one callable of {', '.join(FUNCTIONS)}; got {type(implementation).__name__} with none"
            )
    return objects


def _with_progress(subjects: list[tuple[str, Subject, str]], progress: bool) -> Iterator[tuple[str, Subject, str]]:
    if not progress:
        yield from subjects
        return
    from tqdm import tqdm

    with tqdm(subjects, unit="function", disable=None) as bar:  # disable=None: silent where there is no terminal
        for name, subject, dtype in bar:
            bar.set_postfix_str(f"{name} {subject.function} {dtype}")
            yield name, subject, dtype


def _findings(subject: Subject, dtype: str, limit: float) -> Iterator[tuple[Check, Finding]]:
    """Yield what every check that applies finds; one that needs what is not offered is left out."""
    kind = _dtype(dtype)
    for check in CHECKS:
        if subject.function not in check.functions:
            continue
        try:
            yield check, check.examine(subject, kind, limit)
        except NotOfferedError:
            continue
        except BrokenError as broken:
            yield check, Finding(float("inf"), str(broken))


def _dtype(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)  # type: ignore[no-any-return, unused-ignore]
    return np.dtype(name)
