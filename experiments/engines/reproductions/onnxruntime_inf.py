"""onnxruntime, log_softmax, +inf: in float64 only the overflowed logit is NaN; in float32 its row is."""

import numpy as np
from onnx.parser import parse_model
from onnxruntime import InferenceSession

HEAD = '<ir_version: 8, opset_import: ["": 13]>'
for kind, name in (("double", "float64"), ("float", "float32")):
    model = parse_model(HEAD + f"f ({kind}[N,K] z) => ({kind}[N,K] p) {{ p = LogSoftmax<axis=1>(z) }}")
    run = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    print("computed", *run.run(None, {"z": np.array([[0, 1, np.inf, 2]], name)})[0][0], name)
    print("exact   ", *4 * ["nan"])
