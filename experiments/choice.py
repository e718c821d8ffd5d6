"""What each choice of a loss costs, from the stored measurements: the figures of the book's page on choosing.

A cost is a multiple: the package's time, or memory, over that of what it takes the place of. Below 1 is less.
"""

from __future__ import annotations

import pandas as pd

from experiments import two_lines
from experiments.benchmarks import balance_cpu
from experiments.speed import autograd, family_costs, gpu, linear_layers, on_jax

__all__ = ["costs", "span"]

#: a field of the family by the name under which the page shows its cost
FIELDS = {"bias": "bias", "smoothing": "smoothing", "focal": "focal", "weight": "class weight"}


def costs(*, many: int = 1000) -> dict[str, str]:
    """Return the cost of each choice in words, by the name under which the page shows it.

    From ``many`` classes on their number counts as large.
    """
    return {**_through_torch(many), **_on_a_card(), **_of_linear_layers(), **_of_fields(), **_of_others()}


def span(values: pd.Series) -> str:
    """Return the smallest and the largest of some multiples, in two digits; one where they look alike.

    Examples
    --------
    >>> span(pd.Series([1.449, 0.171, 9.0])), span(pd.Series([1.101, 1.099]))
    ('0.17 to 9', '1.1')
    """
    low, high = f"{values.min():.2g}", f"{values.max():.2g}"
    return low if low == high else f"{low} to {high}"


def _through_torch(many: int) -> dict[str, str]:
    """Return what value and gradient through autograd, and a training step, take of torch's time."""
    found = autograd().sort_index()
    time, memory = 1 / found["torch / softmax_lab"], found["buffers"] / found["buffers of torch"]
    single, half = time.xs(("loss", "float32")), time.loc["loss"].drop("float32")
    is_many = single.index.get_level_values("k") >= many
    return {
        "few": span(single[~is_many]),
        "many": span(single[is_many]),
        "memory": span(memory.xs(("loss", "float32"))),
        "half": span(half),
        "step": span(time.loc["step"]),
    }


def _on_a_card() -> dict[str, str]:
    """Return the same for the kernels of a GPU, over torch's, and for batches of a few hundred rows."""
    table = gpu.read()
    found = {}
    for name in ("float32", "bfloat16"):
        share = gpu.shares(table, "cross_entropy", name).loc[gpu.LEAST : gpu.MOST]
        found[f"card-{name}"] = span((share["torch"] / share["softmax_lab"]).dropna())
    small = gpu.batches(table)
    return {
        **found,
        "card-small": span(small["softmax_lab"] / small["torch"]),
        "card": gpu.circumstances(table),
    }


def _of_linear_layers() -> dict[str, str]:
    """Return time and memory of the loss whose logits are never whole, over a loss whose logits are."""
    layers = linear_layers().xs("float32")
    ours, whole = (layers.xs(name, level="provider") for name in ("softmax_lab", "torch materialised"))
    cards = gpu.linear(gpu.read())
    own, compiled = (cards.xs(name, level="provider") for name in ("softmax_lab", "torch.compile"))
    return {
        "linear": span(ours["seconds"] / whole["seconds"]),
        "linear-memory": span(ours["peak (MB)"] / whole["peak (MB)"]),
        "linear-card": span(own["ms"] / compiled["ms"]),
        "linear-card-memory": span(own["peak_mb"] / compiled["peak_mb"]),
    }


def _of_fields() -> dict[str, str]:
    """Return what fields of the family cost over the plain loss of this package, on a processor."""
    fields = family_costs()
    table = pd.read_csv(balance_cpu.RESULTS).query("task == 'loss' and case == 'counts given'")
    balanced = table.drop_duplicates(["n", "k"], keep="last")["ratio"]
    return {name: span(fields.loc[field]) for name, field in FIELDS.items()} | {"balanced": span(balanced)}


def _of_others() -> dict[str, str]:
    """Return what the loss on JAX arrays costs over optax's, and the two lines over torch's."""
    jax = on_jax().loc["loss and gradient"]
    return {
        "jax": span(1 / jax["optax / softmax_lab.jax"]),
        "lines": span(two_lines.cost()["two lines"]["time"]),
    }
