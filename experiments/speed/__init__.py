"""How fast, and how accurate at that speed? (chapter 10)

``python -m experiments.benchmarks.cpu`` measures and appends to ``results/cpu.csv``. Here that file is read,
compared, put into words and drawn: nothing that the chapter says of it is typed. ``gpu`` does the same for
the results of the GPU, and ``loops`` reads the loops' own source, each for a page of the chapter.
"""

from __future__ import annotations

from .comparisons import bandwidth, brief, comparison, margins, short_rows, shown, standing, verdict
from .loops import CONSTANTS, LISTINGS, constant, listing, polynomial_error, reduction
from .on_demand import cost, store_traffic, store_words
from .on_jax import ON_JAX, on_jax, on_jax_words
from .other_tables import (
    autograd,
    family_costs,
    family_scatter,
    half_precision,
    linear_layers,
    product_gains,
    steps_in_words,
)
from .pictures import LOOK, accuracy_picture, bandwidth_picture, classes_picture, cost_picture
from .roundings import rounding_curve, rounding_picture
from .stored import FLOOR, KEY, OURS, PEERS, PLACE, TASKS, circumstances, copy_scatter, origin, read, spread
from .targets import AIMS, aims
from .threads import scaling, scaling_picture, scaling_words, sweeps, thread_table

__all__ = [
    "AIMS",
    "CONSTANTS",
    "FLOOR",
    "KEY",
    "LISTINGS",
    "LOOK",
    "ON_JAX",
    "OURS",
    "PEERS",
    "PLACE",
    "TASKS",
    "accuracy_picture",
    "aims",
    "autograd",
    "bandwidth",
    "bandwidth_picture",
    "brief",
    "circumstances",
    "classes_picture",
    "comparison",
    "constant",
    "copy_scatter",
    "cost",
    "cost_picture",
    "family_costs",
    "family_scatter",
    "half_precision",
    "linear_layers",
    "listing",
    "margins",
    "on_jax",
    "on_jax_words",
    "origin",
    "polynomial_error",
    "product_gains",
    "read",
    "reduction",
    "rounding_curve",
    "rounding_picture",
    "scaling",
    "scaling_picture",
    "scaling_words",
    "short_rows",
    "shown",
    "spread",
    "standing",
    "steps_in_words",
    "store_traffic",
    "store_words",
    "sweeps",
    "thread_table",
    "verdict",
]
