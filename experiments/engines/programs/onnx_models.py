"""ONNX models of one node, for the engines that read them."""

from __future__ import annotations

from functools import cache
from typing import Any

import onnx
from onnx import TensorProto, helper

__all__ = ["loss", "node"]

_KINDS = {"float16": TensorProto.FLOAT16, "float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}
_NAMES = {"softmax": "Softmax", "log_softmax": "LogSoftmax"}


@cache
def node(function: str, dtype: str, axis: int, shape: tuple[Any, ...] = ("N", "K")) -> bytes:
    """Return a model of Softmax or LogSoftmax along an axis, of opset 13."""
    kind = _KINDS[dtype]
    graph = helper.make_graph(
        [helper.make_node(_NAMES[function], ["z"], ["p"], axis=axis)],
        function,
        [helper.make_tensor_value_info("z", kind, list(shape))],
        [helper.make_tensor_value_info("p", kind, list(shape))],
    )
    return _bytes(graph)


@cache
def loss(dtype: str) -> bytes:
    """Return a model of SoftmaxCrossEntropyLoss, a loss a row."""
    kind = _KINDS[dtype]
    graph = helper.make_graph(
        [helper.make_node("SoftmaxCrossEntropyLoss", ["z", "y"], ["l"], reduction="none")],
        "loss",
        [
            helper.make_tensor_value_info("z", kind, ["N", "K"]),
            helper.make_tensor_value_info("y", TensorProto.INT64, ["N"]),
        ],
        [helper.make_tensor_value_info("l", kind, ["N"])],
    )
    return _bytes(graph)


def _bytes(graph: Any) -> bytes:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content
