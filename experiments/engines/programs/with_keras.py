"""Keras 3 on one of its backends: ``keras.ops``, and its loss from logits."""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = next(
    each for each in ("numpy", "jax", "torch", "tensorflow") if each in sys.argv
)

import keras
from answering import options, serve
from keras import ops

OPTIONS = options("numpy", "jax", "torch", "tensorflow")


def along(function):
    call = getattr(ops, function)
    return lambda z, axis: ops.convert_to_numpy(call(ops.convert_to_tensor(z), axis=axis))


def cross_entropy(z, y):
    given = ops.convert_to_tensor(z)
    if y.ndim == 2:
        found = ops.categorical_crossentropy(ops.convert_to_tensor(y), given, from_logits=True)
    else:
        found = ops.sparse_categorical_crossentropy(ops.convert_to_tensor(y), given, from_logits=True)
    return ops.convert_to_numpy(found)


serve(
    f"keras on {keras.backend.backend()}",
    {function: along(function) for function in ("softmax", "log_softmax")},
    {"cross_entropy": cross_entropy},
    dtypes=("float16", "float32"),
    axis=OPTIONS.axis,
)
