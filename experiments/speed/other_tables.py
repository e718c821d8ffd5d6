"""The tables of the other benchmarks: the family, torch's autograd, half precision and linear layers."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from experiments.benchmarks import family, half_cpu, linear_cpu, torch_cpu
from experiments.sentences import listed

from .stored import OURS, shape_words

__all__ = [
    "autograd",
    "family_costs",
    "family_scatter",
    "half_precision",
    "linear_layers",
    "product_gains",
    "steps_in_words",
]


def family_costs(path: Path = family.RESULTS) -> pd.DataFrame:
    """Return the time of each member over the plain loss of the same run, float32, a column a shape.

    Of several runs the last counts.
    """
    table = _family_rows(path)
    ratios = table.pivot(index="task", columns=["n", "k"], values="ratio")
    wanted = list(dict.fromkeys(zip(table["n"], table["k"], strict=True)))
    ratios = ratios.loc[list(dict.fromkeys(table["task"])), wanted]
    ratios.columns = [shape_words(shape) for shape in wanted]
    return ratios.rename_axis(index="field")


def _family_rows(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path)
    return table[(table["peer"] == "plain loss") & (table["dtype"] == "float32")].drop_duplicates(
        ["task", "n", "k"], keep="last"
    )


def family_scatter(path: Path = family.RESULTS) -> pd.Series:
    """Return the longest over the shortest time of the plain loss, a row a shape.

    The plain loss is measured anew beside every member.

    A distribution as target has arrays of its own, so the plain loss beside it is left out.
    """
    table = _family_rows(path)
    of_shape = table[table["task"] != "distribution as target"].groupby(["n", "k"], sort=False)["peer_ms"]
    found = of_shape.max() / of_shape.min()
    return found.set_axis([shape_words(shape) for shape in found.index])


def product_gains(path: Path = family.RESULTS) -> pd.DataFrame:
    """Return how many times as long as the package torch takes for the same product, a column a shape.

    Of several runs the last counts.
    """
    table = pd.read_csv(path)
    table = table[table["peer"].str.startswith("torch") & (table["dtype"] == "float32")].drop_duplicates(
        ["task", "n", "k"], keep="last"
    )
    gains = (1 / table.set_index(["task", "n", "k"])["ratio"]).unstack(["n", "k"])
    gains.columns = [shape_words(shape) for shape in gains.columns]
    return gains.rename_axis(index="product")


def autograd(path: Path = torch_cpu.RESULTS) -> pd.DataFrame:
    """Return times through torch's autograd, a row a task, type and shape.

    The ratios to both peers and the memory stand beside them.

    Memory is in gradient buffers: what a call takes at its highest, over the size of the logits.
    """
    table = pd.read_csv(path).drop_duplicates(["task", "dtype", "n", "k", "provider"], keep="last")
    wide = table.pivot(index=["task", "dtype", "n", "k"], columns="provider", values=["ms", "buffers"])
    order = list(dict.fromkeys(table[["task", "dtype", "n", "k"]].itertuples(index=False, name=None)))
    order.sort(key=lambda place: str(place[0]))  # a task stays together, whenever its rows were measured
    ms, buffers = wide["ms"].loc[order], wide["buffers"].loc[order]
    ratios = {f"{peer} / softmax_lab": ms[peer] / ms[OURS] for peer in ("torch", "torch.compile")}
    return pd.DataFrame(
        {"ms": ms[OURS], **ratios, "buffers": buffers[OURS], "buffers of torch": buffers["torch"]}
    )


def steps_in_words(peer: str = "torch", path: Path = torch_cpu.RESULTS) -> str:
    """Say by how much a whole training step is longer or shorter than with the peer's loss.

    Where the middle three fifths of the two times overlap they are level.
    """
    table = pd.read_csv(path).query("task == 'step'")
    table = table.drop_duplicates(["k", "provider"], keep="last").set_index(["k", "provider"])
    said = []
    for k in dict.fromkeys(table.index.get_level_values("k")):
        own, other = table.loc[(k, OURS)], table.loc[(k, peer)]
        apart = own["ms_20"] > other["ms_80"] or own["ms_80"] < other["ms_20"]
        far = own["ms"] - other["ms"]
        how = f"{abs(far):.2f} ms {'longer' if far > 0 else 'shorter'}" if apart else "level"
        said.append(f"{how} at {k:,} classes")
    return listed(said)


def half_precision(path: Path = half_cpu.RESULTS) -> pd.DataFrame:
    """Return the loss in half precision, a row a type, shape and loss scale.

    The columns are the time, ratios to it, and the share of zero gradients.

    "one pass" is the gradient that is written in the forward pass and multiplied by the scale afterwards.
    """
    index = ["dtype", "n", "k", "scale"]
    table = pd.read_csv(path).drop_duplicates([*index, "provider"], keep="last")
    wide = table.pivot(index=index, columns="provider", values=["ms", "zeros"])
    order = list(dict.fromkeys(table[index].itertuples(index=False, name=None)))
    ms, zeros = wide["ms"].loc[order], wide["zeros"].loc[order]
    ratios = {f"{peer} / softmax_lab": ms[peer] / ms[OURS] for peer in ("one pass", "torch")}
    return pd.DataFrame(
        {
            "ms": ms[OURS],
            **ratios,
            "zeros": zeros[OURS],
            "zeros in one pass": zeros["one pass"],
            "zeros of torch": zeros["torch"],
        }
    )


def linear_layers(path: Path = linear_cpu.RESULTS) -> pd.DataFrame:
    """Return time and memory of a linear layer's loss: medians of the stored rounds.

    Time is also a multiple of the bare products' time.
    """
    table = pd.read_csv(path)
    grouped = table.groupby(["dtype", "n", "d", "v", "provider"], sort=False)[
        ["seconds", "ratio", "peak_mb"]
    ].median()
    return grouped.rename(columns={"ratio": "over the products", "peak_mb": "peak (MB)"})
