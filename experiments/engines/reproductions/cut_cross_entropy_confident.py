"""cut-cross-entropy, cross_entropy_grad, confident: at a sure label it is 0, at the other class not."""

import math

import torch
from cut_cross_entropy import linear_cross_entropy

one, z = torch.ones((1, 1)), torch.tensor([[25.0], [0.0]], requires_grad=True)
linear_cross_entropy(one, z, torch.tensor([0]), impl="torch_compile").backward()
p = 1 / (1 + math.exp(25))
print("computed", z.grad[:, 0].tolist())
print("exact   ", [-p, p])
