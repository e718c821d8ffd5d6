"""mindspore, softmax, NaN: one NaN stays where it is, and every other class gets 0 instead of NaN."""

import math

import mindspore

mindspore.set_device("CPU")
z = mindspore.Tensor([[1, math.nan, 2, 0]], mindspore.float32)
print("computed", *mindspore.ops.softmax(z).asnumpy()[0])
print("exact   ", *4 * ["nan"])
