"""The reference evaluator of the onnx package itself."""

from functools import cache

import onnx_models
from answering import options, serve
from classes import indexed
from onnx import load_model_from_string
from onnx.reference import ReferenceEvaluator


@cache
def evaluator(model):
    return ReferenceEvaluator(load_model_from_string(model))


def along(function):
    return lambda z, axis: evaluator(onnx_models.node(function, z.dtype.name, axis)).run(None, {"z": z})[0]


def cross_entropy(z, y):
    return evaluator(onnx_models.loss(z.dtype.name)).run(None, {"z": z, "y": indexed(y)})[0]


serve(
    "onnx reference",
    {function: along(function) for function in ("softmax", "log_softmax")},
    {"cross_entropy": cross_entropy},
    dtypes=("float16", "float32", "float64"),
    axis=options().axis,
)
