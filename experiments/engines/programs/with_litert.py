"""LiteRT: with its default delegate, with its builtin kernels, or with the reference kernels."""

from functools import lru_cache

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from answering import options, serve

OPTIONS = options("builtin", "reference")
RESOLVERS = {
    "": OpResolverType.AUTO,
    "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "reference": OpResolverType.BUILTIN_REF,
}


def tensor(name, shape, buffer):
    made = schema.TensorT()
    made.name, made.shape, made.buffer, made.type = name, list(shape), buffer, schema.TensorType.FLOAT32
    return made


def model(function, shape):
    """Return a model of one operator, as bytes."""
    code, operator, graph, whole = (
        schema.OperatorCodeT(),
        schema.OperatorT(),
        schema.SubGraphT(),
        schema.ModelT(),
    )
    if function == "softmax":
        code.builtinCode = schema.BuiltinOperator.SOFTMAX
        operator.builtinOptionsType = schema.BuiltinOptions.SoftmaxOptions
        operator.builtinOptions = schema.SoftmaxOptionsT()
        operator.builtinOptions.beta = 1.0
    else:
        code.builtinCode = schema.BuiltinOperator.LOG_SOFTMAX
        operator.builtinOptionsType = schema.BuiltinOptions.LogSoftmaxOptions
        operator.builtinOptions = schema.LogSoftmaxOptionsT()
    code.deprecatedBuiltinCode, code.version = code.builtinCode, 1
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0], [1]
    graph.tensors = [tensor("z", shape, 1), tensor("p", shape, 2)]
    graph.inputs, graph.outputs, graph.operators = [0], [1], [operator]
    whole.version, whole.operatorCodes, whole.subgraphs = 3, [code], [graph]
    whole.buffers = [schema.BufferT() for _ in range(3)]
    builder = flatbuffers.Builder(1024)
    builder.Finish(whole.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


@lru_cache(maxsize=64)
def interpreter(function, shape):
    made = Interpreter(
        model_content=model(function, shape), experimental_op_resolver_type=RESOLVERS[OPTIONS.mode]
    )
    made.allocate_tensors()
    return made


def along(function):
    def call(z, axis):
        made = interpreter(function, z.shape)
        made.set_tensor(made.get_input_details()[0]["index"], np.ascontiguousarray(z))
        made.invoke()
        return made.get_tensor(made.get_output_details()[0]["index"]).copy()

    return call


serve("litert", {function: along(function) for function in ("softmax", "log_softmax")})
