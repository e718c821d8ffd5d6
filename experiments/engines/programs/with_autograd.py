"""autograd: log-sum-exp as it brings it, and the derivative that it takes of it."""

import autograd.numpy as np
from answering import options, serve
from autograd import elementwise_grad
from autograd.scipy.special import logsumexp


def log_softmax(z, axis=-1):
    return z - logsumexp(z, axis=axis, keepdims=True)


def cross_entropy(z, y):
    if y.ndim == 2:
        return -np.sum(y * log_softmax(z), axis=1)
    return -log_softmax(z)[np.arange(len(z)), y]


def cross_entropy_grad(z, y):
    return elementwise_grad(cross_entropy)(z, y)


serve(
    "autograd",
    {"softmax": lambda z, axis: np.exp(log_softmax(z, axis)), "log_softmax": log_softmax},
    {"cross_entropy": cross_entropy, "cross_entropy_grad": cross_entropy_grad},
    dtypes=("float32", "float64"),
    axis=options().axis,
)
