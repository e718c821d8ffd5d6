"""mindspore, softmax, all masked: rows after it are left as they were in memory."""

import math

import mindspore

mindspore.set_device("CPU")
mindspore.ops.softmax(mindspore.Tensor([[0.0, 0.0]] * 3)).asnumpy()
z = [[2.0, 0.0], [-math.inf, -math.inf], [2.0, 0.0]]
p = mindspore.ops.softmax(mindspore.Tensor(z)).asnumpy().tolist()
print("computed", [[round(x, 4) for x in row] for row in p])
p = [round(1 / (1 + math.exp(-2)), 4), round(1 / (1 + math.exp(2)), 4)]
print("exact   ", [p, [math.nan, math.nan], p])
