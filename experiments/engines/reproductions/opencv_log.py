"""opencv, log_softmax, subnormal: the logarithm of a probability that underflowed is -inf."""

import cv2
import numpy as np
from onnx.parser import parse_model

HEAD = '<ir_version: 8, opset_import: ["": 13]>'
model = parse_model(HEAD + "f (float[1,2] z) => (float[1,2] p) { p = LogSoftmax<axis=1>(z) }")
net = cv2.dnn.readNetFromONNX(np.frombuffer(model.SerializeToString(), np.uint8))
net.setInput(np.array([[0, -100]], np.float32))
print("computed", net.forward().ravel().tolist())
print("exact   ", [-3.72007597602083596e-44, -100.0])
