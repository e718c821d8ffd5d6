"""MLX on a CPU, and in the mode "precise" with the keyword of its softmax."""

import ml_dtypes
import mlx.core as mx
import mlx.nn as nn
import numpy as np
from answering import options, serve
from classes import indexed

OPTIONS = options("precise")
PRECISE = {"precise": True} if OPTIONS.mode == "precise" else {}


def array(z):
    if z.dtype == ml_dtypes.bfloat16:
        return mx.array(z.astype(np.float32)).astype(mx.bfloat16)
    return mx.array(z)


def read(result):
    return np.array(result.astype(mx.float32))


def loss(z, y):
    return nn.losses.cross_entropy(z, y, reduction="none")


def cross_entropy(z, y):
    return read(loss(array(z), mx.array(indexed(y))))


def cross_entropy_grad(z, y):
    return read(mx.grad(lambda z: loss(z, mx.array(indexed(y))).sum())(array(z)))


ALONG = {"softmax": lambda z, axis: read(mx.softmax(array(z), axis=axis, **PRECISE))}
LOSSES = {}
if not PRECISE:
    ALONG["log_softmax"] = lambda z, axis: read(nn.log_softmax(array(z), axis=axis))
    LOSSES = {"cross_entropy": cross_entropy, "cross_entropy_grad": cross_entropy_grad}
serve("mlx", ALONG, LOSSES, dtypes=("float16", "bfloat16", "float32"), axis=OPTIONS.axis)
