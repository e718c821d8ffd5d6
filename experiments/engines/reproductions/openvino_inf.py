"""openvino, softmax, +inf: only the overflowed logit becomes NaN, and every other class gets 0."""

import numpy as np
import openvino as ov
from openvino import opset13

z = opset13.parameter([1, 4], np.float32)
run = ov.Core().compile_model(ov.Model([opset13.softmax(z, 1)], [z]), "CPU")
print("computed", *run([np.array([[1, np.inf, 2, 0]], np.float32)])[0][0])
print("exact   ", *4 * ["nan"])
