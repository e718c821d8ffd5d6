"""paddlepaddle, softmax, one masked: a masked class has the probability 1.6e-28, in float64 too."""

import math

import paddle

paddle.device.set_device("cpu")
for dtype in ("float32", "float64"):
    z = paddle.to_tensor([[0.0, -math.inf]], dtype=dtype)
    print("computed", *paddle.nn.functional.softmax(z)[0].tolist(), f"in {dtype}")
print("exact   ", 1.0, 0.0)
