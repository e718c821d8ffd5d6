"""A LossSpec for JAX: a pytree whose numbers and arrays are leaves, and which fields are active is structure.

Everything here follows from :data:`softmax_lab.spec.FIELDS`. A field that is neutral when the spec is made is
no leaf: no formula reads it, and no derivative is asked of it. A field that is active stays active whatever a
transformation puts in its place.
"""

from __future__ import annotations

import math
from collections import namedtuple
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ...spec import FIELDS, LossSpec, needing_labels, refuse_in_log

__all__ = ["Fields", "active_fields", "fields_of", "log_refuses", "needs_labels", "number_of_classes"]

_KEY = "_active_in_jax"  # in the spec's own dictionary, where torch's tensors of it are kept too
SMALLEST, LARGEST = 1e-15, 1e15  # float32 has room for the square of a quotient of such numbers

if TYPE_CHECKING:

    class Fields(tuple[Any, ...]):
        """The active fields of a LossSpec, in the type that is computed in; None where a field is not."""

        _fields: ClassVar[tuple[str, ...]]

        def __new__(cls, **fields: Any) -> Fields: ...
        def __getattr__(self, name: str) -> Any: ...
        def _replace(self, **fields: Any) -> Fields: ...

else:
    Fields = namedtuple("Fields", FIELDS, defaults=[None] * len(FIELDS))


def active_fields(spec: LossSpec) -> tuple[str, ...]:
    """Return the names of the active fields, in their order."""
    found: tuple[str, ...] = spec.__dict__.get(_KEY) or tuple(name for name in FIELDS if spec.has(name))
    return found


def _flatten(spec: LossSpec) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    names = active_fields(spec)
    return tuple(getattr(spec, name) for name in names), names


def _flatten_with_keys(spec: LossSpec) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    leaves, names = _flatten(spec)
    return tuple((jax.tree_util.GetAttrKey(n), leaf) for n, leaf in zip(names, leaves, strict=True)), names


def _unflatten(names: tuple[str, ...], leaves: Any) -> LossSpec:
    """Return a spec without the checks of its constructor: JAX puts tracers and placeholders in."""
    spec = object.__new__(LossSpec)
    neutral = {name: field.neutral for name, field in FIELDS.items()}
    spec.__dict__.update(neutral | dict(zip(names, leaves, strict=True)) | {_KEY: names})
    return spec


jax.tree_util.register_pytree_with_keys(LossSpec, _flatten_with_keys, _unflatten, _flatten)


def fields_of(spec: LossSpec, dtype: Any) -> Fields:
    """Return the active fields in a type, for an argument of a compiled function.

    What is known is NumPy's: a constant where the caller traces, and no device is asked.
    """
    given = {name: getattr(spec, name) for name in active_fields(spec)}
    _refuse_extremes(given, np.dtype(dtype))
    return Fields(**{name: _typed(value, dtype) for name, value in given.items()})


def _typed(value: Any, dtype: Any) -> Any:
    return np.asarray(value, dtype) if _is_known(value) else jnp.asarray(value, dtype)


def _is_known(value: Any) -> bool:
    return isinstance(value, (int, float, np.ndarray, np.number))


def _refuse_extremes(given: dict[str, Any], dtype: np.dtype[Any]) -> None:
    """Refuse a field that the type cannot square, where its value is known."""
    low, high = (SMALLEST, LARGEST) if dtype == np.float32 else (2.0**-250, 2.0**250)
    for name, value in given.items():
        if not _is_known(value) or FIELDS[name].size == "share":
            continue
        sizes = np.abs(np.asarray(value, np.float64))
        factors = FIELDS[name].size == "factor" and name != "prior"
        if (sizes > high).any() or (factors and (sizes[sizes > 0] < low).any()):
            worst = float(sizes.max() if (sizes > high).any() else sizes[sizes > 0].min())
            raise ValueError(
                f"{name} must lie between {low:g} and {high:g} in size in {dtype.name}; got "
                f"{worst!r}: softmax_lab.cross_entropy takes it"
            )


def number_of_classes(spec: LossSpec) -> int | None:
    """Return K where any field is an array, else None (fits every K)."""
    shapes = (np.shape(getattr(spec, name)) for name in active_fields(spec))
    return next((shape[-1] for shape in shapes if shape), None)


def _stand_ins(spec: LossSpec) -> dict[str, Any]:
    """Return fields that are active where the spec's are, of the same shapes, with nothing to be read."""
    values: dict[str, Any] = {name: field.neutral for name, field in FIELDS.items()}
    for name in active_fields(spec):
        shape = np.shape(getattr(spec, name))
        values[name] = np.broadcast_to(math.nan, shape) if shape else math.nan
    return values


def needs_labels(spec: LossSpec) -> tuple[str, ...]:
    """Return which active fields have no meaning for a target distribution."""
    return needing_labels(_stand_ins(spec), traced=True)


def log_refuses(spec: LossSpec, is_distribution: bool) -> None:
    """Refuse what the log of the mean loss does not take."""
    refuse_in_log(SimpleNamespace(**_stand_ins(spec)), is_distribution, traced=True)  # type: ignore[arg-type]
