"""The state of a loss as one float64 vector.

Every program that saves, averages or ships tensors can take it.

The vector holds whole numbers (which module wrote it, for how many classes, what kind each field is),
settings, and the arrays of specs. Each entry is written as two: its leading bits and the rest. Both are short
numbers. A loop that averages equal states rounds some of their bits away: the nearest short number is meant.
An average of different states is the average of their entries.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...spec import FIELDS, LossSpec

__all__ = ["State", "Stateful", "packed", "unpacked"]

#: modules that write states; a place in this table is part of the format, so new ones are added at the end
_WRITERS = (
    "SoftmaxLoss",
    "DeferredReweighting",
    "SeesawLoss",
    "GradientBalancedLoss",
    "LogCrossEntropyLoss",
)
_FORMAT = 2
_FIELDS = tuple(FIELDS)  # new ones come last: an older state has fewer
_HEAD = 6  # format, writer, classes, and how many numbers, specs, and fields a spec follow
_BITS = 26  # of an entry's 53, in its leading part
# more than a long average with decay 0.99999 rounds away, and much less than a short number's last bit
_NEAR = 2.0**-34
_SETTINGS_0_1 = ("tau", "gathers", "rate", "max_tau", "strength", "gate", "eps", "power")

Vector = NDArray[np.float64]

# A pickled LossSpec is made of plain types, and its constructor checks them. So torch.load(weights_only=True)
# may call what the pickle names.
torch.serialization.add_safe_globals([LossSpec().__reduce__()[0]])


class State(NamedTuple):
    """What a module saves."""

    writer: str
    classes: int  # 0: any number
    numbers: tuple[float, ...] = ()
    specs: tuple[LossSpec, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.writer} for {self.classes} classes" if self.classes else self.writer


class Stateful(nn.Module):
    """A module whose ``state_dict`` holds its settings as one vector.

    The vector has torch's own name for what is no parameter and no buffer.

    The vector is made when it is asked for: no move, no cast and no broadcast of buffers reaches it.
    """

    _version: int = 2
    _writer: ClassVar[str]
    _writes_since: ClassVar[int] = 1  # the version that first had a state beside the buffers

    def _written(self) -> State:
        """Return what to save."""
        raise NotImplementedError

    def _read(self, state: State) -> None:
        """Take over a state that fits; what is wrong in it raises, and changes nothing."""
        raise NotImplementedError

    def _refresh(self) -> None:
        """Bring up to date what follows from settings and buffers."""

    def get_extra_state(self) -> Tensor:
        return torch.from_numpy(packed(self._written()))

    def set_extra_state(self, state: Tensor | dict[str, Any]) -> None:
        self._read(self._fitting(state))
        self._refresh()

    def _fitting(self, given: Tensor | dict[str, Any]) -> State:
        """Return the state, where this module could have written it."""
        state, own = unpacked(given), self._written()
        if state.writer != own.writer or (state.classes and own.classes and state.classes != own.classes):
            raise ValueError(f"the state was written by {state.name}; it cannot be loaded into {own.name}")
        if (len(state.numbers), len(state.specs)) != (len(own.numbers), len(own.specs)):
            raise ValueError(
                f"the state of {state.name} must hold {len(own.numbers)} settings; got {len(state.numbers)}"
            )
        return state

    def _load_from_state_dict(  # type: ignore[no-untyped-def]
        self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
    ) -> None:
        """Look before anything is loaded, buffers included.

        Torch reports all that is wrong with a model in one error.
        """
        key = f"{prefix}_extra_state"
        try:
            if key in state_dict:
                self._read(self._fitting(state_dict[key]))
        except (TypeError, ValueError) as error:
            error_msgs.append(f"{key}: {error}")
            return
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        if key in missing_keys and local_metadata.get("version", 0) == 1 < self._writes_since:
            missing_keys.remove(key)
        if key not in state_dict:
            self._refresh()  # buffers may have come alone


# ---- the vector ----


def packed(state: State) -> Vector:
    """Return the state as (2 n,) float64: the leading bits of all entries, then the rest."""
    counts = len(state.numbers), len(state.specs), len(_FIELDS)
    head = (_FORMAT, _WRITERS.index(state.writer), state.classes, *counts, *state.numbers)
    entries = np.concatenate(
        [np.array(head, dtype=np.float64), *(part for spec in state.specs for part in _entries(spec))]
    )
    mantissa, exponent = np.frexp(entries)
    leading = np.ldexp(np.trunc(np.ldexp(mantissa, _BITS)), exponent - _BITS)
    return np.concatenate([leading, entries - leading])


def _entries(spec: LossSpec) -> Iterator[Vector]:
    """Yield the rank of each field (-1 for None) and its values."""
    for name in _FIELDS:
        value = getattr(spec, name)
        yield np.array([-1.0 if value is None else np.ndim(value)])
        if value is not None:
            yield np.ravel(value)


def unpacked(given: Tensor | dict[str, Any]) -> State:
    """Return the state that :func:`packed` packed, or that version 0.1.0 wrote as a dict."""
    if isinstance(given, dict):
        return _of_0_1(given)
    if not isinstance(given, Tensor) or given.dtype != torch.float64 or given.ndim != 1:
        got = (
            f"{given.dtype} of shape {tuple(given.shape)}"
            if isinstance(given, Tensor)
            else type(given).__name__
        )
        raise TypeError(f"the state of a loss must be a float64 vector, kept in that type; got {got}")
    return _Reader(_joined(given.detach().cpu().numpy())).state()


def _joined(vector: Vector) -> Vector:
    if len(vector) % 2 or len(vector) < 2 * _HEAD or not np.isfinite(vector).all():
        raise ValueError(
            f"the state of a loss must be a finite vector of an even length >= {2 * _HEAD}; got "
            f"{len(vector)} numbers"
        )
    leading, rest = np.split(vector, 2)
    return _shortened(leading, _BITS) + _shortened(rest, _BITS + 1)


def _shortened(values: Vector, bits: int) -> Vector:
    """Return the nearest numbers of so many bits, where they are near."""
    mantissa, exponent = np.frexp(values)
    near = np.ldexp(np.rint(np.ldexp(mantissa, bits)), exponent - bits)
    return np.where(np.abs(values - near) <= _NEAR * np.abs(values), near, values)


class _Reader:
    """Takes the entries one after the other."""

    def __init__(self, entries: Vector) -> None:
        self.entries, self.place = entries, 0

    def state(self) -> State:
        form = self.whole()
        if form != _FORMAT:
            raise ValueError(
                f"the state has format {form}, of another version of softmax_lab; this one reads format "
                f"{_FORMAT}"
            )
        writer, classes, numbers, specs, known = (self.whole() for _ in range(_HEAD - 1))
        if not (0 <= writer < len(_WRITERS) and known <= len(_FIELDS)):
            raise ValueError("the state was written by a later version of softmax_lab")
        state = State(
            _WRITERS[writer],
            classes,
            tuple(self.take(numbers).tolist()),
            tuple(self.spec(classes, known) for _ in range(specs)),
        )
        if self.place != len(self.entries):
            raise ValueError(f"the state must have {self.place} entries; got {len(self.entries)}")
        return state

    def spec(self, classes: int, known: int) -> LossSpec:
        return LossSpec(**{name: self.field(classes) for name in _FIELDS[:known]})

    def field(self, classes: int) -> Any:
        rank = self.whole()
        if rank < 1:
            return None if rank < 0 else float(self.take(1)[0])
        return self.take(classes**rank).reshape((classes,) * rank)

    def whole(self) -> int:
        value = float(self.take(1)[0])
        if abs(value - round(value)) > 1e-6:
            raise ValueError(
                f"the state has {value!r} where a whole number belongs: states of different kinds have no "
                f"average"
            )
        return round(value)

    def take(self, count: int) -> Vector:
        end = self.place + count
        if count < 0 or end > len(self.entries):
            raise ValueError(f"the state must have at least {end} entries; got {len(self.entries)}")
        self.place, start = end, self.place
        return self.entries[start:end]


# ---- what version 0.1.0 wrote ----


def _of_0_1(given: dict[str, Any]) -> State:
    """Return the state from the dict of fields, of phases, or of settings."""
    if given.keys() == {"first", "second", "start", "epoch"}:
        specs = _spec_of_0_1(given["first"]), _spec_of_0_1(given["second"])
        return State(
            "DeferredReweighting", specs[1].num_classes or 0, (given["start"], given["epoch"]), specs
        )
    if given.keys() == set(_SETTINGS_0_1):
        return State("GradientBalancedLoss", 0, tuple(float(given[name]) for name in _SETTINGS_0_1))
    if given.keys() <= set(_FIELDS):
        spec = _spec_of_0_1(given)
        return State("SoftmaxLoss", spec.num_classes or 0, (), (spec,))
    raise ValueError(
        f"the state must be one that a loss of softmax_lab wrote; got a dict of {', '.join(map(str, given))}"
    )


def _spec_of_0_1(given: dict[str, Any]) -> LossSpec:
    values: dict[str, Any] = {
        name: v.cpu().double().numpy() if isinstance(v, Tensor) else v for name, v in given.items()
    }
    return LossSpec(**values)
