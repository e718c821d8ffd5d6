"""openvino, softmax, subnormal: the smallest probabilities of the type are 0, normal numbers among them."""

import math

import numpy as np
import openvino as ov
from openvino import opset13

z = opset13.parameter([1, 2], np.float32)
run = ov.Core().compile_model(ov.Model([opset13.softmax(z, 1)], [z]), "CPU")
print("computed", run([np.array([[0, -87.25]], np.float32)])[0][0].tolist())
print("exact   ", [1.0, float(f"{math.exp(-87.25):.8g}")], "over the smallest normal number, 1.1754944e-38")
