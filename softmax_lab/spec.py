r"""LossSpec: which member of the loss family is meant, as data.

.. math::

    v_k &= c \tanh(z_k / c)                                 &&\text{soft cap (off by default)} \\
    u_k &= (a_k v_k + b_k - m_y [k = y]) / T                &&\text{scale, bias, margin, temperature} \\
    q   &= \operatorname{softmax}(u) \\
    s   &= (1 - \varepsilon_y) e_y + \varepsilon_y r        &&\text{smoothed target} \\
    w   &= W_y^{\,q_y^{\,g}} \text{ with a gate } g > 0, \text{ else } W_y
        &&\text{row weight, constant in derivatives} \\
    L   &= w (1 - q_y)^\gamma \Bigl(-\sum_k s_k \log q_k\Bigr) + \lambda \operatorname{lse}(u)^2
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks

__all__ = ["MAX_BIAS_MATRIX", "LossSpec"]

MAX_BIAS_MATRIX = 8192  # classes: a K x K float64 bias beyond this is over half a gigabyte

# field: (lowest value, highest value, is the lowest excluded, array ranks allowed beside a number).
# The constructor and the tests both read this table.
DOMAINS: dict[str, tuple[float, float, bool, tuple[int, ...]]] = {
    "temperature": (0.0, math.inf, True, ()),
    "scale": (0.0, math.inf, True, (1,)),
    "bias": (-math.inf, math.inf, False, (1, 2)),
    "margin": (0.0, math.inf, False, (1,)),
    "smoothing": (0.0, 1.0, False, (1,)),
    "prior": (0.0, 1.0, False, (1,)),
    "class_weight": (0.0, math.inf, False, (1,)),
    "gate": (0.0, math.inf, False, ()),
    "gamma": (0.0, math.inf, False, ()),
    "z_loss": (0.0, math.inf, False, ()),
    "softcap": (0.0, math.inf, True, ()),
}
# beyond it a power magnifies the last digit of 1 - q a thousandfold: it is taken from q
LARGEST_POWER = 1024.0
_OPTIONAL = ("prior", "softcap")  # None: a uniform prior, no cap

Value = float | NDArray[np.float64] | None


@dataclass(frozen=True, eq=False)
class LossSpec:
    """One member of the loss family: what to do to the logits, the target and the row's weight.

    Every default is neutral, so ``LossSpec()`` is plain softmax cross-entropy. Arrays are copied, made
    float64 and read-only. Specs compare and hash by value, pickle, and go to and from JSON.

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

    def __post_init__(self) -> None:
        _checks.outside_of_graphs()
        for name in DOMAINS:
            object.__setattr__(self, name, _validated(name, getattr(self, name)))
        sizes = {name: value.shape[-1] for name, value in self._items() if isinstance(value, np.ndarray)}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"all arrays of a LossSpec must have the same number of classes; got {sizes}")

    def _items(self) -> list[tuple[str, Value]]:
        return [(field.name, getattr(self, field.name)) for field in fields(self)]

    @cached_property
    def num_classes(self) -> int | None:
        """K where any field is an array, else None (fits every K)."""
        return next((value.shape[-1] for _, value in self._items() if isinstance(value, np.ndarray)), None)

    @cached_property
    def needs_class_index(self) -> tuple[str, ...]:
        """Names of the active fields that have no meaning for a target distribution."""
        present = {
            "margin": active(self.margin),
            "smoothing per class": np.ndim(self.smoothing) > 0,
            "gamma": self.gamma != 0,
            "gate": self.gate != 0,
            "bias matrix": np.ndim(self.bias) == 2,
        }
        return tuple(name for name, on in present.items() if on)

    @cached_property
    def acts_on_logits(self) -> bool:
        """A temperature, scale, bias, margin or soft cap is active, so that u differs from z."""
        shifted = active(self.bias) or active(self.margin)
        return self.temperature != 1 or self.softcap is not None or active(self.scale, 1.0) or shifted

    @cached_property
    def only_shifts(self) -> bool:
        """A bias per class is active and nothing else that acts on the logits."""
        others = (
            active(self.scale, 1.0)
            or active(self.margin)
            or self.softcap is not None
            or self.temperature != 1
        )
        return np.ndim(self.bias) == 1 and not others

    @cached_property
    def is_moderate(self) -> bool:
        """Whether no field is so large or so small that its products with the others leave float64, or lose
        digits on the way.

        The compiled loops take only such specs; at the ends of the domains the NumPy reference has its
        factors in a safe order.
        """
        return (
            _moderate(self.temperature)
            and (self.softcap is None or _moderate(self.softcap))
            and _moderate(self.scale)
            and _moderate(self.class_weight)
            and (self.prior is None or _moderate(self.prior))
            and _largest(self.bias) <= _checks.LARGEST_FACTOR
            and _largest(self.margin) <= _checks.LARGEST_FACTOR
            and self.z_loss <= _checks.LARGEST_FACTOR
            and self.gamma <= LARGEST_POWER
            and self.gate <= LARGEST_POWER
        )

    @cached_property
    def tamed(self) -> LossSpec:
        """Return the same member of the family, u T and T divided by one power of two, so that a logit times
        the scale stays finite.
        """
        power = min(math.frexp(_largest(self.scale))[1] - 1, math.frexp(self.temperature)[1] + 1021)
        if self.is_moderate or power <= 0:
            return self
        fields = {
            name: np.ldexp(getattr(self, name), -power) for name in ("temperature", "scale", "bias", "margin")
        }
        return replace(self, **fields)

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
        defaults = {field.name: field.default for field in fields(self)}
        shown = [
            f"{name}={_summary(value)}"
            for name, value in self._items()
            if isinstance(value, np.ndarray) or value != defaults[name]
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
        unknown = sorted(set(values) - set(DOMAINS))
        if unknown:
            raise ValueError(
                f"a LossSpec has the fields {', '.join(DOMAINS)}; got unknown {', '.join(unknown)}"
            )
        return cls(**values)


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
    """Check one field against its row of ``DOMAINS`` and freeze it."""
    low, high, open_low, ranks = DOMAINS[name]
    if value is None and name in _OPTIONAL:
        return None
    if np.ndim(value) == 0 and name != "prior":
        return _checks.number(name, value, low=low, high=high, open_low=open_low)
    array = _checks.real_array(name, value, low=low, high=high)
    if array.ndim not in ranks:
        allowed = " or ".join(
            [*(["a number"] if name != "prior" else []), *({1: "(K,)", 2: "(K, K)"}[r] for r in ranks)]
        )
        raise ValueError(f"{name} must be {allowed}; got shape {array.shape}")
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
