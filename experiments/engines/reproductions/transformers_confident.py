"""transformers, cross_entropy_grad, confident: at a sure label it is 0, and at the other class it is not."""

import math

import torch
from transformers.loss.loss_utils import ForCausalLMLoss

z = torch.tensor([[25.0, 0.0]], requires_grad=True)
ForCausalLMLoss(z, None, vocab_size=2, shift_labels=torch.tensor([0])).backward()
p = 1 / (1 + math.exp(25))
print("computed", z.grad[0].tolist())
print("exact   ", [-p, p])
