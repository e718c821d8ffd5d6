"""One audited function of one implementation: called safely, its answer brought to a known form."""

from __future__ import annotations

import contextlib
import inspect
import numbers
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FUNCTIONS",
    "KEYWORDS",
    "LOG_LOSSES",
    "ONE_A_ROW",
    "PLAIN",
    "BrokenError",
    "ExitError",
    "NotOfferedError",
    "RaisedError",
    "Subject",
    "contained",
    "first_line",
]

PLAIN = ("softmax", "log_softmax", "cross_entropy", "cross_entropy_grad")
#: the logarithm of each row's loss; few offer it, so it has cases of its own
LOG_LOSSES = ("log_cross_entropy", "log_cross_entropy_grad")
FUNCTIONS = (*PLAIN, *LOG_LOSSES)
ONE_A_ROW = ("cross_entropy", "log_cross_entropy")  # the others have one entry a logit
_WITH_VALUE = ("cross_entropy_grad", "log_cross_entropy_grad")  # may return (value, gradient)
#: what a function may name among its parameters, and so be asked further cases
KEYWORDS = ("where", "label_smoothing", "class_weight", "axis", "upstream")


class BrokenError(Exception):
    """The implementation raised, or returned something of the wrong form; the message is the verdict."""


class RaisedError(BrokenError):
    """The implementation raised an error, which a caller can catch."""


class NotOfferedError(Exception):
    """The implementation does not offer what the case needs: no verdict."""


class ExitError(RuntimeError):
    """What was imported or called would have ended the program; the message says how."""


@contextlib.contextmanager
def contained() -> Iterator[None]:
    """Turn what ``except Exception`` lets through, ``SystemExit`` above all, into ``ExitError``.

    An interruption stays one.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise ExitError(
            f"raises {type(error).__name__} ({first_line(error)}), which ends the program: raise an Exception"
        ) from error


@dataclass(frozen=True)
class Subject:
    """A function under audit, by one of the names in ``FUNCTIONS``."""

    implementation: Any
    function: str

    @property
    def takes_labels(self) -> bool:
        return self.function in (*ONE_A_ROW, *_WITH_VALUE)

    @property
    def offered(self) -> bool:
        """Whether the implementation has the function.

        One that raises as it is looked up is there, and broken.
        """
        try:
            with contained():
                return callable(getattr(self.implementation, self.function, None))
        except Exception:
            return True

    def accepts(self, *keywords: str) -> bool:
        """Whether the function names these keywords.

        ``**kwargs`` does not count: it promises nothing.
        """
        try:
            with contained():
                parameters = inspect.signature(self._callable).parameters
        except Exception:  # a built-in callable may have no signature; what else fails shows in a call
            return False
        return all(keyword in parameters for keyword in keywords)

    @property
    def _callable(self) -> Any:
        return getattr(self.implementation, self.function)

    def __call__(
        self, z: NDArray[Any], y: NDArray[Any] | None = None, **keywords: Any
    ) -> NDArray[np.float64]:
        """Return the answer as float64: (N, K), or (N,) for the loss.

        Raise ``BrokenError`` for any other form.
        """
        with np.errstate(all="ignore"):
            try:
                with contained():
                    result = self._callable(z, **keywords) if y is None else self._callable(z, y, **keywords)
            except (BrokenError, NotOfferedError):
                raise  # a program has said so itself
            except NotImplementedError as error:
                raise NotOfferedError(str(error)) from error
            except ExitError as error:
                raise BrokenError(str(error)) from error
            except Exception as error:  # whatever it raises is the finding
                raise RaisedError(f"raises {type(error).__name__}: {first_line(error)}") from error
            return self._formed(result, z)

    def _formed(self, result: Any, z: NDArray[Any]) -> NDArray[np.float64]:
        if self.function in _WITH_VALUE and isinstance(result, tuple) and len(result) == 2:
            result = result[1]  # (value, gradient)
        array = _real(result)
        single = self.function in ONE_A_ROW
        shape = z.shape[:1] if single else z.shape
        if array.shape != shape and not (array.size == 1 and shape == (1,)):
            what = "one loss a row" if single else "one entry a logit"
            raise BrokenError(f"returns shape {array.shape} for {z.shape} logits; expected {shape}, {what}")
        return array.reshape(shape)


def _real(result: Any) -> NDArray[np.float64]:
    """Return what a function returned as float64, or say why it is no array of real numbers."""
    kind = type(result).__name__
    try:
        with contained():
            array = np.asarray(result)
            if _holds_reals(array) and not np.ma.is_masked(result):
                return array.astype(np.float64)
    except Exception as error:  # ragged lists, tensors with a gradient or on a GPU: each has its own error
        said = f"{type(error).__name__}: {first_line(error)}"
        raise BrokenError(
            f"returns a {kind} that NumPy cannot read ({said}); expected an array of real numbers"
        ) from error
    masked = " and masked entries" if np.ma.is_masked(result) else ""
    raise BrokenError(f"returns a {kind} with dtype {array.dtype}{masked}; expected an array of real numbers")


def _holds_reals(array: NDArray[Any]) -> bool:
    """Whether the entries are real numbers.

    Truth values are none, nor is text that reads like numbers, nor are complex numbers cut down.
    """
    if array.dtype == object:
        return all(isinstance(entry, numbers.Real) and not isinstance(entry, bool) for entry in array.flat)
    return array.dtype != np.bool_ and np.can_cast(array.dtype, np.float64, "same_kind")


def first_line(error: object) -> str:
    """Return the first line of what an error, or a text, says, cut to a length that fits a table."""
    text = str(error).strip().splitlines()
    return (text[0] if text else "no message")[:160]
