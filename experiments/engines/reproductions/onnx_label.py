"""onnx, cross_entropy, labels: the reference takes the label -1 for the last class."""

import numpy as np
from onnx.parser import parse_model
from onnx.reference import ReferenceEvaluator

HEAD = '<ir_version: 8, opset_import: ["": 13]>'
BODY = '{ l = SoftmaxCrossEntropyLoss<reduction="none">(z, y) }'
model = parse_model(HEAD + f"f (float[N,K] z, int64[N] y) => (float[N] l) {BODY}")
z = np.array([[0, 1, 2], [5, 6, 7]], np.float32)
print("computed", ReferenceEvaluator(model).run(None, {"z": z, "y": np.array([0, -1])})[0].tolist())
print("exact   ", "no class has the label -1: an error, or NaN")
