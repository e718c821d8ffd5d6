"""liger-kernel, cross_entropy_grad, confident: at a sure label it is 0, and at the other class it is not."""

import math
import os

os.environ["TRITON_INTERPRET"] = "1"  # no GPU
import torch
from liger_kernel.transformers.functional import liger_cross_entropy

z = torch.tensor([[25.0, 0.0]], requires_grad=True)
liger_cross_entropy(z, torch.tensor([0])).backward()
p = 1 / (1 + math.exp(25))
print("computed", z.grad[0].tolist())
print("exact   ", [-p, p])
