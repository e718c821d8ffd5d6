"""timm, cross_entropy_grad, confident: at a sure label it is 0, and at the other class it is not."""

import math
from importlib.util import find_spec
from runpy import run_path

import torch

path = find_spec("timm").submodule_search_locations[0] + "/loss/cross_entropy.py"
z = torch.tensor([[25.0, 0.0]], requires_grad=True)
run_path(path)["LabelSmoothingCrossEntropy"](smoothing=0.0)(z, torch.tensor([0])).backward()
p = 1 / (1 + math.exp(25))
print("computed", z.grad[0].tolist())
print("exact   ", [-p, p])
