"""cut-cross-entropy in its form for torch.compile, which runs on a CPU: the classifier is a row of logits.

The embedding is 1, so the product of both is the row itself.
"""

import torch
from answering import options, serve
from classes import indexed
from cut_cross_entropy import linear_cross_entropy
from tensors import row_by_row

options()
# a model has one width and type, the audit has dozens: each is compiled, and none refused
torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = 10_000


def loss(z, y):
    one = torch.ones((1, 1), dtype=z.dtype)
    return linear_cross_entropy(one, z.T, y, impl="torch_compile", reduction="mean")


LOSSES = row_by_row(loss)
serve(
    "cut-cross-entropy",
    {},
    {function: lambda z, y, call=call: call(z, indexed(y)) for function, call in LOSSES.items()},
    dtypes=("float16", "bfloat16", "float32"),
)
