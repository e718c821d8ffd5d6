"""tract, log_softmax, far apart: the logarithm of a probability that underflowed is -inf."""

import math
import tempfile

import numpy as np
import onnx.parser
import tract

BODY = '<ir_version: 8, opset_import: ["": 13]> f (float[1,2] z) => (float[1,2] p)'
with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
    onnx.save(onnx.parser.parse_model(BODY + " { p = LogSoftmax<axis=1>(z) }"), file.name)
    run = tract.onnx().load(file.name).into_model().into_runnable()
print("computed", run.run([np.array([[0, -120]], np.float32)])[0].to_numpy()[0].tolist())
print("exact   ", [-math.exp(-120), -120.0])
