"""Eight float64 lanes, or sixteen of float32, as a Numba type: a kernel says which vector operation runs.

Left to itself, LLVM guesses how to vectorise a loop: an alias check, a remainder or a bit trick makes the
guess fail by a factor of five. Here a value of type ``lanes`` is the LLVM vector <8 x double>: one AVX-512
register, two of AVX2, four of NEON. A value of type ``singles`` is <16 x float>, of the same size. Lanes are
summed in one fixed order, so a result does not depend on the machine's vector width.

No fast-math flag stands anywhere, so compensated differences survive. Narrower types are widened on load and
rounded once on store. Half precision comes as its bits, since Numba has no arithmetic for it: an array of
int16 holds float16, one of uint16 holds bfloat16.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable
from numba.np.arrayobj import make_array, populate_array

WIDTH = 8
SINGLES = 16
_DOUBLE = ir.DoubleType()
_FLOAT, _HALF = ir.FloatType(), ir.HalfType()
_I16, _I32, _I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_DOUBLE, WIDTH)
_BITS = ir.VectorType(_I64, WIDTH)
_SINGLES = ir.VectorType(_FLOAT, SINGLES)
_SINGLES_BITS = ir.VectorType(_I32, SINGLES)


class Lanes(types.Type):
    """Numba type of a vector register's lanes."""

    def __init__(self, name: str, vector: ir.VectorType, entry: types.Type) -> None:
        super().__init__(name=f"softmax_lab_{name}")
        self.vector, self.entry = vector, entry


lanes = Lanes("lanes", _VECTOR, types.float64)
singles = Lanes("singles", _SINGLES, types.float32)
_KINDS = (lanes, singles)


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, numba_type.vector)


# ---- arithmetic: an intrinsic from the instructions it stands for ----


def _unary(emit: Callable[..., Any], of: Lanes = lanes) -> Any:
    @intrinsic
    def operation(typingctx: Any, a: Any) -> Any:
        if a != of:
            return None
        return a(a), lambda context, builder, signature, args: emit(builder, *args)

    return operation


def _binary(emit: Callable[..., Any], kinds: tuple[Lanes, ...] = _KINDS) -> Any:
    @intrinsic
    def operation(typingctx: Any, a: Any, b: Any) -> Any:
        if a not in kinds or a != b:
            return None
        return a(a, b), lambda context, builder, signature, args: emit(builder, *args)

    return operation


def _ternary(emit: Callable[..., Any]) -> Any:
    @intrinsic
    def operation(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
        if a not in _KINDS or not a == b == c:
            return None
        return a(a, b, c), lambda context, builder, signature, args: emit(builder, *args)

    return operation


def _reduction(emit: Callable[..., Any]) -> Any:
    @intrinsic
    def operation(typingctx: Any, a: Any) -> Any:
        if a not in _KINDS:
            return None
        return a.entry(a), lambda context, builder, signature, args: emit(builder, *args)

    return operation


def _choice(comparison: str) -> Any:
    """(a, b, x, y): x where ``a comparison b``, else y; where a or b is NaN, y."""

    @intrinsic
    def operation(typingctx: Any, a: Any, b: Any, x: Any, y: Any) -> Any:
        if a not in _KINDS or x not in _KINDS or a != b or x != y or a.vector.count != x.vector.count:
            return None

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.select(builder.fcmp_ordered(comparison, args[0], args[1]), args[2], args[3])

        return x(a, b, x, y), emit

    return operation


def _vector(value: Any, of: ir.Type = _DOUBLE) -> ir.Constant:
    return ir.Constant(ir.VectorType(of, WIDTH), [value] * WIDTH)


def _shift_exponent(builder: Any, value: Any, magic: Any) -> Any:
    """value * 2^n, where n is in the low bits of ``magic`` (see ``exponential``).

    This is an integer addition to the exponent.
    """
    n = builder.shl(builder.bitcast(magic, _BITS), _vector(52, _I64))
    return builder.bitcast(builder.add(builder.bitcast(value, _BITS), n), _VECTOR)


def _power_of_two(builder: Any, magic: Any) -> Any:
    """2^(n - 127), where n < 255 is in the low bits of ``magic`` (see ``exponential.parts``); 0 where n is 0.

    n becomes the number's exponent.
    """
    places = ir.Constant(_SINGLES_BITS, [23] * SINGLES)
    return builder.bitcast(builder.shl(builder.bitcast(magic, _SINGLES_BITS), places), _SINGLES)


def _exponent(builder: Any, value: Any) -> Any:
    """The integer n, as a float, with value / 2^n in [sqrt(1/2), sqrt(2)), for normal positive values."""
    # the bits of sqrt(1/2)
    offset = builder.sub(builder.bitcast(value, _BITS), _vector(0x3FE6A09E667F3BCD, _I64))
    return builder.sitofp(builder.ashr(offset, _vector(52, _I64)), _VECTOR)


def _mantissa(builder: Any, value: Any) -> Any:
    """value / 2^n for that n."""
    bits = builder.bitcast(value, _BITS)
    n = builder.ashr(builder.sub(bits, _vector(0x3FE6A09E667F3BCD, _I64)), _vector(52, _I64))
    return builder.bitcast(builder.sub(bits, builder.shl(n, _vector(52, _I64))), _VECTOR)


def _in_order(step: Callable[..., Any]) -> Callable[..., Any]:
    """Reduce the lanes as a balanced tree, always in the same order."""

    def emit(builder: Any, vector: Any) -> Any:
        while (half := vector.type.count // 2) > 1:
            vector = step(builder, _part(builder, vector, 0, half), _part(builder, vector, half, half))
        return step(builder, *(builder.extract_element(vector, ir.Constant(_I32, i)) for i in (0, 1)))

    return emit


def _part(builder: Any, vector: Any, first: int, count: int) -> Any:
    """Lanes first ... first + count - 1."""
    places = ir.Constant(ir.VectorType(_I32, count), list(range(first, first + count)))
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), places)


def _larger(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)  # one vmaxpd: where a is NaN, b


def _absolute(builder: Any, a: Any) -> Any:
    return builder.bitcast(
        builder.and_(builder.bitcast(a, _BITS), _vector(0x7FFFFFFFFFFFFFFF, _I64)), _VECTOR
    )


def _with_sign(builder: Any, a: Any, b: Any) -> Any:
    sign = builder.and_(builder.bitcast(b, _BITS), _vector(1 << 63, _I64))
    return builder.bitcast(builder.or_(builder.bitcast(_absolute(builder, a), _BITS), sign), _VECTOR)


def _fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    name = "llvm.fma.v8f64" if a.type == _VECTOR else "llvm.fma.v16f32"
    function = builder.module.declare_intrinsic(name, (), ir.FunctionType(a.type, [a.type] * 3))
    return builder.call(function, [a, b, c])


maximum = _binary(_larger)
fma = _ternary(_fused)
scale_exponent = _binary(_shift_exponent, (lanes,))
absolute = _unary(_absolute)
with_sign = _binary(_with_sign, (lanes,))  # |a| with the sign of b
power_of_two = _unary(_power_of_two, singles)
exponent = _unary(_exponent)
mantissa = _unary(_mantissa)
where_less = _choice("<")
where_ordered = _choice("ord")  # x where neither a nor b is NaN
where_equal = _choice("==")
sum_lanes = _reduction(_in_order(lambda builder, a, b: builder.fadd(a, b)))
max_lanes = _reduction(_in_order(_larger))


def _define_operator(function: Any, emit: Callable[..., Any]) -> None:
    """Let an operator of Python stand for an instruction; an ``overload`` would compile a function for it."""

    @type_callable(function)
    def choose(context):
        return lambda a, b: a if a in _KINDS and a == b else None

    @lower_builtin(function, Lanes, Lanes)
    def lower(context, builder, signature, args):
        return emit(builder, *args)


_OPERATORS = {
    operator.add: lambda builder, a, b: builder.fadd(a, b),
    operator.iadd: lambda builder, a, b: builder.fadd(a, b),
    operator.sub: lambda builder, a, b: builder.fsub(a, b),
    operator.mul: lambda builder, a, b: builder.fmul(a, b),
    operator.truediv: lambda builder, a, b: builder.fdiv(a, b),
}
for _function, _emit in _OPERATORS.items():
    _define_operator(_function, _emit)


@intrinsic
def least(typingctx: Any, a: Any, b: Any) -> Any:
    """The smaller of two integers: ``min``, which compiles a function."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.icmp_signed("<", *args), *args)

    return types.int64(types.int64, types.int64), emit


@intrinsic
def splat(typingctx: Any, x: Any) -> Any:
    """Eight copies of a number."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _alike(builder, args[0], _VECTOR)

    return lanes(types.float64), emit


def _alike(builder: Any, number: Any, vector: ir.VectorType) -> Any:
    """A vector of one number."""
    undefined, places = ir.Constant(vector, ir.Undefined), ir.VectorType(_I32, vector.count)
    one = builder.insert_element(undefined, number, ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(places, [0] * vector.count))


@intrinsic
def splat_single(typingctx: Any, x: Any) -> Any:
    """Sixteen copies of a number, rounded to float32."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _alike(builder, builder.fptrunc(args[0], _FLOAT), _SINGLES)

    return singles(types.float64), emit


@intrinsic
def iota_singles(typingctx: Any) -> Any:
    """0, 1, ..., 15."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(_SINGLES, [float(i) for i in range(SINGLES)])

    return singles(), emit


@intrinsic
def widened(typingctx: Any, x: Any) -> Any:
    """Return two vectors of eight float64 lanes: the first half of the singles, and the second."""
    if x != singles:
        return None
    pair = types.UniTuple(lanes, 2)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        halves = [builder.fpext(_part(builder, args[0], first, WIDTH), _VECTOR) for first in (0, WIDTH)]
        return context.make_tuple(builder, signature.return_type, halves)

    return pair(x), emit


@intrinsic
def narrowed(typingctx: Any, first: Any, second: Any) -> Any:
    """Sixteen float32 lanes of two vectors, rounded once."""
    if first != lanes or second != lanes:
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        halves = [builder.fptrunc(half, ir.VectorType(_FLOAT, WIDTH)) for half in args]
        return builder.shuffle_vector(*halves, ir.Constant(_SINGLES_BITS, list(range(SINGLES))))

    return singles(first, second), emit


@intrinsic
def iota(typingctx: Any) -> Any:
    """0, 1, ..., 7."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(_VECTOR, [float(i) for i in range(WIDTH)])

    return lanes(), emit


# ---- memory: the array is one-dimensional and contiguous, the offset counts its entries ----

# how an entry lies in memory, and its size in bytes
_STORED = {
    types.float64: (_DOUBLE, 8),
    types.float32: (_FLOAT, 4),
    types.int16: (_I16, 2),
    types.uint16: (_I16, 2),
}


def _is_rows(array: Any) -> bool:
    return (
        isinstance(array, types.Array) and array.ndim == 1 and array.layout == "C" and array.dtype in _STORED
    )


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, offset: Any, of: Any = None) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    place = builder.gep(data, [offset])
    return place if of is None else builder.bitcast(place, of.as_pointer())


def _scratch(entry: types.Type, element: ir.Type, size: int) -> Any:
    @intrinsic
    def operation(typingctx: Any, count: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            length = builder.mul(args[0], ir.Constant(_I64, size))
            block = context.nrt.meminfo_alloc_aligned(builder, size=length, align=64)
            array = make_array(signature.return_type)(context, builder)
            populate_array(
                array,
                data=builder.bitcast(context.nrt.meminfo_data(builder, block), element.as_pointer()),
                shape=[args[0]],
                strides=[ir.Constant(_I64, size)],
                itemsize=ir.Constant(_I64, size),
                meminfo=block,
            )
            return array._getvalue()

        return entry[::1](types.int64), emit

    return operation


# room for so many numbers: ``np.empty``, which alone compiles four functions
scratch, scratch_singles = _scratch(types.float64, _DOUBLE, 8), _scratch(types.float32, _FLOAT, 4)


def _of(element: ir.Type) -> ir.VectorType:
    return ir.VectorType(element, WIDTH)


def _widened(builder: Any, vector: Any, dtype: Any) -> Any:
    """Entries as they lie in memory -> lanes; every step is exact."""
    if dtype == types.float64:
        return vector
    if dtype == types.int16:
        vector = builder.fpext(builder.bitcast(vector, _of(_HALF)), _of(_FLOAT))
    if dtype == types.uint16:
        vector = builder.bitcast(builder.shl(builder.zext(vector, _of(_I32)), _vector(16, _I32)), _of(_FLOAT))
    return builder.fpext(vector, _VECTOR)


def _narrowed(builder: Any, vector: Any, dtype: Any) -> Any:
    """Lanes -> entries as they lie in memory, rounded once to the nearest."""
    if dtype == types.float64:
        return vector
    if dtype == types.float32:
        return builder.fptrunc(vector, _of(_FLOAT))
    single = builder.fptrunc(_odd(builder, vector), _of(_FLOAT))
    if dtype == types.int16:
        return builder.bitcast(builder.fptrunc(single, _of(_HALF)), _of(_I16))
    bits = builder.bitcast(single, _of(_I32))
    last = builder.and_(builder.lshr(bits, _vector(16, _I32)), _vector(1, _I32))
    rounded = builder.lshr(builder.add(bits, builder.add(last, _vector(0x7FFF, _I32))), _vector(16, _I32))
    rounded = builder.select(builder.fcmp_unordered("uno", single, single), _vector(0x7FC0, _I32), rounded)
    return builder.trunc(rounded, _of(_I16))


def _odd(builder: Any, vector: Any) -> Any:
    """Cut to 24 bits, the last one set where anything was cut off.

    The rounding that follows is then the only one.
    (Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums: proved algorithms using rounding to
    odd", 2008.)
    """
    bits, low = builder.bitcast(vector, _BITS), _vector((1 << 29) - 1, _I64)
    cut = builder.and_(bits, low)
    sticky = builder.zext(builder.icmp_unsigned("!=", cut, _vector(0, _I64)), _BITS)
    kept = builder.xor(bits, cut)
    return builder.bitcast(builder.or_(kept, builder.shl(sticky, _vector(29, _I64))), _VECTOR)


def _vector_at(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> Any:
    """Pointer to eight entries at an offset, and the size of one."""
    element, size = _STORED[array_type.dtype]
    return _pointer(context, builder, array_type, array, offset, _of(element)), size


@intrinsic
def load(typingctx: Any, array: Any, offset: Any) -> Any:
    """array[offset : offset + 8]."""
    if not _is_rows(array):
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place, size = _vector_at(context, builder, signature.args[0], *args)
        return _widened(builder, builder.load(place, align=size), signature.args[0].dtype)

    return lanes(array, types.int64), emit


@intrinsic
def store(typingctx: Any, array: Any, offset: Any, value: Any) -> Any:
    """array[offset : offset + 8] = value, rounded to the array's type."""
    if not _is_rows(array) or value != lanes:
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place, size = _vector_at(context, builder, signature.args[0], *args[:2])
        builder.store(_narrowed(builder, args[2], signature.args[0].dtype), place, align=size)
        return context.get_dummy_value()

    return types.void(array, types.int64, lanes), emit


@intrinsic
def stream(typingctx: Any, array: Any, offset: Any, value: Any) -> Any:
    """Store past the caches: a line that is written whole need not be read first.

    The place must be aligned to a line. See ``store``.
    """
    if not _is_rows(array) or value != lanes:
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place, size = _vector_at(context, builder, signature.args[0], *args[:2])
        written = builder.store(
            _narrowed(builder, args[2], signature.args[0].dtype), place, align=size * WIDTH
        )
        written.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(_I32, 1)]))
        return context.get_dummy_value()

    return types.void(array, types.int64, lanes), emit


@intrinsic
def settle(typingctx: Any) -> Any:
    """Order streamed stores before whatever another thread is told next."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def to_boundary(typingctx: Any, array: Any, offset: Any) -> Any:
    """How many entries from the offset to the next line of 64 bytes."""
    if not _is_rows(array):
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place, size = _vector_at(context, builder, signature.args[0], *args)
        beyond = builder.neg(builder.ptrtoint(place, _I64))
        return builder.lshr(
            builder.and_(beyond, ir.Constant(_I64, 63)), ir.Constant(_I64, size.bit_length() - 1)
        )

    return types.int64(array, types.int64), emit


def _prefetch(to_write: int) -> Any:
    @intrinsic
    def operation(typingctx: Any, array: Any, offset: Any) -> Any:
        if not _is_rows(array):
            return None

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            place = builder.bitcast(
                _vector_at(context, builder, signature.args[0], *args)[0], ir.IntType(8).as_pointer()
            )
            function = builder.module.declare_intrinsic(
                "llvm.prefetch.p0", (), ir.FunctionType(ir.VoidType(), [place.type] + [_I32] * 3)
            )
            # to every level, data
            builder.call(function, [place, *(ir.Constant(_I32, n) for n in (to_write, 3, 1))])
            return context.get_dummy_value()

        return types.void(array, types.int64), emit

    return operation


# the line that holds array[offset], which may lie beyond the array's end: to be read, or to be written
prefetch, ask_for = _prefetch(0), _prefetch(1)


def _first(builder: Any, count: Any) -> Any:
    """Mask of the first ``count`` lanes."""
    return builder.icmp_signed("<", ir.Constant(_BITS, list(range(WIDTH))), _alike(builder, count, _BITS))


_MASKED = {types.float64: "v8f64", types.float32: "v8f32", types.int16: "v8i16", types.uint16: "v8i16"}


def _masked(builder: Any, name: str, result: Any, arguments: list[Any], dtype: Any) -> Any:
    """Call llvm.masked.load or llvm.masked.store: lanes outside the mask touch no memory."""
    function = builder.module.declare_intrinsic(
        f"llvm.masked.{name}.{_MASKED[dtype]}.p0", (), ir.FunctionType(result, [a.type for a in arguments])
    )
    return builder.call(function, arguments)


def _masked_load(context: Any, builder: Any, array_type: Any, array: Any, offset: Any, count: Any) -> Any:
    """Entries as they lie in memory, 0 in the lanes from ``count`` on."""
    place, size = _vector_at(context, builder, array_type, array, offset)
    vector = _of(_STORED[array_type.dtype][0])
    arguments = [place, ir.Constant(_I32, size), _first(builder, count), ir.Constant(vector, None)]
    return _masked(builder, "load", vector, arguments, array_type.dtype)


def _masked_store(
    context: Any, builder: Any, array_type: Any, array: Any, offset: Any, count: Any, vector: Any
) -> None:
    place, size = _vector_at(context, builder, array_type, array, offset)
    _masked(
        builder,
        "store",
        ir.VoidType(),
        [vector, place, ir.Constant(_I32, size), _first(builder, count)],
        array_type.dtype,
    )


@intrinsic
def load_first(typingctx: Any, array: Any, offset: Any, count: Any, fill: Any) -> Any:
    """The first ``count`` lanes of array[offset:], ``fill`` in the others: nothing beyond them is read."""
    if not _is_rows(array):
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = _masked_load(context, builder, signature.args[0], *args[:3])
        return builder.select(
            _first(builder, args[2]),
            _widened(builder, vector, signature.args[0].dtype),
            _alike(builder, args[3], _VECTOR),
        )

    return lanes(array, types.int64, types.int64, types.float64), emit


@intrinsic
def store_first(typingctx: Any, array: Any, offset: Any, count: Any, value: Any) -> Any:
    """Store the first ``count`` lanes to array[offset:]: nothing beyond them is written."""
    if not _is_rows(array) or value != lanes:
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _masked_store(
            context,
            builder,
            signature.args[0],
            *args[:3],
            _narrowed(builder, args[3], signature.args[0].dtype),
        )
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, lanes), emit


@intrinsic
def flags(typingctx: Any, array: Any, offset: Any, count: Any) -> Any:
    """1 in the lanes i < count where the byte array[offset + i] is not 0, else 0: of an array of booleans."""
    if not (
        isinstance(array, types.Array)
        and array.ndim == 1
        and array.layout == "C"
        and array.dtype == types.boolean
    ):
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte, zeros = ir.IntType(8), ir.Constant(ir.VectorType(ir.IntType(8), WIDTH), None)
        place = _pointer(context, builder, signature.args[0], args[0], args[1], _of(byte))
        arguments = [place, ir.Constant(_I32, 1), _first(builder, args[2]), zeros]
        function = builder.module.declare_intrinsic(
            "llvm.masked.load.v8i8.p0", (), ir.FunctionType(_of(byte), [a.type for a in arguments])
        )
        return builder.uitofp(builder.icmp_unsigned("!=", builder.call(function, arguments), zeros), _VECTOR)

    return lanes(array, types.int64, types.int64), emit


@intrinsic
def entry(typingctx: Any, array: Any, offset: Any) -> Any:
    """array[offset] as float64."""
    if not _is_rows(array):
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.Constant(_of(_STORED[signature.args[0].dtype][0]), None)
        vector = builder.insert_element(
            vector, builder.load(_entry_at(context, builder, signature, args)), ir.Constant(_I32, 0)
        )
        return builder.extract_element(
            _widened(builder, vector, signature.args[0].dtype), ir.Constant(_I32, 0)
        )

    return types.float64(array, types.int64), emit


@intrinsic
def put(typingctx: Any, array: Any, offset: Any, value: Any) -> Any:
    """array[offset] = value, a float64 rounded to the array's type."""
    if not _is_rows(array):
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = builder.insert_element(ir.Constant(_VECTOR, None), args[2], ir.Constant(_I32, 0))
        narrow = _narrowed(builder, vector, signature.args[0].dtype)
        builder.store(
            builder.extract_element(narrow, ir.Constant(_I32, 0)),
            _entry_at(context, builder, signature, args),
        )
        return context.get_dummy_value()

    return types.void(array, types.int64, types.float64), emit


def _entry_at(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    array_type = signature.args[0]
    return _pointer(context, builder, array_type, args[0], args[1], _STORED[array_type.dtype][0])


def _places(
    context: Any, builder: Any, array_type: Any, array: Any, offset: Any, stride: Any, count: Any
) -> list[Any]:
    """Offsets ``offset + i stride``; lanes from ``count`` on repeat the last."""
    last = builder.sub(count, ir.Constant(_I64, 1))
    found = []
    for i in range(WIDTH):
        lane = ir.Constant(_I64, i)
        lane = builder.select(builder.icmp_signed("<", lane, count), lane, last)
        found.append(builder.add(offset, builder.mul(lane, stride)))
    return found


@intrinsic
def load_strided(typingctx: Any, array: Any, offset: Any, stride: Any, count: Any) -> Any:
    """array[offset + i stride] for each lane i; lanes from ``count`` on repeat the last."""
    if not _is_rows(array):
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        element = _STORED[signature.args[0].dtype][0]
        vector = ir.Constant(_of(element), ir.Undefined)
        for i, place in enumerate(_places(context, builder, signature.args[0], *args)):
            one = builder.load(_pointer(context, builder, signature.args[0], args[0], place, element))
            vector = builder.insert_element(vector, one, ir.Constant(_I32, i))
        return _widened(builder, vector, signature.args[0].dtype)

    return lanes(array, types.int64, types.int64, types.int64), emit


@intrinsic
def store_strided(typingctx: Any, array: Any, offset: Any, stride: Any, count: Any, value: Any) -> Any:
    """array[offset + i stride] = lane i.

    Lanes from ``count`` on must equal the last, whose place they write again.
    """
    if not _is_rows(array) or value != lanes:
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = _narrowed(builder, args[4], signature.args[0].dtype)
        element = _STORED[signature.args[0].dtype][0]
        for i, place in enumerate(_places(context, builder, signature.args[0], *args[:4])):
            one = builder.extract_element(vector, ir.Constant(_I32, i))
            builder.store(one, _pointer(context, builder, signature.args[0], args[0], place, element))
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, types.int64, lanes), emit


# ---- memory: sixteen float32 entries ----


def _is_single(array: Any) -> bool:
    return _is_rows(array) and array.dtype == types.float32


def _first_singles(builder: Any, count: Any) -> Any:
    """Mask of the first ``count`` of sixteen lanes."""
    places = ir.Constant(_SINGLES_BITS, list(range(SINGLES)))
    return builder.icmp_signed("<", places, _alike(builder, builder.trunc(count, _I32), _SINGLES_BITS))


@intrinsic
def load_singles(typingctx: Any, array: Any, offset: Any) -> Any:
    """array[offset : offset + 16]."""
    if not _is_single(array):
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_pointer(context, builder, signature.args[0], *args, _SINGLES), align=4)

    return singles(array, types.int64), emit


@intrinsic
def load_first_singles(typingctx: Any, array: Any, offset: Any, count: Any, fill: Any) -> Any:
    """The first ``count`` of sixteen lanes of array[offset:], ``fill`` in the others."""
    if not _is_single(array):
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _pointer(context, builder, signature.args[0], *args[:2], _SINGLES)
        rest = _alike(builder, builder.fptrunc(args[3], _FLOAT), _SINGLES)
        arguments = [place, ir.Constant(_I32, 4), _first_singles(builder, args[2]), rest]
        kinds = [argument.type for argument in arguments]
        function = builder.module.declare_intrinsic(
            "llvm.masked.load.v16f32.p0", (), ir.FunctionType(_SINGLES, kinds)
        )
        return builder.call(function, arguments)

    return singles(array, types.int64, types.int64, types.float64), emit


@intrinsic
def store_singles(typingctx: Any, array: Any, offset: Any, value: Any) -> Any:
    """array[offset : offset + 16] = value."""
    if not _is_single(array) or value != singles:
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _pointer(context, builder, signature.args[0], *args[:2], _SINGLES), align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, singles), emit


@intrinsic
def stream_singles(typingctx: Any, array: Any, offset: Any, value: Any) -> Any:
    """Store past the caches, as ``stream``: the place must be aligned to a line."""
    if not _is_single(array) or value != singles:
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _pointer(context, builder, signature.args[0], *args[:2], _SINGLES)
        written = builder.store(args[2], place, align=64)
        written.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(_I32, 1)]))
        return context.get_dummy_value()

    return types.void(array, types.int64, singles), emit


@intrinsic
def store_first_singles(typingctx: Any, array: Any, offset: Any, count: Any, value: Any) -> Any:
    """Store the first ``count`` of sixteen lanes to array[offset:]: nothing beyond them is written."""
    if not _is_single(array) or value != singles:
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _pointer(context, builder, signature.args[0], *args[:2], _SINGLES)
        arguments = [args[3], place, ir.Constant(_I32, 4), _first_singles(builder, args[2])]
        kinds = [argument.type for argument in arguments]
        function = builder.module.declare_intrinsic(
            "llvm.masked.store.v16f32.p0", (), ir.FunctionType(ir.VoidType(), kinds)
        )
        builder.call(function, arguments)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, singles), emit


# ---- vectors that lie one after the other, each reduced to a lane of the result ----


def _together(
    builder: Any, rows: list[list[Any]], step: Callable[[list[Any], list[Any]], list[Any]]
) -> list[Any]:
    """Reduce as many vectors as each has lanes, the i-th to lane i, in the order of ``_in_order``.

    A row is a list of vectors that a step takes together. Two rows go through an instruction at once, then
    four, then eight: none waits for the other, and a row costs fewer instructions than by itself.
    """
    count = rows[0][0].type.count

    def parts(a: list[Any], b: list[Any], places: list[int]) -> list[Any]:
        return [_shuffled(builder, *two, places) for two in zip(a, b, strict=True)]

    while half := len(rows) // 2:  # blocks of ``half`` lanes are what is left of a row
        low = [j if not j & half else count + j - half for j in range(count)]
        high = [place + half for place in low]
        pairs = zip(rows[:half], rows[half:], strict=True)
        rows = [step(parts(a, b, low), parts(a, b, high)) for a, b in pairs]
    return rows[0]


def _stored_rows(context: Any, builder: Any, kind: Any, array: Any, offset: Any, vector: Any) -> list[Any]:
    """As many vectors as each has lanes."""
    places = [builder.add(offset, ir.Constant(_I64, vector.count * i)) for i in range(vector.count)]
    size = 8 if vector == _VECTOR else 4
    return [
        builder.load(_pointer(context, builder, kind, array, place, vector), align=size) for place in places
    ]


def _each_reduced(step: Callable[..., Any], of: Lanes) -> Any:
    @intrinsic
    def operation(typingctx: Any, array: Any, offset: Any) -> Any:
        if not isinstance(array, types.Array) or array.dtype != of.entry or array.layout != "C":
            return None

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            rows = _stored_rows(context, builder, signature.args[0], *args, of.vector)
            return _together(builder, [[row] for row in rows], lambda a, b: [step(builder, a[0], b[0])])[0]

        return of(array, types.int64), emit

    return operation


# lane i is the sum, or the maximum, of the n entries from offset + i n on, for the n lanes of the result
sum_of_each = _each_reduced(lambda builder, a, b: builder.fadd(a, b), lanes)
max_of_each = _each_reduced(_larger, singles)


@intrinsic
def two_largest_of_each(typingctx: Any, array: Any, offset: Any, seconds: Any) -> Any:
    """Return the largest and the second largest of sixteen vectors at ``offset`` and at ``seconds``.

    The second has the second largest of each lane of the first. Of two that tie both are the largest.
    """
    if not _is_single(array):
        return None
    pair = types.UniTuple(singles, 2)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        first, second = (
            _stored_rows(context, builder, signature.args[0], args[0], place, _SINGLES) for place in args[1:]
        )

        def step(a: list[Any], b: list[Any]) -> list[Any]:
            smaller = builder.select(builder.fcmp_ordered("<", a[0], b[0]), a[0], b[0])
            seconds = _larger(builder, a[1], b[1])
            return [_larger(builder, a[0], b[0]), _larger(builder, smaller, seconds)]

        rows = [list(row) for row in zip(first, second, strict=True)]
        return context.make_tuple(builder, pair, _together(builder, rows, step))

    return pair(array, types.int64, types.int64), emit


# ---- tiles: eight rows of eight columns turned over, so that rows become lanes ----


def _turned(builder: Any, rows: list[Any]) -> list[Any]:
    """Transpose eight vectors: blocks of four, two and one change places."""
    for step in (4, 2, 1):
        near = ir.Constant(_of(_I32), [j if not j & step else WIDTH + j - step for j in range(WIDTH)])
        far = ir.Constant(_of(_I32), [j + step if not j & step else WIDTH + j for j in range(WIDTH)])
        turned = list(rows)
        for i in range(WIDTH):
            if not i & step:
                turned[i] = builder.shuffle_vector(rows[i], rows[i + step], near)
                turned[i + step] = builder.shuffle_vector(rows[i], rows[i + step], far)
        rows = turned
    return rows


@intrinsic
def load_tile(
    typingctx: Any, array: Any, offset: Any, stride: Any, columns: Any, tile: Any, place: Any
) -> Any:
    """tile[place + 8 j + i] = array[offset + i stride + j]: eight rows i, up to eight columns j.

    The tile has room for eight.
    """
    if not _is_rows(array) or not _is_rows(tile) or tile.dtype != types.float64:
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind, tiles = signature.args[0], signature.args[4]
        offsets = [builder.add(args[1], builder.mul(ir.Constant(_I64, i), args[2])) for i in range(WIDTH)]
        rows = [_masked_load(context, builder, kind, args[0], place, args[3]) for place in offsets]
        for j, column in enumerate(_turned(builder, rows)):
            to = _pointer(
                context, builder, tiles, args[4], builder.add(args[5], ir.Constant(_I64, WIDTH * j)), _VECTOR
            )
            builder.store(_widened(builder, column, kind.dtype), to, align=8)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, types.int64, tile, types.int64), emit


@intrinsic
def store_tile(
    typingctx: Any, array: Any, offset: Any, stride: Any, columns: Any, tile: Any, place: Any
) -> Any:
    """array[offset + i stride + j] = tile[place + 8 j + i], as ``load_tile`` the other way."""
    if not _is_rows(array) or not _is_rows(tile) or tile.dtype != types.float64:
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind, tiles = signature.args[0], signature.args[4]
        columns = []
        for j in range(WIDTH):
            place = _pointer(
                context, builder, tiles, args[4], builder.add(args[5], ir.Constant(_I64, WIDTH * j)), _VECTOR
            )
            columns.append(_narrowed(builder, builder.load(place, align=8), kind.dtype))
        for i, row in enumerate(_turned(builder, columns)):
            offset = builder.add(args[1], builder.mul(ir.Constant(_I64, i), args[2]))
            _masked_store(context, builder, kind, args[0], offset, args[3], row)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, types.int64, tile, types.int64), emit


# ---- four columns of sixteen rows, turned over so that rows become lanes ----

_QUAD = ir.VectorType(_FLOAT, 4)


def _quad_places(context: Any, builder: Any, kind: Any, array: Any, at: tuple[Any, Any, Any]) -> list[Any]:
    """Pointers to four entries of each of sixteen rows; rows from ``count`` on repeat the last."""
    offset, stride, count = at
    last, found = builder.sub(count, ir.Constant(_I64, 1)), []
    for i in range(SINGLES):
        row = ir.Constant(_I64, i)
        row = builder.select(builder.icmp_signed("<", row, count), row, last)
        place = builder.add(offset, builder.mul(row, stride))
        found.append(_pointer(context, builder, kind, array, place, _QUAD))
    return found


def _mask_of_quad(builder: Any, width: Any) -> Any:
    """Mask of the first ``width`` of four lanes."""
    lanes_of_quad = ir.VectorType(_I64, 4)
    return builder.icmp_signed(
        "<", ir.Constant(lanes_of_quad, [0, 1, 2, 3]), _alike(builder, width, lanes_of_quad)
    )


def _shuffled(builder: Any, a: Any, b: Any, places: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(places)), places))


def _quads_turned(builder: Any, rows: list[Any]) -> list[Any]:
    """Transpose the blocks of four by four that four vectors of sixteen lanes are made of."""

    def unpacked(a: Any, b: Any, places: tuple[int, ...]) -> Any:
        return _shuffled(builder, a, b, [4 * block + place for block in range(4) for place in places])

    low, high, pairs, rest = (0, SINGLES, 1, SINGLES + 1), (2, SINGLES + 2, 3, SINGLES + 3), (0, 1), (2, 3)
    ends = [(*part, *(SINGLES + place for place in part)) for part in (pairs, rest)]
    a, b = unpacked(rows[0], rows[1], low), unpacked(rows[2], rows[3], low)
    c, d = unpacked(rows[0], rows[1], high), unpacked(rows[2], rows[3], high)
    return [unpacked(*two, end) for two in ((a, b), (c, d)) for end in ends]


def _quad_loader(masked: bool) -> Any:
    @intrinsic
    def operation(
        typingctx: Any, array: Any, offset: Any, stride: Any, count: Any, width: Any, tile: Any, place: Any
    ) -> Any:
        if not _is_single(array) or not _is_single(tile):
            return None

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            places = _quad_places(context, builder, signature.args[0], args[0], args[1:4])
            if masked:
                mask, zeros = _mask_of_quad(builder, args[4]), ir.Constant(_QUAD, None)
                given = [(p, ir.Constant(_I32, 4), mask, zeros) for p in places]
                kinds = [argument.type for argument in given[0]]
                function = builder.module.declare_intrinsic(
                    "llvm.masked.load.v4f32.p0", (), ir.FunctionType(_QUAD, kinds)
                )
                pieces = [builder.call(function, arguments) for arguments in given]
            else:
                pieces = [builder.load(p, align=4) for p in places]
            rows = []
            for i in range(4):
                halves = [
                    _shuffled(builder, pieces[i + j], pieces[i + j + 4], list(range(8))) for j in (0, 8)
                ]
                rows.append(_shuffled(builder, *halves, list(range(SINGLES))))
            for j, column in enumerate(_quads_turned(builder, rows)):
                to = builder.add(args[6], ir.Constant(_I64, SINGLES * j))
                builder.store(
                    column, _pointer(context, builder, signature.args[5], args[5], to, _SINGLES), align=4
                )
            return context.get_dummy_value()

        return types.void(array, *[types.int64] * 4, tile, types.int64), emit

    return operation


def _quad_storer(masked: bool) -> Any:
    @intrinsic
    def operation(
        typingctx: Any, array: Any, offset: Any, stride: Any, count: Any, width: Any, tile: Any, place: Any
    ) -> Any:
        if not _is_single(array) or not _is_single(tile):
            return None

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            columns = []
            for j in range(4):
                at = builder.add(args[6], ir.Constant(_I64, SINGLES * j))
                columns.append(
                    builder.load(
                        _pointer(context, builder, signature.args[5], args[5], at, _SINGLES), align=4
                    )
                )
            rows = _quads_turned(builder, columns)
            mask = _mask_of_quad(builder, args[4])
            for i, to in enumerate(_quad_places(context, builder, signature.args[0], args[0], args[1:4])):
                piece = _part(builder, rows[i % 4], i - i % 4, 4)
                if not masked:
                    builder.store(piece, to, align=4)
                    continue
                arguments = [piece, to, ir.Constant(_I32, 4), mask]
                kinds = [argument.type for argument in arguments]
                function = builder.module.declare_intrinsic(
                    "llvm.masked.store.v4f32.p0", (), ir.FunctionType(ir.VoidType(), kinds)
                )
                builder.call(function, arguments)
            return context.get_dummy_value()

        return types.void(array, *[types.int64] * 4, tile, types.int64), emit

    return operation


# tile[place + 16 j + i] = array[offset + i stride + j]: sixteen rows i, four columns j or ``width`` of them
load_quad, load_some_quad = _quad_loader(False), _quad_loader(True)
# array[offset + i stride + j] = tile[place + 16 j + i]
store_quad, store_some_quad = _quad_storer(False), _quad_storer(True)
