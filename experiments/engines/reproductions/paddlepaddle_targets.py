"""paddlepaddle, cross_entropy_grad, labels: of targets that sum to 1.5 it is p - s, as if to 1."""

import math

import paddle

paddle.device.set_device("cpu")
z = paddle.to_tensor([[2.0, 0.0]], stop_gradient=False)
s = paddle.to_tensor([[0.5, 1.0]])
paddle.nn.functional.cross_entropy(z, s, soft_label=True, reduction="sum").backward()
print("computed", [round(x, 4) for x in z.grad[0].tolist()])
p = [1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2))]
print("exact   ", [round(1.5 * p[0] - 0.5, 4), round(1.5 * p[1] - 1, 4)])
