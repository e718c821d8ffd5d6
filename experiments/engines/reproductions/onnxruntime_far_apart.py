"""onnxruntime, softmax, far apart: z - max(z) is rounded, as almost everywhere, and exp magnifies that."""

import math

import numpy as np
from onnx.parser import parse_model
from onnxruntime import InferenceSession

HEAD = '<ir_version: 8, opset_import: ["": 13]>'
model = parse_model(HEAD + "f (float[N,K] z) => (float[N,K] p) { p = Softmax<axis=1>(z) }")
run = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
z = np.array([[33.3, -33.3]], np.float32)
print("computed", float(run.run(None, {"z": z})[0][0, 1]))
print("exact   ", 1 / (1 + math.exp(float(z[0, 0]) - float(z[0, 1]))))
