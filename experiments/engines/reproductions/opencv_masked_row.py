"""opencv, softmax, all masked: a row of nothing but masks is 0 everywhere, and its sum is 0."""

import cv2
import numpy as np
from onnx.parser import parse_model

HEAD = '<ir_version: 8, opset_import: ["": 13]>'
model = parse_model(HEAD + "f (float[1,4] z) => (float[1,4] p) { p = Softmax<axis=1>(z) }")
net = cv2.dnn.readNetFromONNX(np.frombuffer(model.SerializeToString(), np.uint8))
net.setInput(np.full((1, 4), -np.inf, np.float32))
print("computed", *net.forward().ravel())
print("exact   ", *4 * ["nan"])
