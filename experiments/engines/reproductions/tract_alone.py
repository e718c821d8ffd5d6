"""tract, log_softmax, in company: two equal rows of a batch have different answers."""

import tempfile

import numpy as np
import onnx.parser
import tract

BODY = '<ir_version: 8, opset_import: ["": 13]> f (float[2,10] z) => (float[2,10] p)'
with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
    onnx.save(onnx.parser.parse_model(BODY + " { p = LogSoftmax<axis=1>(z) }"), file.name)
    run = tract.onnx().load(file.name).into_model().into_runnable()
row = [-7.5, 2.5, 0.0, -11.25, 10.0, 5.0, -5.0, -11.25, -10.0, 6.25]
print("computed", *run.run([np.array([row, row], np.float32)])[0].to_numpy()[:, 4])
print("exact   ", *2 * [-0.030388081022527092])
