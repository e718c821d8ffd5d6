"""The stored results of :mod:`experiments.benchmarks.gpu`, where there are any."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from experiments import tables
from softmax_lab.plotting import COLORS

__all__ = ["COMMAND", "against", "batches", "linear", "picture", "plans", "read", "shares", "standing"]

RESULTS = tables.RESULTS / "gpu.csv"
COMMAND = "python -m experiments.benchmarks.gpu"
KERNELS = ("softmax", "log_softmax", "cross_entropy")
#: colour and marker of each provider
LOOK = {
    "softmax_lab": ("blue", "o"),
    "torch": ("orange", "s"),
    "torch.compile": ("green", "^"),
    "liger_kernel": ("purple", "v"),
    "quack": ("sky", "D"),
}


def read(path: Path = RESULTS) -> pd.DataFrame:
    """Return the stored rows; none where nothing was measured."""
    return (
        pd.read_csv(path)
        if path.is_file()
        else pd.DataFrame(columns=["card", "kernel", "dtype", "k", "provider", "share_of_copy", "note"])
    )


def plans(widths: tuple[int, ...] = (64, 1000, 4096, 16384, 50257, 131072, 1 << 20)) -> pd.DataFrame:
    """Return how rows of so many classes are cut, and the bytes that a logit moves with its gradient.

    In half precision value and gradient are two passes, of which each reads a logit once, whatever the length
    of the row.
    """
    from softmax_lab.torch.triton.plan import plan

    cut = {k: plan(k) for k in widths}
    table = pd.DataFrame(
        {
            "rows a program": {k: how.rows for k, how in cut.items()},
            "classes at once": {k: how.block for k, how in cut.items()},
            "threads": {k: 32 * how.warps for k, how in cut.items()},
            "reads of a logit": {k: 1 if how.whole else 2 for k, how in cut.items()},
        }
    )
    table["bytes, float32"] = 4 * (table["reads of a logit"] + 1)
    table["bytes, bfloat16"] = 2 * (2 + 1)
    return table.rename_axis(index="K")


def standing(table: pd.DataFrame) -> str:
    """Say what is measured."""
    if table.empty:
        return f"No GPU was at hand yet: no time and no result of one is stored. `{COMMAND}` makes them."
    checks = table[table["kernel"].str.startswith("check")]
    failed = checks["note"].str.startswith("FAILED").sum()
    timed = table.dropna(subset=["share_of_copy"]) if "share_of_copy" in table else table
    return (
        f"{', '.join(table['card'].unique())}: {len(checks) - failed} of {len(checks)} checks passed, "
        f"{len(timed)} times stored."
    )


def shares(table: pd.DataFrame, kernel: str, dtype: str) -> pd.DataFrame:
    """Return each provider's share of the bandwidth of a copy, a row a number of classes."""
    rows = table[(table["kernel"] == kernel) & (table["dtype"] == dtype)].dropna(subset=["share_of_copy"])
    rows = rows.drop_duplicates(["card", "k", "provider"], keep="last")
    return rows.pivot_table(index="k", columns="provider", values="share_of_copy", aggfunc="last")


def against(table: pd.DataFrame, least: int = 4096, most: int = 1 << 18) -> pd.DataFrame:
    """Return the package's share of a copy and each peer's time over its own.

    They are smallest to largest over ``least <= K <= most``.
    """
    rows = {}
    for kernel in KERNELS:
        for dtype in ("float32", "bfloat16"):
            share = shares(table, kernel, dtype).loc[least:most]
            peers = [peer for peer in ("torch", "torch.compile") if peer in share]
            ratios = {f"{peer} / softmax_lab": share["softmax_lab"] / share[peer] for peer in peers}
            columns = {"share of a copy": share["softmax_lab"], **ratios}
            rows[kernel, dtype] = {
                name: f"{found.min():.2f} to {found.max():.2f}" for name, found in columns.items()
            }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(index=["kernel", "type"])


def batches(table: pd.DataFrame) -> pd.DataFrame:
    """Return the milliseconds of value and gradient of small batches, a column a provider.

    There the launch takes most of the time.
    """
    small = table[(table["kernel"] == "small batch") & table["ms"].notna()]
    small = small.drop_duplicates(["dtype", "n", "k", "provider"], keep="last")
    return small.pivot(index=["dtype", "n", "k"], columns="provider", values="ms")


def linear(table: pd.DataFrame) -> pd.DataFrame:
    """Return milliseconds and peak memory of the linear layer's loss with its gradients.

    There is a row a provider; memory is in MB.
    """
    rows = table[table["kernel"].str.startswith("linear") & table["ms"].notna()]
    return rows.drop_duplicates(["provider"], keep="last").set_index("provider")[["ms", "peak_mb"]]


def picture(table: pd.DataFrame) -> Figure | None:
    """Draw the share of a copy's bandwidth over the number of classes, a panel a kernel and type.

    There is none where nothing was measured.
    """
    if table.dropna(subset=["share_of_copy"]).empty:
        return None
    figure = Figure(figsize=(7.4, 6.5), layout="constrained")
    panels = figure.subplots(len(KERNELS), 2, sharex=True, sharey=True)
    for line, kernel in zip(panels, KERNELS, strict=True):
        for axis, dtype in zip(line, ("float32", "bfloat16"), strict=True):
            for provider, share in shares(table, kernel, dtype).items():
                color, marker = LOOK[str(provider)]
                axis.plot(
                    share.index, share, color=COLORS[color], marker=marker, markersize=4, label=provider
                )
            axis.axhline(1.0, color="0.5", linestyle="--", linewidth=1)
            axis.set(xscale="log", title=f"{kernel}, {dtype}", ylim=(0, None))
        line[0].set_ylabel("share of a copy")
    for axis in panels[-1]:
        axis.set_xlabel("number of classes K")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=9)
    return figure
