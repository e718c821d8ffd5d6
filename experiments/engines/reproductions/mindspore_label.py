"""mindspore, cross_entropy, labels: the label -1 is the last class."""

import mindspore
from mindspore import Tensor

mindspore.set_device("CPU")
z, y = Tensor([[0, 1]], mindspore.float32), Tensor([-1], mindspore.int32)
print("computed", float(mindspore.ops.cross_entropy(z, y, reduction="none")[0]))
print("exact   ", "there is no such class: an error, or NaN")
