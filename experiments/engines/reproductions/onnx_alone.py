"""onnx, log_softmax, in company: along another axis than the last a row alone and in a batch differ."""

import numpy as np
from onnx.parser import parse_model
from onnx.reference import ReferenceEvaluator

HEAD = '<ir_version: 8, opset_import: ["": 13]>'
model = parse_model(HEAD + "f (float[K,N] z) => (float[K,N] p) { p = LogSoftmax<axis=0>(z) }")
row = [-5.0, -6.25, -7.5, 8.75, -6.25, -6.25, -8.75, -8.75, 6.25, -5.0]
for n in (1, 8):
    p = ReferenceEvaluator(model).run(None, {"z": np.array([[x] * n for x in row], np.float32)})[0]
    print("computed", p[3, 0], "in a batch of", n)
print("exact   ", -0.07889268320390685, "in any")
