"""mindspore, log_softmax, confident: log p of a sure class is 0, and so is the loss of its row."""

import math

import mindspore

mindspore.set_device("CPU")
z = mindspore.Tensor([[25, 0]], mindspore.float32)
print("computed", mindspore.ops.log_softmax(z).asnumpy()[0].tolist())
print("exact   ", [-math.log1p(math.exp(-25)), -25 - math.log1p(math.exp(-25))])
