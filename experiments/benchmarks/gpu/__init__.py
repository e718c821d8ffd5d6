"""All checks and benchmarks of the GPU kernels, in one run: ``python -m experiments.benchmarks.gpu``.

It runs from the checkout. First come the checks (the family against float64, the audit, CUDA graphs, other
streams, other devices, empty batches, a row alone and in a batch), then the times. Each of three kernels,
softmax, log-softmax and cross-entropy with its gradient through autograd, runs beside every peer that can be
imported, on the same tensors. It also runs beside an out-of-place copy of them: each byte read once and
written once, the floor. The linear layer's loss runs with the peak of its memory. A time is the median of
repetitions between which the cache is flushed.

The rows of a job go to ``experiments/results/gpu.csv`` together, and a picture beside it. A run that was
stopped goes on where it was, and ``--again`` starts afresh. ``--device cpu`` rehearses all of it on small
tensors (with ``TRITON_INTERPRET=1`` that takes the kernels too), and stores nothing.
"""
