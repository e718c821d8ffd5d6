r"""LossSpec: which member of the loss family is meant, as data.

.. math::

    v_k &= c \tanh(z_k / c)                                 &&\text{soft cap (off by default)} \\
    u_k &= (a_k v_k + b_k - m_y [k = y]) / T                &&\text{scale, bias, margin, temperature} \\
    q   &= \operatorname{softmax}(u) \\
    s   &= (1 - \varepsilon_y) e_y + \varepsilon_y r        &&\text{smoothed target} \\
    w   &= W_y^{\,q_y^{\,g}} \text{ with a gate } g > 0, \text{ else } W_y
        &&\text{row weight, constant in derivatives} \\
    L   &= w (1 - q_y)^\gamma \Bigl[-\sum_k s_k \log q_k + \kappa\,(1 - q_y)\Bigr]
        + \lambda \operatorname{lse}(u)^2             &&\text{focal, PolyLoss's first term, z-loss}
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks

__all__ = [
    "FIELDS",
    "MAX_BIAS_MATRIX",
    "PLAIN",
    "Field",
    "LossSpec",
    "acting_on",
    "active",
    "needing_labels",
    "refuse_in_log",
    "refused_by_log",
]

MAX_BIAS_MATRIX = 8192  # classes: a K x K float64 bias beyond this is over half a gigabyte

Part = Literal["logits", "target", "weight", "value"]


class Field(NamedTuple):
    """What the package knows of a field: all that depends on which fields there are is derived from it."""

    symbol: str
    neutral: float | None  # the default, which changes nothing; None: no such thing (a uniform prior, no cap)
    acts_on: Part  # what it changes: u, s, w, or the row's number L
    size: Literal["factor", "term", "power", "share"]  # what it does in the formula, which bounds its size
    low: float = 0.0
    high: float = math.inf
    open_low: bool = False  # whether the lowest value is excluded
    number: bool = True  # whether it may be a number
    ranks: tuple[int, ...] = ()  # and of which ranks an array
    read_by: Literal["column", "label"] = "column"  # an array's entry: of the logit's class, or of the target
    needs_label: Literal["never", "active", "array", "matrix"] = "never"  # when it asks for a class index
    in_log: bool = True  # whether the log of the mean loss takes it


#: The fields in their order, which a checkpoint relies on: a new one comes last.
FIELDS: dict[str, Field] = {
    "temperature": Field("T", 1.0, "logits", "factor", open_low=True),
    "scale": Field("a", 1.0, "logits", "factor", open_low=True, ranks=(1,)),
    "bias": Field("b", 0.0, "logits", "term", low=-math.inf, ranks=(1, 2), needs_label="matrix"),
    "margin": Field("m", 0.0, "logits", "term", ranks=(1,), read_by="label", needs_label="active"),
    "smoothing": Field(
        "ε", 0.0, "target", "share", high=1.0, ranks=(1,), read_by="label", needs_label="array", in_log=False
    ),
    "prior": Field("r", None, "target", "factor", high=1.0, number=False, ranks=(1,), in_log=False),
    "class_weight": Field("W", 1.0, "weight", "factor", ranks=(1,), read_by="label"),
    "gate": Field("g", 0.0, "weight", "power", needs_label="active", in_log=False),
    "gamma": Field("γ", 0.0, "value", "power", needs_label="active", in_log=False),
    "z_loss": Field("λ", 0.0, "value", "term", in_log=False),
    "softcap": Field("c", None, "logits", "factor", open_low=True),
    "poly": Field("κ", 0.0, "value", "term", low=-1.0, needs_label="active", in_log=False),
}
# beyond it a power magnifies the last digit of 1 - q a thousandfold: it is taken from q
LARGEST_POWER = 1024.0

Value = float | NDArray[np.float64] | None


@dataclass(frozen=True, eq=False, kw_only=True)
class LossSpec:
    """One member of the loss family: what to do to the logits, the target and the row's weight.

    Every default is neutral, so ``LossSpec()`` is plain softmax cross-entropy. Fields are given by keyword.
    Arrays are copied, made float64 and read-only. Specs compare and hash by value, pickle, and go to and from
    JSON.

    Parameters
    ----------
    temperature : float
        T > 0.
    scale : float or (K,)
        a > 0, multiplies the (capped) logits.
    bias : float, (K,) or (K, K)
        b, added to the scaled logits; of a matrix, row ``bias[y]`` is added where y is the target (K <=
        8192).
    margin : float or (K,)
        m >= 0, subtracted from the target's logit; divided by T like the rest, not multiplied by a.
    smoothing : float or (K,)
        epsilon in [0, 1], a number or one per target class.
    prior : (K,), optional
        r, the distribution that smoothing moves towards; sums to one. Uniform by default. Under a mask it is
        renormalised over what is left.
    class_weight : float or (K,)
        W >= 0 per target class. A target distribution t gets the mean of W under it, sum_k t_k W_k / sum_k
        t_k.
    gate : float
        g >= 0. With g > 0 the row's weight is W_y ** (q_y ** g): it acts only as the row is already fit. It
        is a constant in every derivative.
    gamma : float
        Focal exponent >= 0.
    z_loss : float
        lambda >= 0, times lse(u)^2; not multiplied by the row's weight.
    softcap : float, optional
        c > 0. None: no cap.
    poly : float
        kappa >= -1. PolyLoss's first term, kappa (1 - q_y), is added to the cross-entropy before the weights.

    Raises
    ------
    TypeError, ValueError
        On a field that is not a number or array, or lies outside its domain.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> spec = sl.LossSpec(temperature=2.0, smoothing=0.1)
    >>> spec == sl.LossSpec.from_json(spec.to_json())
    True
    >>> sl.LossSpec(temperature=0.0)
    Traceback (most recent call last):
    ...
    ValueError: temperature must be finite and > 0; got 0.0
    """

    temperature: float = 1.0
    scale: ArrayLike = 1.0
    bias: ArrayLike = 0.0
    margin: ArrayLike = 0.0
    smoothing: ArrayLike = 0.0
    prior: ArrayLike | None = None
    class_weight: ArrayLike = 1.0
    gate: float = 0.0
    gamma: float = 0.0
    z_loss: float = 0.0
    softcap: float | None = None
    poly: float = 0.0

    def __post_init__(self) -> None:
        _checks.outside_of_graphs()
        for name in FIELDS:
            object.__setattr__(self, name, _validated(name, getattr(self, name)))
        sizes = {name: value.shape[-1] for name, value in self._items() if isinstance(value, np.ndarray)}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"all arrays of a LossSpec must have the same number of classes; got {sizes}")

    def _items(self) -> list[tuple[str, Value]]:
        return [(name, getattr(self, name)) for name in FIELDS]

    @cached_property
    def num_classes(self) -> int | None:
        """K where any field is an array, else None (fits every K)."""
        return next((value.shape[-1] for _, value in self._items() if isinstance(value, np.ndarray)), None)

    @cached_property
    def needs_class_index(self) -> tuple[str, ...]:
        """Names of the active fields that have no meaning for a target distribution."""
        return needing_labels(dict(self._items()))

    @cached_property
    def acts_on_logits(self) -> bool:
        """Whether a field that acts on the logits is active, so that u differs from z."""
        return any(self.has(name) for name in acting_on("logits"))

    @cached_property
    def only_shifts(self) -> bool:
        """Whether a bias per class is active, and nothing else that acts on the logits."""
        others = (name for name in acting_on("logits") if name != "bias")
        return np.ndim(self.bias) == 1 and not any(map(self.has, others))

    def has(self, name: str) -> bool:
        """Whether a field is active: it differs from its neutral value anywhere."""
        neutral, value = FIELDS[name].neutral, getattr(self, name)
        return value is not None if neutral is None else active(value, neutral)

    @cached_property
    def is_moderate(self) -> bool:
        """Whether no field is so large or so small that a product of fields loses digits.

        The compiled loops take only such specs. At the ends of the domains the NumPy reference has its
        factors in a safe order.
        """
        return all(value is None or _MODERATE[FIELDS[name].size](value) for name, value in self._items())

    @cached_property
    def tamed(self) -> LossSpec:
        """The same member of the family, with u T and T divided by one power of two.

        A logit times the scale then stays finite.
        """
        power = min(math.frexp(_largest(self.scale))[1] - 1, math.frexp(self.temperature)[1] + 1021)
        if self.is_moderate or power <= 0:
            return self
        # a soft cap acts on the logit itself, before u
        divided = {name: getattr(self, name) for name in acting_on("logits") if name != "softcap"}
        return replace(self, **{name: np.ldexp(value, -power) for name, value in divided.items()})

    def _key(self) -> tuple[Any, ...]:
        return tuple((v.shape, v.tobytes()) if isinstance(v, np.ndarray) else v for _, v in self._items())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LossSpec):
            return NotImplemented
        return self is other or self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[Any, ...]:
        # rebuilt through the constructor: a pickle cannot smuggle in an unchecked or writeable field.
        # Of plain types alone, so that loaders that trust no others can take it
        return _from_mapping, ({name: _plain(value) for name, value in self._items()},)

    def __repr__(self) -> str:
        shown = [
            f"{name}={_summary(value)}"
            for name, value in self._items()
            if isinstance(value, np.ndarray) or value != FIELDS[name].neutral
        ]
        return f"LossSpec({', '.join(shown)})"

    def to_json(self) -> str:
        """Return the spec as strict JSON; numbers survive the round trip to the bit."""
        return json.dumps(
            {
                name: value.tolist() if isinstance(value, np.ndarray) else value
                for name, value in self._items()
            },
            allow_nan=False,
        )

    @classmethod
    def from_json(cls, text: str) -> LossSpec:
        """Return the spec that :meth:`to_json` wrote; an unknown field raises ``ValueError``."""
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError(f"a LossSpec in JSON must be an object of fields; got {type(values).__name__}")
        unknown = sorted(set(values) - set(FIELDS))
        if unknown:
            raise ValueError(
                f"a LossSpec has the fields {', '.join(FIELDS)}; got unknown {', '.join(unknown)}"
            )
        return cls(**values)


def acting_on(part: Part) -> tuple[str, ...]:
    """Return the names of the fields that act on a part of the formula."""
    return tuple(name for name, field in FIELDS.items() if field.acts_on == part)


def needing_labels(values: Mapping[str, Any], *, traced: bool = False) -> tuple[str, ...]:
    """Return which fields ask for a class index as they are.

    Where they are ``traced`` nothing can look for zeros in an array: every array counts as active.
    """
    found = []
    for name, field in FIELDS.items():
        value = values[name]
        rank = getattr(value, "ndim", 0)
        if field.needs_label == "active" and ((traced and rank > 0) or active(value, field.neutral or 0.0)):
            found.append(name)
        elif field.needs_label == "array" and rank > 0:
            found.append(f"{name} per class")
        elif field.needs_label == "matrix" and rank == 2:
            found.append(f"{name} matrix")
    return tuple(found)


def refused_by_log(spec: LossSpec, *, traced: bool = False) -> tuple[str, ...]:
    """Return the names of the active fields that the log of the mean loss refuses.

    They bound the loss away from zero, or act on the loss itself. ``traced`` is as in
    :func:`needing_labels`.
    """
    found = []
    for name, field in FIELDS.items():
        value, neutral = getattr(spec, name), field.neutral
        if field.in_log or value is None:
            continue
        if neutral is None or (traced and getattr(value, "ndim", 0) > 0) or active(value, neutral):
            found.append(name)
    return tuple(found)


def refuse_in_log(spec: LossSpec, is_distribution: bool, *, traced: bool = False) -> None:
    """Refuse what the log of the mean loss does not take, all with one message."""
    refused = refused_by_log(spec, traced=traced)
    if refused or is_distribution:
        found = [*refused, *(["a distribution per row"] if is_distribution else [])]
        taken = ", ".join(name for name, field in FIELDS.items() if field.in_log)
        raise ValueError(
            f"the log of the mean loss takes class indices and the fields {taken}: others bound the loss "
            f"away from zero, or act on the loss itself; got {', '.join(found)}"
        )


def active(value: ArrayLike, neutral: float = 0.0) -> bool:
    """Whether a field that is a number or an array differs from its neutral value anywhere."""
    return value != neutral if isinstance(value, float) else bool(np.any(np.asarray(value) != neutral))


def _moderate(value: Any) -> bool:
    """Whether every entry of a field that is not 0 is a moderate number."""
    if isinstance(value, float):
        return value == 0 or _checks.moderate(value)
    entries = np.asarray(value)
    if _checks.moderate(entries.min()):
        return bool(entries.max() <= _checks.LARGEST_FACTOR)
    return all(_checks.moderate(x) for x in (entries[entries > 0].min(initial=1.0), entries.max(initial=1.0)))


def _largest(value: Any) -> float:
    return abs(value) if isinstance(value, float) else float(max(value.max(), -value.min()))


_MODERATE: dict[str, Callable[[Any], bool]] = {
    "factor": _moderate,
    "term": lambda value: _largest(value) <= _checks.LARGEST_FACTOR,
    "power": lambda value: value <= LARGEST_POWER,
    "share": lambda value: True,
}


def _plain(value: Value) -> Any:
    """Return an array as its shape and its little-endian bytes."""
    return (value.shape, value.astype("<f8").tobytes()) if isinstance(value, np.ndarray) else value


def _from_mapping(values: Mapping[str, Any]) -> LossSpec:
    """Return the spec of a pickle; version 0.1.0 wrote its arrays as they are."""
    given: dict[str, Any] = {
        n: np.frombuffer(v[1], "<f8").reshape(v[0]) if isinstance(v, tuple) else v for n, v in values.items()
    }
    return LossSpec(**given)


def _summary(value: Value) -> str:
    if isinstance(value, np.ndarray):
        return f"<{'x'.join(map(str, value.shape))} in [{value.min():.4g}, {value.max():.4g}]>"
    return repr(value)


def _validated(name: str, value: Any) -> Value:
    """Check one field against its row of ``FIELDS`` and freeze it."""
    field = FIELDS[name]
    low, high, open_low = field.low, field.high, field.open_low
    if value is None and field.neutral is None:
        return None
    if np.ndim(value) == 0 and field.number:
        return _checks.number(name, value, low=low, high=high, open_low=open_low)
    array = _checks.real_array(name, value, low=low, high=high)
    if array.ndim not in field.ranks:
        shapes = [
            *(["a number"] if field.number else []),
            *({1: "(K,)", 2: "(K, K)"}[r] for r in field.ranks),
        ]
        raise ValueError(f"{name} must be {' or '.join(shapes)}; got shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name} must have at least one class; got shape {array.shape}")
    if open_low and (array <= low).any():
        raise ValueError(f"{name} must be {_checks.domain(low, high, True)}; got {float(array.min())!r}")
    _check_whole(name, array)
    array.flags.writeable = False
    return array


def _check_whole(name: str, array: NDArray[np.float64]) -> None:
    """Check what a field promises beyond its entries' range."""
    if name == "prior" and abs(array.sum() - 1.0) > 1e-6:
        raise ValueError(f"prior must sum to one (within 1e-6); got {float(array.sum())!r}")
    if name == "bias" and array.ndim == 2:
        if array.shape[0] != array.shape[1]:
            raise ValueError(f"a bias matrix must be square, (K, K); got shape {array.shape}")
        if array.shape[0] > MAX_BIAS_MATRIX:
            raise ValueError(f"a bias matrix must have K <= {MAX_BIAS_MATRIX} classes; got {array.shape[0]}")


#: plain softmax cross-entropy: nothing but this object need be compared to know that a spec is it
PLAIN = LossSpec()
