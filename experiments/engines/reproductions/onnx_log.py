"""onnx, log_softmax, far apart: the reference takes the logarithm of a probability that underflowed."""

import numpy as np
from onnx.parser import parse_model
from onnx.reference import ReferenceEvaluator

HEAD = '<ir_version: 8, opset_import: ["": 13]>'
model = parse_model(HEAD + "f (float[N,K] z) => (float[N,K] p) { p = LogSoftmax<axis=1>(z) }")
print(
    "computed", ReferenceEvaluator(model).run(None, {"z": np.array([[0, -120]], np.float32)})[0][0].tolist()
)
print("exact   ", [-7.66764807372199e-53, -120.0])
