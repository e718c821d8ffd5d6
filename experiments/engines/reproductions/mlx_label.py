"""mlx, cross_entropy, labels: the label -1 is the last class, and K is whatever lies behind it."""

import mlx.core as mx
import mlx.nn as nn

mx.set_default_device(mx.cpu)
z = mx.array([[0.0, 1.0, 2.0], [5.0, 7.0, 9.0]])
for y in (-1, 3):
    loss = nn.losses.cross_entropy(z, mx.array([y, 0]), reduction="none")
    print("computed", loss.tolist()[0], "for the label", y)
print("exact   ", "there is no such class: an error, or NaN")
