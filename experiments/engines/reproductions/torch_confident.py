"""torch, cross_entropy_grad, confident: at a sure label it is 0, and at the other class it is not."""

import math

import torch

z = torch.tensor([[25.0, 0.0]], requires_grad=True)
torch.nn.functional.cross_entropy(z, torch.tensor([0])).backward()
p = 1 / (1 + math.exp(25))
print("computed", z.grad[0].tolist())
print("exact   ", [-p, p])
