"""Is it right on every argument there is? (chapter 10, "How the loops are made")

Where the arguments can be counted they are all tried, on the compiled loops: the exponential
(``exponential``), and softmax, log-softmax, loss and gradient of two classes (``pairs``).

The right answers are computed apart from the kernels, in float64 by the C library's exp and log1p. They
decide the rounding, but where they come within 2^-50 of the middle between two neighbours. There mpmath
decides.

``python -m experiments.exhaustive`` takes some minutes and writes ``results/exhaustive.csv``. What is done of
it is kept beside it, so that a run that was stopped goes on. ``--trial N`` tries N pieces of each part and
says how long all would take.
"""

from __future__ import annotations

from .running import CHECKS, PARTS, RESULTS, read, run, summary, trial
from .tally import Check, Tally

__all__ = ["CHECKS", "PARTS", "RESULTS", "Check", "Tally", "read", "run", "summary", "trial"]
