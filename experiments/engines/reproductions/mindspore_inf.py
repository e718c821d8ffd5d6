"""mindspore, softmax, +inf: only the overflowed logit becomes NaN, and every other class gets 0."""

import math

import mindspore

mindspore.set_device("CPU")
z = mindspore.Tensor([[1, math.inf, 2, 0]], mindspore.float32)
print("computed", *mindspore.ops.softmax(z).asnumpy()[0])
print("exact   ", *4 * ["nan"])
