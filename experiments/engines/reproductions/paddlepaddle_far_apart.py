"""paddlepaddle, softmax, far apart: no probability is under 1.6e-28 of the largest, in float64 too."""

import math

import paddle

paddle.device.set_device("cpu")
for dtype in ("float32", "float64"):
    z = paddle.to_tensor([[0.0, -200.0]], dtype=dtype)
    print("computed", *paddle.nn.functional.softmax(z)[0].tolist(), f"in {dtype}")
print("exact   ", 1 / (1 + math.exp(-200)), 1 / (1 + math.exp(200)), "and in float32 1.0 0.0")
