"""onnxruntime, log_softmax, NaN: in float64 a row with a NaN gets numbers; in float32 it is NaN."""

import numpy as np
from onnx.parser import parse_model
from onnxruntime import InferenceSession

HEAD = '<ir_version: 8, opset_import: ["": 13]>'
for kind, name in (("double", "float64"), ("float", "float32")):
    model = parse_model(HEAD + f"f ({kind}[N,K] z) => ({kind}[N,K] p) {{ p = LogSoftmax<axis=1>(z) }}")
    run = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    print("computed", *run.run(None, {"z": np.array([[0, 1, np.nan, 2]], name)})[0][0], name)
    print("exact   ", *4 * ["nan"])
