"""executorch, softmax, subnormal: XNNPACK's exponential is 29 % off at a gap of 87, above the subnormals."""

import math

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from executorch.runtime import Runtime

z = torch.tensor([[0.0, -87.0]])
exported = torch.export.export(torch.nn.Softmax(dim=-1), (z,))
lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
program = Runtime.get().load_program(lowered.buffer)
print("computed", program.load_method("forward").execute([z])[0][0, 1].item())
print("exact   ", float(f"{math.exp(-87):.8g}"), "over the smallest normal number, 1.1754944e-38")
