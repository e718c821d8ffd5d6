r"""Registered operators, and the autograd of eager mode.

Four ways lead through here. No one mechanism of torch gives every kind of derivative.

- **A plain loss on the CPU** that nobody else is to hear of, which is most training: an ``autograd.Function``
  beside the loop itself, and no operator (``at_once`` in :mod:`.eager`). The dispatcher of registered
  operators costs more than the loss of a small batch.
- **Eager mode**: an ``autograd.Function`` around the operator (:mod:`.eager`). The function knows when the
  gradient of the forward pass is its own to give away, and when the logits' memory may be written over.
- **The compiler**: the operator itself, with its registered derivative (:mod:`.derivatives`).
- **functorch, forward mode and third derivatives**: the formula in plain torch, and no operator at all.

In float32 and float64 the loss's operator returns (loss, gradient). Autograd knows of the gradient as an
output. What flows back through that output is a Hessian-vector product: this is the whole of double backward.

In half precision a gradient must not be rounded before its last factor is known. With a mean's 1 / N in it
and without the loss scale, most of it would be 0. There the forward pass keeps a few numbers a row, and the
backward pass makes the gradient from them and the logits (``cross_entropy_forward`` and
``cross_entropy_backward``). The same two operators write the gradient over the logits, in any type.

CPU tensors run the loops of the NumPy package on shared memory. Tensors on a GPU run the kernels of
:mod:`softmax_lab.torch.triton`, where Triton is installed and the type is not float64. All other tensors take
the closed form in plain torch.

The log of the mean loss has no operator. In eager mode it has the loops (:mod:`.log_eager`) and the kernels
(:mod:`.log_on_gpu`); everything else takes the formula in plain torch.
"""
