"""Does a softmax over 50,001 classes train alike on one process and on two? (a page of chapter 10)

And what would ten million classes cost? A table of embeddings and a softmax layer learn a text. On one
process that is ``slt.linear_cross_entropy``; on two, each holds half of the layer's rows and
``slt.parallel.linear_cross_entropy`` does the same.

``python -m experiments.large_vocabulary`` trains on one and on two processes, in float32 and for fewer steps
in float64. It measures what the cost formula needs: all-reduces of many sizes, the speed of one core, and
whole steps at several sizes to hold the formula against. It writes
``experiments/results/large_vocabulary*.csv`` and takes some minutes on two cores.
"""

from __future__ import annotations

from .corpus import floor, text, zipf
from .cost import Problem, Rates, replicated_gradient_seconds, step_seconds, worker_bytes
from .network import Network, Reduced, fit_network, time_all_reduce
from .rates import Step, measure_rates, time_steps
from .stored import ALL_REDUCE, RATES, STEPS, TRAINING, read, write
from .training import Record, Setting, largest_difference, run, train

__all__ = [
    "ALL_REDUCE",
    "RATES",
    "STEPS",
    "TRAINING",
    "Network",
    "Problem",
    "Rates",
    "Record",
    "Reduced",
    "Setting",
    "Step",
    "fit_network",
    "floor",
    "largest_difference",
    "measure_rates",
    "read",
    "replicated_gradient_seconds",
    "run",
    "step_seconds",
    "text",
    "time_all_reduce",
    "time_steps",
    "train",
    "worker_bytes",
    "write",
    "zipf",
]
