"""Where the lost gradient matters: a + b modulo p, learned with each loss (chapter 11).

A network without biases learns the sum of two numbers modulo a prime from part of all pairs, in full batches.
Its training rows are soon fit, and whether it then generalises depends on the small gradients of confident
rows (Prieto et al. 2025, "Grokking at the edge of numerical stability", arXiv 2501.04697).

``python -m experiments.modular_addition`` trains every loss: three learning rates on seeds of their own,
then the best of them on five others. The seeds and the rates of a loss are trained at once as a batch of
models; on a GPU the steps are captured in CUDA graphs. Every finished job is added to
``experiments/results/modular_addition.csv``, and a run that was stopped goes on where it was. ``report`` has
tables and pictures.
"""

from __future__ import annotations

from .command import main
from .losses import LOSSES, Method
from .protocols import PROTOCOLS, Protocol
from .rows import COLUMNS, RESULTS, append, finished, read
from .running import Job, jobs, run_all
from .training import Found, train

__all__ = [
    "COLUMNS",
    "LOSSES",
    "PROTOCOLS",
    "RESULTS",
    "Found",
    "Job",
    "Method",
    "Protocol",
    "append",
    "finished",
    "jobs",
    "main",
    "read",
    "run_all",
    "train",
]
