"""timm, cross_entropy, one masked: a masked class makes the loss of another class NaN, without smoothing."""

import math
from importlib.util import find_spec
from runpy import run_path

import torch

path = find_spec("timm").submodule_search_locations[0] + "/loss/cross_entropy.py"
z, losses = torch.tensor([[1.0, -torch.inf, 0.5]]), run_path(path)
print("computed", float(losses["LabelSmoothingCrossEntropy"](smoothing=0.0)(z, torch.tensor([0]))))
print("computed", float(losses["SoftTargetCrossEntropy"]()(z, torch.tensor([[1.0, 0.0, 0.0]]))))
print("exact   ", math.log1p(math.exp(-0.5)))
