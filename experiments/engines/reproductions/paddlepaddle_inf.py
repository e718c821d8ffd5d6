"""paddlepaddle, softmax, +inf: of eight classes one overflowed, and all have the same probability."""

import math

import paddle

paddle.device.set_device("cpu")
for k in (7, 8):
    z = paddle.to_tensor([[math.inf, *range(1, k)]], dtype="float32")
    print("computed", *paddle.nn.functional.softmax(z)[0].tolist(), f"of {k} classes")
print("exact   ", *8 * ["nan"], "of 8 classes")
