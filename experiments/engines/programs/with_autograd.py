"""autograd: the log-softmax of its own examples, by the log-sum-exp that it brings, and its derivative.

It has neither a softmax nor a loss of labels. So none is offered, and a label out of range is refused here.
"""

import autograd.numpy as np
from answering import options, serve
from autograd import elementwise_grad
from autograd.scipy.special import logsumexp


def log_softmax(z, axis=-1):
    return z - logsumexp(z, axis=axis, keepdims=True)


def cross_entropy(z, y):
    if y.ndim == 2:
        return -np.sum(y * log_softmax(z), axis=1)
    if ((y < 0) | (y >= z.shape[1])).any():
        raise IndexError("a label is out of range")
    return -log_softmax(z)[np.arange(len(z)), y]


def cross_entropy_grad(z, y):
    return elementwise_grad(cross_entropy)(z, y)


serve(
    "autograd",
    {"log_softmax": log_softmax},
    {"cross_entropy": cross_entropy, "cross_entropy_grad": cross_entropy_grad},
    dtypes=("float32", "float64"),
    axis=options().axis,
)
