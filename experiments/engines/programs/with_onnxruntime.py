"""ONNX Runtime on its CPU provider, with its default optimisations."""

from functools import cache

import onnx_models
import onnxruntime
from answering import options, serve
from classes import indexed


@cache
def session(model):
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def along(function):
    return lambda z, axis: session(onnx_models.node(function, z.dtype.name, axis)).run(None, {"z": z})[0]


def cross_entropy(z, y):
    return session(onnx_models.loss(z.dtype.name)).run(None, {"z": z, "y": indexed(y)})[0]


serve(
    "onnxruntime",
    {function: along(function) for function in ("softmax", "log_softmax")},
    {"cross_entropy": cross_entropy},
    dtypes=("float16", "float32", "float64"),
    axis=options().axis,
)
