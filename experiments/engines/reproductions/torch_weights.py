"""torch, cross_entropy_grad, labels: with smoothing, class weights move the loss's least elsewhere."""

import torch

smoothed = torch.tensor([0.8125, 0.0625, 0.0625, 0.0625], dtype=torch.float64)  # of label 0, by 0.25
z, weight = smoothed.log()[None].requires_grad_(), torch.tensor([1, 8, 1, 2], dtype=torch.float64)
torch.nn.functional.cross_entropy(z, torch.tensor([0]), weight, label_smoothing=0.25).backward()
print("computed", *[f"{x:.4g}" for x in z.grad[0].tolist()])
print("exact   ", *4 * ["0"], "where the softmax is the smoothed target")
