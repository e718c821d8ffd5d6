"""Liger-Kernel: its Triton kernels by Triton's interpreter, which needs no GPU and computes with NumPy."""

from answering import options, serve
from classes import indexed
from liger_kernel.transformers.functional import liger_cross_entropy, liger_softmax
from tensors import array, tensor

options()


def few(z):
    """Return rows as a tensor: the interpreter runs a kernel of Python a row."""
    if len(z) > 1000:
        raise NotImplementedError("so many rows in Triton's interpreter")
    return tensor(z)


def softmax(z, axis):
    if z.shape[1] > 65536:
        raise NotImplementedError("the softmax refuses a row longer than a block of Triton's")
    return array(liger_softmax(few(z)))


def cross_entropy(z, y):
    return array(liger_cross_entropy(few(z), tensor(indexed(y)), reduction="none"))


def cross_entropy_grad(z, y):
    given = few(z).requires_grad_()
    # the backward pass of the kernel takes one upstream gradient for all rows: that of a sum
    liger_cross_entropy(given, tensor(indexed(y)), reduction="sum").backward()
    return array(given.grad)


serve(
    "liger-kernel",
    {"softmax": softmax},
    {"cross_entropy": cross_entropy, "cross_entropy_grad": cross_entropy_grad},
)
