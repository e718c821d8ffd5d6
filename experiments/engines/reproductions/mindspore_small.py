"""mindspore, softmax, subnormal: the smallest probabilities of the type are 0, normal numbers among them."""

import math

import mindspore

mindspore.set_device("CPU")
z = mindspore.Tensor([[0, -87]], mindspore.float32)
print("computed", mindspore.ops.softmax(z).asnumpy()[0].tolist())
print("exact   ", [1.0, float(f"{math.exp(-87):.8g}")], "over the smallest normal number, 1.1754944e-38")
