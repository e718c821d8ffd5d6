"""How hard does each class push? Norms of the gradients of CIFAR's classes, cut to a long tail (chapter 7).

``python -m experiments.class_norms --dataset cifar100 --data PATH`` trains the MLP of
`experiments.long_tail` on fixed features with plain cross-entropy, and measures every class at the start and
along training. Rows go to ``results/class_norms.csv``; what is stored is not run again.
"""

from __future__ import annotations

from .command import main
from .measuring import DATASETS, SEEDS, STEPS, classes_of, run
from .report import NORMS, over_rho, picture, ratios, table, trends
from .rows import COLUMNS, RESULTS, frame, run_all

__all__ = [
    "COLUMNS",
    "DATASETS",
    "NORMS",
    "RESULTS",
    "SEEDS",
    "STEPS",
    "classes_of",
    "frame",
    "main",
    "over_rho",
    "picture",
    "ratios",
    "run",
    "run_all",
    "table",
    "trends",
]
