"""opencv, log_softmax, confident: log p of a sure class is 0, and so is the loss of its row."""

import math

import cv2
import numpy as np
from onnx.parser import parse_model

HEAD = '<ir_version: 8, opset_import: ["": 13]>'
model = parse_model(HEAD + "f (float[1,2] z) => (float[1,2] p) { p = LogSoftmax<axis=1>(z) }")
net = cv2.dnn.readNetFromONNX(np.frombuffer(model.SerializeToString(), np.uint8))
net.setInput(np.array([[25, 0]], np.float32))
print("computed", net.forward().ravel().tolist())
print("exact   ", [-math.log1p(math.exp(-25)), -25 - math.log1p(math.exp(-25))])
