"""executorch, log_softmax, confident: log p of a sure class is 0, and so is the loss of its row."""

import math

import torch
from executorch.exir import to_edge_transform_and_lower
from executorch.runtime import Runtime

z = torch.tensor([[25.0, 0.0]])
exported = torch.export.export(torch.nn.LogSoftmax(dim=-1), (z,))
program = Runtime.get().load_program(to_edge_transform_and_lower(exported).to_executorch().buffer)
print("computed", program.load_method("forward").execute([z])[0][0].tolist())
print("exact   ", [-math.log1p(math.exp(-25)), -25 - math.log1p(math.exp(-25))])
