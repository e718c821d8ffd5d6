"""A LossSpec as tensors: for the formula in plain torch, and as the arguments that an operator can take.

Everything here follows from :data:`softmax_lab.spec.FIELDS`: which fields there are, which may be numbers or
arrays, and what each acts on.
"""

from __future__ import annotations

import warnings
from collections import namedtuple
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...spec import FIELDS, LossSpec, Part, acting_on
from .._base.tensors import PLAIN_TYPES, exact_dtype, loss_dtype, outside_of_modes

__all__ = [
    "ARRAYS",
    "LARGEST",
    "NUMBERS",
    "SMALLEST",
    "SpecTensors",
    "extreme",
    "fields_of",
    "is_active",
    "numpy_spec",
    "on_device",
    "only",
    "pack",
    "packed",
    "shard",
    "spec_tensors",
    "unpack",
]

#: fields that may be numbers, in the order of the packed vector
NUMBERS = tuple(name for name, field in FIELDS.items() if field.number)
#: fields that may be arrays, in the order of an operator's arguments
ARRAYS = tuple(name for name, field in FIELDS.items() if field.ranks)
#: numbers that may be absent, packed as 0: no domain of theirs holds it
_OPTIONAL = tuple(name for name in NUMBERS if FIELDS[name].neutral is None)
_PLAIN = LossSpec()
SMALLEST, LARGEST = 1e-15, 1e15  # float32 has room for the square of a quotient of such numbers


if TYPE_CHECKING:

    class SpecTensors(tuple[Any, ...]):
        """The fields of a :class:`LossSpec`: its numbers as floats, its arrays as tensors on one device."""

        _fields: ClassVar[tuple[str, ...]]

        def __new__(cls, **fields: Any) -> SpecTensors: ...
        def __getattr__(self, name: str) -> Any: ...
        def _replace(self, **fields: Any) -> SpecTensors: ...
        def _asdict(self) -> dict[str, Any]: ...

else:
    SpecTensors = namedtuple("SpecTensors", FIELDS, defaults=[field.neutral for field in FIELDS.values()])


def is_active(value: Any, neutral: float = 0.0) -> bool:
    """Whether a field can differ from its neutral value.

    A tensor can: it would have to be read back to know.
    """
    return isinstance(value, Tensor) or value != neutral


def spec_tensors(spec: LossSpec, device: torch.device | str, dtype: torch.dtype) -> SpecTensors:
    """Return the fields of ``spec`` with its arrays on ``device``.

    They are made once for each spec object, device and dtype.

    The cache is the spec's own (by identity, and freed with it): comparing specs by value would read every
    array. Do not write to the tensors.
    """
    cache: dict[tuple[torch.device, torch.dtype], SpecTensors] = spec.__dict__.setdefault("_tensors", {})
    key = torch.device(device), dtype
    if key not in cache:
        tamed = spec if spec.is_moderate else spec.tamed
        values = {name: getattr(tamed, name) for name in FIELDS}
        if spec.prior is not None:
            values["prior"] = spec.prior / np.sum(spec.prior)  # a LossSpec lets the sum miss one by 1e-6
        with outside_of_modes():
            tensors = {
                name: torch.tensor(v, dtype=dtype, device=device)
                for name, v in values.items()
                if isinstance(v, np.ndarray)
            }
        cache[key] = SpecTensors(**(values | tensors))
    return cache[key]


def shard(spec: SpecTensors, first: int, last: int) -> SpecTensors:
    """Return the fields for the classes ``first`` to ``last - 1`` alone.

    What is read by column is cut. What is looked up by the (global) label stays whole, and so do the rows of
    a matrix.
    """
    given = {name: getattr(spec, name) for name in _BY_COLUMN}
    cut = {name: value[..., first:last] for name, value in given.items() if isinstance(value, Tensor)}
    return spec._replace(**cut)


_BY_COLUMN = tuple(name for name, field in FIELDS.items() if field.ranks and field.read_by == "column")


def only(spec: SpecTensors, *parts: Part) -> SpecTensors:
    """Return the fields that act on these parts of the formula; the others are neutral."""
    return SpecTensors(**{name: getattr(spec, name) for part in parts for name in acting_on(part)})


def extreme(spec: SpecTensors) -> bool:
    """Whether a number among the fields is so large or so small that float32 would lose it on the way."""
    factors, sizes = ([getattr(spec, name) for name in names] for names in (_FACTORS, _SIZES))
    return any(isinstance(x, float) and x != 0 and not SMALLEST < x < LARGEST for x in factors) or any(
        isinstance(x, float) and abs(x) > LARGEST for x in sizes
    )


_FACTORS = tuple(name for name, field in FIELDS.items() if field.size == "factor")
_SIZES = tuple(name for name, field in FIELDS.items() if field.size in ("term", "power"))


# ---- what operators take ----

Packed = tuple[Tensor | None, ...]


def packed(spec: LossSpec | SpecTensors, logits: Tensor) -> Packed:
    """Return the fields as an operator takes them.

    The fields of a LossSpec are made once for each object and, off the CPU, device and type.

    Of a LossSpec made once for each object and, off the CPU, device and type.

    On the CPU the arrays stay float64, as the NumPy package has them.
    """
    if isinstance(spec, SpecTensors):
        return pack(spec)
    if torch.compiler.is_compiling():
        return pack(_traced(spec, logits.device))
    # fake tensors and their like do not mix with what is cached, and a trace would hold the caching
    if type(logits) not in PLAIN_TYPES or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return pack(on_device(spec, logits.device))
    cache: dict[Any, Packed] = spec.__dict__.setdefault("_packed", {})
    key = "cpu" if logits.device.type == "cpu" else (logits.device, logits.dtype)
    if key not in cache:
        with outside_of_modes():
            fields = (
                on_device(spec, logits.device)
                if key == "cpu"
                else spec_tensors(spec, logits.device, loss_dtype(logits.dtype))
            )
            cache[key] = pack(fields)
    return cache[key]


def fields_of(spec: LossSpec | SpecTensors, logits: Tensor) -> SpecTensors:
    """Return the fields as plain torch takes them."""
    if isinstance(spec, SpecTensors):
        return spec
    if torch.compiler.is_compiling():
        return _traced(spec, logits.device)
    return spec_tensors(spec, logits.device, loss_dtype(logits.dtype))


def _traced(spec: LossSpec, device: torch.device) -> SpecTensors:
    """Return the fields in the form that the compiler traces.

    Arrays become inputs of the graph, and nothing guards their values.
    """
    held = any(isinstance(getattr(spec, name), np.ndarray) for name in ARRAYS)
    # the exported program would hold arrays without memory
    if held and torch.compiler.is_dynamo_compiling() and torch.compiler.is_exporting():
        raise RuntimeError(
            "a strict export cannot hold a LossSpec; export with strict=False, or a SoftmaxLoss, which "
            "holds its own"
        )
    return _converted(spec, lambda array: torch.as_tensor(array).to(device))


def on_device(spec: LossSpec, device: torch.device) -> SpecTensors:
    """Return the fields with the arrays copied to ``device``, as they are.

    That is in float64, but for devices that do not know it.
    """
    if torch.compiler.is_compiling():  # where an array is traced as a tensor already, whose copy would warn
        return _converted(
            spec, lambda array: torch.as_tensor(array).to(device, exact_dtype(device), copy=True)
        )
    return _converted(spec, lambda array: torch.tensor(array, dtype=exact_dtype(device), device=device))


def _converted(spec: LossSpec, convert: Callable[[NDArray[Any]], Tensor]) -> SpecTensors:
    values: dict[str, Any] = {name: getattr(spec, name) for name in FIELDS}
    values.update({name: convert(value) for name, value in values.items() if isinstance(value, np.ndarray)})
    return SpecTensors(**values)


def _warn_of_read_only_arrays_now() -> None:
    """Let torch say, unheard, that a read-only array is not writable.

    The compiler will meet the arrays of a spec, and never writes to them.
    """
    array = np.zeros(1)
    array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.from_numpy(array)


_warn_of_read_only_arrays_now()


def pack(spec: SpecTensors) -> Packed:
    """Return the numbers as one float64 vector on the CPU, then the arrays.

    A vector, since a number that is an operator's own argument is part of the compiled code: each new value
    would compile anew.
    """
    values = [
        0.0 if value is None or isinstance(value, Tensor) else value
        for value in (getattr(spec, name) for name in NUMBERS)
    ]
    if torch.compiler.is_compiling():
        # a product is the form in which the compiler keeps a number that has changed as an input
        one = torch.ones((), dtype=torch.float64, device="cpu")
        numbers = torch.stack([one * value for value in values])
    else:
        numbers = torch.tensor(values, dtype=torch.float64, device="cpu")
    arrays = (getattr(spec, name) for name in ARRAYS)
    return (numbers, *(value if isinstance(value, Tensor) else None for value in arrays))


def unpack(numbers: Tensor, *arrays: Tensor | None) -> SpecTensors:
    """Return the fields that :func:`pack` packed."""
    values: dict[str, Any] = dict(zip(NUMBERS, numbers.tolist(), strict=True))
    values.update({name: values[name] or None for name in _OPTIONAL})
    values.update({name: array for name, array in zip(ARRAYS, arrays, strict=True) if array is not None})
    return SpecTensors(**values)


def numpy_spec(spec: SpecTensors) -> LossSpec:
    """Return CPU fields as a LossSpec over the same memory, without the checks and copies of its constructor.

    The fields come from a checked LossSpec, or from arguments that the drop-in has checked.
    """
    values = {name: value for name, value in spec._asdict().items() if value is not None}
    arrays = {
        name: value.detach().to(torch.float64).numpy()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }
    neutral = {name: field.neutral for name, field in FIELDS.items()}
    if not arrays and all(value == neutral[name] for name, value in values.items()):
        return _PLAIN
    result = object.__new__(LossSpec)
    result.__dict__.update(neutral | values | arrays)
    return result
