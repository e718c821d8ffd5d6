"""OpenVINO on a CPU: its own operators, compiled with its defaults, or with the hint for accuracy."""

from functools import cache

import numpy as np
import openvino as ov
from answering import options, serve
from openvino import opset13

OPTIONS = options("accuracy")
CORE = ov.Core()
CONFIG = {"EXECUTION_MODE_HINT": "ACCURACY"} if OPTIONS.mode == "accuracy" else {}


@cache
def compiled(function, dtype, axis):
    z = opset13.parameter([-1, -1], dtype=np.dtype(dtype))
    model = ov.Model([getattr(opset13, function)(z, axis)], [z], function)
    return CORE.compile_model(model, "CPU", CONFIG)


def along(function):
    # axis -1 is 1: the operator of older sets takes no negative one
    return lambda z, axis: np.array(compiled(function, z.dtype.name, axis % 2)([z])[0])


serve(
    "openvino",
    {function: along(function) for function in ("softmax", "log_softmax")},
    dtypes=("float16", "float32"),
    axis=OPTIONS.axis,
)
