"""paddlepaddle, log_softmax, confident: log p of a sure class is 0, and so is the loss of its row."""

import math

import paddle

paddle.device.set_device("cpu")
z = paddle.to_tensor([[25.0, 0.0]])
print("computed", paddle.nn.functional.log_softmax(z)[0].tolist())
print("exact   ", [-math.log1p(math.exp(-25)), -25 - math.log1p(math.exp(-25))])
