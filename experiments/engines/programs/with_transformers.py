"""transformers: the loss of its causal language models, which it computes in float32."""

from answering import options, serve
from classes import indexed
from tensors import array, row_by_row, tensor
from transformers.loss.loss_utils import ForCausalLMLoss

options()


def loss(z, y, **keywords):
    return ForCausalLMLoss(z, None, vocab_size=z.shape[1], shift_labels=y, **keywords)


def cross_entropy(z, y):
    return row_by_row(loss)["cross_entropy"](z, indexed(y))


def cross_entropy_grad(z, y):
    """Return the gradient of the sum over all rows: the loss is divided by the number of items."""
    logits = tensor(z).requires_grad_()
    loss(logits, tensor(indexed(y)), num_items_in_batch=1).backward()
    return array(logits.grad)


serve(
    "transformers",
    {},
    {"cross_entropy": cross_entropy, "cross_entropy_grad": cross_entropy_grad},
    dtypes=("float16", "bfloat16", "float32"),
)
