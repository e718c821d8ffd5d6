"""Eight float64 lanes as a Numba type, so that a kernel says exactly which vector operation runs.

Left to itself, LLVM guesses how to vectorise a loop: an alias check, a remainder or a bit trick makes the guess fail by
a factor of five. Here a value of type ``lanes`` is the LLVM vector <8 x double>: one AVX-512 register, two of AVX2, four
of NEON. Lanes are summed in one fixed order, so a result does not depend on the machine's vector width.

No fast-math flag stands anywhere, so compensated differences survive. Logits of float32 are widened on load and rounded
on store.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, overload, register_model

WIDTH = 8


class Lanes(types.Type):
    """Numba type of eight float64 lanes."""

    def __init__(self) -> None:
        super().__init__(name="softmax_lab_lanes")


lanes = Lanes()
_DOUBLE = ir.DoubleType()
_I1, _I32, _I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_DOUBLE, WIDTH)
_BITS = ir.VectorType(_I64, WIDTH)
_MASK = ir.VectorType(_I1, WIDTH)


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, _VECTOR)


# ---- arithmetic: an intrinsic from the instructions it stands for ----


def _unary(emit: Callable[..., Any], returns: Any = lanes) -> Any:
    @intrinsic
    def operation(typingctx: Any, a: Any) -> Any:
        if a != lanes:
            return None
        return returns(a), lambda context, builder, signature, args: emit(builder, *args)

    return operation


def _binary(emit: Callable[..., Any]) -> Any:
    @intrinsic
    def operation(typingctx: Any, a: Any, b: Any) -> Any:
        if a != lanes or b != lanes:
            return None
        return lanes(a, b), lambda context, builder, signature, args: emit(builder, *args)

    return operation


def _ternary(emit: Callable[..., Any]) -> Any:
    @intrinsic
    def operation(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
        if a != lanes or b != lanes or c != lanes:
            return None
        return lanes(a, b, c), lambda context, builder, signature, args: emit(builder, *args)

    return operation


def _choice(comparison: str) -> Any:
    """(a, b, x, y): x where ``a comparison b``, else y; where a or b is NaN, y."""

    @intrinsic
    def operation(typingctx: Any, a: Any, b: Any, x: Any, y: Any) -> Any:
        if not all(value == lanes for value in (a, b, x, y)):
            return None

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.select(builder.fcmp_ordered(comparison, args[0], args[1]), args[2], args[3])

        return lanes(a, b, x, y), emit

    return operation


def _vector(value: Any, of: ir.Type = _DOUBLE) -> ir.Constant:
    return ir.Constant(ir.VectorType(of, WIDTH), [value] * WIDTH)


def _shift_exponent(builder: Any, value: Any, magic: Any) -> Any:
    """value * 2^n, where n is in the low bits of ``magic`` (see ``exponential``): an integer addition to the exponent."""
    n = builder.shl(builder.bitcast(magic, _BITS), _vector(52, _I64))
    return builder.bitcast(builder.add(builder.bitcast(value, _BITS), n), _VECTOR)


def _exponent(builder: Any, value: Any) -> Any:
    """The integer n, as a float, with value / 2^n in [sqrt(1/2), sqrt(2)), for normal positive values."""
    offset = builder.sub(builder.bitcast(value, _BITS), _vector(0x3FE6A09E667F3BCD, _I64))  # the bits of sqrt(1/2)
    return builder.sitofp(builder.ashr(offset, _vector(52, _I64)), _VECTOR)


def _mantissa(builder: Any, value: Any) -> Any:
    """value / 2^n for that n."""
    bits = builder.bitcast(value, _BITS)
    n = builder.ashr(builder.sub(bits, _vector(0x3FE6A09E667F3BCD, _I64)), _vector(52, _I64))
    return builder.bitcast(builder.sub(bits, builder.shl(n, _vector(52, _I64))), _VECTOR)


def _in_order(step: Callable[..., Any]) -> Callable[..., Any]:
    """Reduce the lanes as a balanced tree, always in the same order."""

    def emit(builder: Any, vector: Any) -> Any:
        parts = [builder.extract_element(vector, ir.Constant(_I32, i)) for i in range(WIDTH)]
        while len(parts) > 1:
            half = len(parts) // 2
            parts = [step(builder, parts[i], parts[i + half]) for i in range(half)]
        return parts[0]

    return emit


def _larger(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)  # one vmaxpd: where a is NaN, b


def _fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    function = builder.module.declare_intrinsic("llvm.fma.v8f64", (), ir.FunctionType(_VECTOR, [_VECTOR] * 3))
    return builder.call(function, [a, b, c])


_add = _binary(lambda builder, a, b: builder.fadd(a, b))
_div = _binary(lambda builder, a, b: builder.fdiv(a, b))
_sub = _binary(lambda builder, a, b: builder.fsub(a, b))
_mul = _binary(lambda builder, a, b: builder.fmul(a, b))
maximum = _binary(_larger)
fma = _ternary(_fused)
scale_exponent = _binary(_shift_exponent)
exponent = _unary(_exponent)
mantissa = _unary(_mantissa)
where_less = _choice("<")
where_ordered = _choice("ord")  # x where neither a nor b is NaN
where_equal = _choice("==")
sum_lanes = _unary(_in_order(lambda builder, a, b: builder.fadd(a, b)), types.float64)
max_lanes = _unary(_in_order(_larger), types.float64)


def _overload_operator(function: Any, implementation: Any) -> None:
    @overload(function)
    def choose(a, b):
        if a == lanes and b == lanes:
            return lambda a, b: implementation(a, b)
        return None


_OPERATORS = {operator.add: _add, operator.iadd: _add, operator.sub: _sub, operator.mul: _mul, operator.truediv: _div}
for _function, _implementation in _OPERATORS.items():
    _overload_operator(_function, _implementation)


@intrinsic
def splat(typingctx: Any, x: Any) -> Any:
    """Eight copies of a number."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), args[0], ir.Constant(_I32, 0))
        return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), ir.Constant(ir.VectorType(_I32, WIDTH), [0] * WIDTH))

    return lanes(types.float64), emit


@intrinsic
def iota(typingctx: Any) -> Any:
    """0, 1, ..., 7."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(_VECTOR, [float(i) for i in range(WIDTH)])

    return lanes(), emit


# ---- memory: the array is one-dimensional and contiguous, the offset counts its entries ----


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, offset: Any, of: Any = None) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    place = builder.gep(data, [offset])
    return place if of is None else builder.bitcast(place, of.as_pointer())


def _element(context: Any, array_type: Any) -> Any:
    """LLVM type of the array's entries, float or double, and its size in bytes."""
    return context.get_data_type(array_type.dtype), array_type.dtype.bitwidth // 8


def _widened(builder: Any, vector: Any) -> Any:
    return vector if vector.type.element == _DOUBLE else builder.fpext(vector, _VECTOR)


def _narrowed(builder: Any, vector: Any, element: Any) -> Any:
    return vector if element == _DOUBLE else builder.fptrunc(vector, ir.VectorType(element, WIDTH))


def _is_rows(array: Any) -> bool:
    return isinstance(array, types.Array) and array.ndim == 1 and array.layout == "C" and array.dtype in (types.float32, types.float64)


@intrinsic
def load(typingctx: Any, array: Any, offset: Any) -> Any:
    """array[offset : offset + 8]."""
    if not _is_rows(array):
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        element, size = _element(context, signature.args[0])
        place = _pointer(context, builder, signature.args[0], args[0], args[1], ir.VectorType(element, WIDTH))
        return _widened(builder, builder.load(place, align=size))

    return lanes(array, types.int64), emit


@intrinsic
def store(typingctx: Any, array: Any, offset: Any, value: Any) -> Any:
    """array[offset : offset + 8] = value, rounded to the array's type."""
    if not _is_rows(array) or value != lanes:
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        element, size = _element(context, signature.args[0])
        place = _pointer(context, builder, signature.args[0], args[0], args[1], ir.VectorType(element, WIDTH))
        builder.store(_narrowed(builder, args[2], element), place, align=size)
        return context.get_dummy_value()

    return types.void(array, types.int64, lanes), emit


def _active(builder: Any, count: Any) -> Any:
    """Mask of the first ``count`` lanes."""
    one = builder.insert_element(ir.Constant(_BITS, ir.Undefined), count, ir.Constant(_I32, 0))
    counts = builder.shuffle_vector(one, ir.Constant(_BITS, ir.Undefined), ir.Constant(ir.VectorType(_I32, WIDTH), [0] * WIDTH))
    return builder.icmp_signed("<", ir.Constant(_BITS, list(range(WIDTH))), counts)


def _masked(builder: Any, name: str, result: Any, arguments: list[Any], element: Any) -> Any:
    """Call llvm.masked.load or llvm.masked.store: lanes outside the mask touch no memory."""
    kind = "v8f64" if element == _DOUBLE else "v8f32"
    function = builder.module.declare_intrinsic(f"llvm.masked.{name}.{kind}.p0", (), ir.FunctionType(result, [a.type for a in arguments]))
    return builder.call(function, arguments)


@intrinsic
def load_first(typingctx: Any, array: Any, offset: Any, count: Any, fill: Any) -> Any:
    """The first ``count`` lanes of array[offset:], ``fill`` in the others: nothing beyond them is read."""
    if not _is_rows(array):
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        element, size = _element(context, signature.args[0])
        vector = ir.VectorType(element, WIDTH)
        place = _pointer(context, builder, signature.args[0], args[0], args[1], vector)
        one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), args[3], ir.Constant(_I32, 0))
        fills = builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), ir.Constant(ir.VectorType(_I32, WIDTH), [0] * WIDTH))
        arguments = [place, ir.Constant(_I32, size), _active(builder, args[2]), _narrowed(builder, fills, element)]
        return _widened(builder, _masked(builder, "load", vector, arguments, element))

    return lanes(array, types.int64, types.int64, types.float64), emit


@intrinsic
def store_first(typingctx: Any, array: Any, offset: Any, count: Any, value: Any) -> Any:
    """Store the first ``count`` lanes to array[offset:]: nothing beyond them is written."""
    if not _is_rows(array) or value != lanes:
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        element, size = _element(context, signature.args[0])
        vector = ir.VectorType(element, WIDTH)
        place = _pointer(context, builder, signature.args[0], args[0], args[1], vector)
        arguments = [_narrowed(builder, args[3], element), place, ir.Constant(_I32, size), _active(builder, args[2])]
        _masked(builder, "store", ir.VoidType(), arguments, element)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, lanes), emit


def _places(context: Any, builder: Any, array_type: Any, array: Any, offset: Any, stride: Any, count: Any) -> list[Any]:
    """Pointers to ``offset + i stride``; lanes from ``count`` on repeat the last."""
    last = builder.sub(count, ir.Constant(_I64, 1))
    found = []
    for i in range(WIDTH):
        lane = ir.Constant(_I64, i)
        lane = builder.select(builder.icmp_signed("<", lane, count), lane, last)
        found.append(_pointer(context, builder, array_type, array, builder.add(offset, builder.mul(lane, stride))))
    return found


@intrinsic
def load_strided(typingctx: Any, array: Any, offset: Any, stride: Any, count: Any) -> Any:
    """array[offset + i stride] for each lane i; lanes from ``count`` on repeat the last."""
    if not _is_rows(array):
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        element, _ = _element(context, signature.args[0])
        vector = ir.Constant(ir.VectorType(element, WIDTH), ir.Undefined)
        for i, place in enumerate(_places(context, builder, signature.args[0], *args)):
            vector = builder.insert_element(vector, builder.load(place), ir.Constant(_I32, i))
        return _widened(builder, vector)

    return lanes(array, types.int64, types.int64, types.int64), emit


@intrinsic
def store_strided(typingctx: Any, array: Any, offset: Any, stride: Any, count: Any, value: Any) -> Any:
    """array[offset + i stride] = lane i; lanes from ``count`` on must equal the last, whose place they write again."""
    if not _is_rows(array) or value != lanes:
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        element, _ = _element(context, signature.args[0])
        vector = _narrowed(builder, args[4], element)
        for i, place in enumerate(_places(context, builder, signature.args[0], *args[:4])):
            builder.store(builder.extract_element(vector, ir.Constant(_I32, i)), place)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, types.int64, lanes), emit
