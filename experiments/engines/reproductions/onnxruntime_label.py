"""onnxruntime, cross_entropy, labels: the label -1 is accepted, and has the loss of something."""

import numpy as np
from onnx.parser import parse_model
from onnxruntime import InferenceSession

HEAD = '<ir_version: 8, opset_import: ["": 13]>'
BODY = '{ l = SoftmaxCrossEntropyLoss<reduction="none">(z, y) }'
model = parse_model(HEAD + f"f (float[N,K] z, int64[N] y) => (float[N] l) {BODY}")
run = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
z = np.array([[0, 1, 2], [5, 6, 7]], np.float32)
print("computed", run.run(None, {"z": z, "y": np.array([0, -1])})[0].tolist())
print("exact   ", "no class has the label -1: an error, or NaN")
