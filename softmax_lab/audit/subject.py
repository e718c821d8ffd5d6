"""One audited function of one implementation: called safely, its answer brought to a known form."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BrokenError", "NotOfferedError", "Subject"]


class BrokenError(Exception):
    """The implementation raised, or returned something of the wrong form; the message is the verdict."""


class NotOfferedError(Exception):
    """The implementation does not offer what the case needs: no verdict."""


@dataclass(frozen=True)
class Subject:
    """A function under audit, by name: softmax, log_softmax, cross_entropy or cross_entropy_grad."""

    implementation: Any
    function: str

    @property
    def takes_labels(self) -> bool:
        return self.function.startswith("cross_entropy")

    def accepts(self, *keywords: str) -> bool:
        """Whether the function names these keywords (``**kwargs`` does not count: it promises nothing)."""
        try:
            parameters = inspect.signature(self._callable).parameters
        except (TypeError, ValueError):  # built-in callables may have no signature
            return False
        return all(keyword in parameters for keyword in keywords)

    @property
    def _callable(self) -> Any:
        return getattr(self.implementation, self.function)

    def __call__(self, z: NDArray[Any], y: NDArray[Any] | None = None, **keywords: Any) -> NDArray[np.float64]:
        """Return the answer as float64: (N, K), or (N,) for the loss; raise ``BrokenError`` for any other form."""
        with np.errstate(all="ignore"):
            try:
                result = self._callable(z, **keywords) if y is None else self._callable(z, y, **keywords)
            except NotImplementedError as error:
                raise NotOfferedError(str(error)) from error
            except Exception as error:  # whatever it raises is the finding
                raise BrokenError(f"raises {type(error).__name__}: {_first_line(error)}") from error
        return self._formed(result, z)

    def _formed(self, result: Any, z: NDArray[Any]) -> NDArray[np.float64]:
        if self.function == "cross_entropy_grad" and isinstance(result, tuple) and len(result) == 2:
            result = result[1]  # (value, gradient)
        array = np.asarray(result)
        shape = z.shape[:1] if self.function == "cross_entropy" else z.shape
        if array.shape != shape and not (array.size == 1 and shape == (1,)):
            what = "one loss a row" if self.function == "cross_entropy" else "one entry a logit"
            raise BrokenError(f"returns shape {array.shape} for {z.shape} logits; expected {shape}, {what}")
        try:
            return array.astype(np.float64).reshape(shape)
        except (TypeError, ValueError):
            raise BrokenError(f"returns {array.dtype} entries; expected real numbers") from None


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return (text[0] if text else "no message")[:160]
