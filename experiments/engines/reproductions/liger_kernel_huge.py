"""liger-kernel, cross_entropy, far apart: of two equal huge logits the loss is 0."""

import math
import os

os.environ["TRITON_INTERPRET"] = "1"  # no GPU
import torch
from liger_kernel.transformers.functional import liger_cross_entropy

print("computed", float(liger_cross_entropy(torch.full((1, 2), 1e30), torch.tensor([0]))))
print("exact   ", math.log(2))
