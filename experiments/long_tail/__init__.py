"""Which loss for a long tail? The grid of chapter 9: run, stopped at any point, taken up again, summed up.

``python -m experiments.long_tail whole --dataset digits --protocol mlp`` trains every loss with six settings:
on splits of the training rows, by which one setting is chosen, and then, on seeds of their own, for the test
rows. ``tune`` is the first half, ``final`` the chosen setting alone, ``default`` the one that is named in
advance. ``noise``, ``absent``, ``permuted``,
``ablation`` and ``gate`` are further studies. CIFAR needs ``--data PATH``. Runs go to the cores of this
machine, or with ``--scheduler ADDRESS`` to a Dask cluster whose workers can import ``experiments`` and read
PATH.

Every finished run is a row of ``results/long_tail.csv``. ``report`` has the tables and pictures of these
rows.
"""

from __future__ import annotations

from .command import main
from .config import DATASETS, OLD_RULE, PROTOCOLS, RULE, Config, Protocol
from .features import coates_ng_features
from .grid import CORE, DEFAULTS, FINAL_SEEDS, GRIDS, STUDIES, TUNING_SEEDS, chosen
from .losses import LOSSES, make_loss
from .networks import make_network
from .problem import Problem, load, make_problem, prepare
from .rows import COLUMNS, RESULTS, append, finished, read
from .running import run_all
from .side_by_side import run_together, stacks
from .sums import frame, paired, regret, summary
from .training import measure, run, train

__all__ = [
    "COLUMNS",
    "CORE",
    "DATASETS",
    "DEFAULTS",
    "FINAL_SEEDS",
    "GRIDS",
    "LOSSES",
    "OLD_RULE",
    "PROTOCOLS",
    "RESULTS",
    "RULE",
    "STUDIES",
    "TUNING_SEEDS",
    "Config",
    "Problem",
    "Protocol",
    "append",
    "chosen",
    "coates_ng_features",
    "finished",
    "frame",
    "load",
    "main",
    "make_loss",
    "make_network",
    "make_problem",
    "measure",
    "paired",
    "prepare",
    "read",
    "regret",
    "run",
    "run_all",
    "run_together",
    "stacks",
    "summary",
    "train",
]
