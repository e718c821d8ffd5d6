"""tinygrad on its CPU device, which compiles by clang."""

import numpy as np
from answering import options, serve
from classes import indexed
from tinygrad import Tensor, dtypes

KINDS = {name: getattr(dtypes, name) for name in ("float16", "bfloat16", "float32", "float64")}


def tensor(z):
    if z.dtype.name == "bfloat16":
        return Tensor(z.astype(np.float32)).cast(dtypes.bfloat16)
    return Tensor(np.ascontiguousarray(z))


def read(result):
    return result.float().numpy() if result.dtype == dtypes.bfloat16 else result.numpy()


def along(function):
    return lambda z, axis: read(getattr(tensor(z), function)(axis=axis))


def loss(z, y):
    return z.sparse_categorical_crossentropy(Tensor(indexed(y)), reduction="none")


def cross_entropy(z, y):
    return read(loss(tensor(z), y))


def cross_entropy_grad(z, y):
    given = tensor(z).realize()
    given.requires_grad = True
    loss(given, y).sum().backward()
    return read(given.grad)


serve(
    "tinygrad",
    {function: along(function) for function in ("softmax", "log_softmax")},
    {"cross_entropy": cross_entropy, "cross_entropy_grad": cross_entropy_grad},
    dtypes=("float16", "bfloat16", "float32"),
    axis=options().axis,
)
