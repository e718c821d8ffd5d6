"""Beyond one task: margins, attacks, scores and ordinary training, without the lost gradient (chapter 11).

The losses are those of ``experiments.modular_addition``. The data are scikit-learn's wine and digits, so
nothing is downloaded.

``python -m experiments.lost_gradient`` runs everything in some minutes on one thread. Every finished job is
added to a table in ``experiments/results/``, and a run that was stopped goes on where it was. ``report`` has
tables and sentences, ``pictures`` the figures.
"""

from __future__ import annotations

from .command import PARTS, main
from .store import Table, run_all

__all__ = ["PARTS", "Table", "main", "run_all"]
