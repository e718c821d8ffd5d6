"""Tensors and arrays over the same memory, and a LossSpec as the tensors that an operator can take."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor

from .._extras import bfloat16
from ..spec import FIELDS, LossSpec
from ._family import SpecTensors, outside_of_modes, spec_tensors

__all__ = [
    "ARRAYS",
    "NUMBERS",
    "PLAIN_TYPES",
    "as_array",
    "as_tensor",
    "at_hand",
    "autocast_dtype",
    "exact_dtype",
    "fields_of",
    "is_dense",
    "loss_dtype",
    "numpy_spec",
    "on_device",
    "packed",
    "unpack",
]

#: fields that may be numbers, in the order of the packed vector
NUMBERS = tuple(name for name, field in FIELDS.items() if field.number)
#: fields that may be arrays, in the order of an operator's arguments
ARRAYS = tuple(name for name, field in FIELDS.items() if field.ranks)
#: numbers that may be absent, packed as 0: no domain of theirs holds it
_OPTIONAL = tuple(name for name in NUMBERS if FIELDS[name].neutral is None)

PLAIN_TYPES = (Tensor, torch.nn.Parameter)
#: and what torch puts in their place while it traces: tensors without memory, to the same operators
_KNOWN_TYPES = (*PLAIN_TYPES, FakeTensor, FunctionalTensor)

_PLAIN = LossSpec()


def loss_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the type of a loss's value: float64 for float64 logits, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def as_array(tensor: Tensor) -> NDArray[Any]:
    """Return the CPU tensor's memory as an array of the same dtype; bfloat16 is the one of ``ml_dtypes``."""
    tensor = tensor.detach()
    if tensor.dtype is not torch.bfloat16:
        array: NDArray[Any] = tensor.numpy()
        return array
    bits: NDArray[Any] = tensor.view(torch.uint16).numpy()
    return bits.view(bfloat16())


def at_hand(tensor: Tensor) -> NDArray[Any] | None:
    """Return the values where they can be read without waiting: of CPU tensors that have memory, in
    functorch's wrappers too.
    """
    if torch.compiler.is_compiling():
        return None
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    if tensor.device.type != "cpu" or type(tensor) not in PLAIN_TYPES:
        return None
    with outside_of_modes():
        return as_array(tensor)


def as_tensor(array: NDArray[Any]) -> Tensor:
    """Return the array's memory as a tensor: the inverse of :func:`as_array`."""
    array = np.asarray(array)
    if array.dtype.kind == "V":  # no kind of NumPy's own: bfloat16
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def is_dense(tensor: Tensor) -> bool:
    """Whether the tensor is one of torch's own with one entry after the other: no subclass, nested, sparse or
    opaque one.

    The tensor is asked, and never ``has_torch_function``: that is also true of every plain tensor inside a
    function mode.
    """
    return type(tensor) in _KNOWN_TYPES and tensor.layout == torch.strided and not tensor.is_nested


def autocast_dtype(device: str) -> torch.dtype | None:
    """Return the type that autocast asks for on this kind of device.

    None where it is off, or is not known (meta).
    """
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return None
    return torch.get_autocast_dtype(device)


Packed = tuple[Tensor | None, ...]


def packed(spec: LossSpec | SpecTensors, logits: Tensor) -> Packed:
    """Return the fields as an operator takes them.

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
    """Return the fields in the form that the compiler traces: arrays become inputs of the graph, and nothing
    guards their values.
    """
    held = any(isinstance(getattr(spec, name), np.ndarray) for name in ARRAYS)
    # the program would hold arrays without memory
    if held and torch.compiler.is_dynamo_compiling() and torch.compiler.is_exporting():
        raise RuntimeError(
            "a strict export cannot hold a LossSpec; export with strict=False, or a SoftmaxLoss, which "
            "holds its own"
        )
    return _converted(spec, lambda array: torch.as_tensor(array).to(device))


def on_device(spec: LossSpec, device: torch.device) -> SpecTensors:
    """Return the fields with the arrays copied to ``device``, as they are: float64, but for devices that do
    not know it.
    """
    return _converted(spec, lambda array: torch.tensor(array, dtype=exact_dtype(device), device=device))


def exact_dtype(device: torch.device) -> torch.dtype:
    """Return float64, or float32 on devices that do not know it."""
    return torch.float32 if device.type == "mps" else torch.float64


def _converted(spec: LossSpec, convert: Callable[[NDArray[Any]], Tensor]) -> SpecTensors:
    values: dict[str, Any] = {name: getattr(spec, name) for name in FIELDS}
    values.update({name: convert(value) for name, value in values.items() if isinstance(value, np.ndarray)})
    return SpecTensors(**values)


def _warn_of_read_only_arrays_now() -> None:
    """Let torch say, unheard, that a read-only array is not writable: the compiler will meet those of a spec,
    and never writes.
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
