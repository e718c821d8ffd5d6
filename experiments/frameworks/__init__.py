"""What do the frameworks really do? The stored audit, and the small demonstrations of chapter 4.

``python -m experiments.frameworks`` audits every adapter (some minutes; torch.compile takes most of them) and
writes ``results/audit.csv``, one adapter after the other. What is already there is kept, so that a run can be
stopped and taken up again (``--fresh`` starts anew). A framework that is not installed is named, with the
extra that installs it, and left out.
"""

from __future__ import annotations

from .advice import (
    Digits,
    Trained,
    WeightedOptimum,
    free_logits,
    half_precision,
    smoothing_runs,
    weighted_optimum,
)
from .modes import (
    LockRelease,
    lock_release,
    tensorflow_modes,
    tensorflow_nan_row,
    torch_modes,
    turns_beside,
)
from .stored_audit import (
    AUDIT,
    GRADIENTS,
    absent,
    available,
    failing,
    read_audit,
    run_audit,
    shared,
    write_audit,
)
from .undefined import answers, nothing_left

__all__ = [
    "AUDIT",
    "GRADIENTS",
    "Digits",
    "LockRelease",
    "Trained",
    "WeightedOptimum",
    "absent",
    "answers",
    "available",
    "failing",
    "free_logits",
    "half_precision",
    "lock_release",
    "nothing_left",
    "read_audit",
    "run_audit",
    "shared",
    "smoothing_runs",
    "tensorflow_modes",
    "tensorflow_nan_row",
    "torch_modes",
    "turns_beside",
    "weighted_optimum",
    "write_audit",
]
