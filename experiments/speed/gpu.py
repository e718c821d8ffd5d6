"""The stored results of :mod:`experiments.benchmarks.gpu`, where there are any.

Of every measurement the newest counts, on the card that was measured last. Tables, sentences and pictures
name every provider and every kernel that has a time, so new rows appear by themselves.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import tables
from experiments.curves import NARROW
from experiments.sentences import listed
from softmax_lab.plotting import COLORS

__all__ = [
    "COMMAND",
    "against",
    "aims",
    "batches",
    "behind",
    "brief",
    "call_price",
    "checks",
    "circumstances",
    "errors",
    "kernels",
    "less_accurate",
    "linear",
    "linear_words",
    "missing",
    "picture",
    "plans",
    "rates",
    "read",
    "shares",
    "standing",
]

RESULTS = tables.RESULTS / "gpu.csv"
COMMAND = "python -m experiments.benchmarks.gpu"
OURS, COPY, SMALL = "softmax_lab", "copy", "small batch"
KERNELS = ("softmax", "log_softmax", "cross_entropy")
NAMES = {"softmax": "softmax", "log_softmax": "log-softmax", "cross_entropy": "loss and gradient"}
BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
KEY = ["kernel", "dtype", "n", "k", "provider"]
#: colour and marker of each provider
LOOK = {
    "softmax_lab": ("green", "*"),
    "torch": ("vermillion", "o"),
    "torch.compile": ("orange", "s"),
    "liger_kernel": ("purple", "v"),
    "quack": ("blue", "D"),
}
OTHERS = (("sky", "P"), ("yellow", "X"), ("grey", "h"))  # of providers that have no look of their own
#: the bars that were set before the kernels were written, and the widths that they are for
SHARE, LEAST, MOST = 0.9, 4096, 1 << 18


def read(path: Path = RESULTS) -> pd.DataFrame:
    """Return the newest row of every measurement on the card that was measured last.

    A peer that was not installed in a later run keeps its time. There are no rows where nothing is stored.
    """
    if not path.is_file():
        return pd.DataFrame(columns=["card", *KEY, "ms", "share_of_copy", "note", "versions", "when"])
    table = pd.read_csv(path).sort_values("when", kind="stable")
    own = table[table["card"] == table["card"].iloc[-1]] if len(table) else table
    was_there = ~own["note"].fillna("").str.startswith("not installed")
    ordered = own.assign(was_there=was_there).sort_values(["was_there", "when"], kind="stable")
    return ordered.drop_duplicates(KEY, keep="last").drop(columns="was_there").sort_index()


def kernels(table: pd.DataFrame) -> list[str]:
    """Return the kernels with a share of a copy's bandwidth over K, those of `KERNELS` first."""
    timed = _timed(table)["kernel"]
    found = list(dict.fromkeys(timed[timed != SMALL]))
    return [*(name for name in KERNELS if name in found), *(name for name in found if name not in KERNELS)]


def _timed(table: pd.DataFrame) -> pd.DataFrame:
    return table.dropna(subset=["share_of_copy"])


def _dtypes(rows: pd.DataFrame) -> list[str]:
    """Return the types of the rows, the widest first."""
    return sorted(dict.fromkeys(rows["dtype"].dropna()), key=lambda dtype: -BYTES[dtype])


# ---- tables ----


def plans(widths: tuple[int, ...] = (64, 1000, 4096, 16384, 50257, 262144, 1 << 21)) -> pd.DataFrame:
    """Return how plain rows of so many classes are cut, and how often a logit is read for its gradient."""
    from softmax_lab.torch.triton.plan import held, plan

    found = {}
    for k in widths:
        how = held(k)
        cut = plan(k) if how is None else how
        found[k] = {
            "rows a program": cut.rows,
            "programs a row": 1 if how is None else how.segments,
            "classes at once": cut.block,
            "threads": 32 * cut.warps,
            "reads of a logit": 2 if how is None else 1,
        }
    return pd.DataFrame.from_dict(found, orient="index").rename_axis(index="K")


def longest_held_whole() -> int:
    """Return the most classes of a row that one program holds, for any member of the family."""
    from softmax_lab.torch.triton.plan import WHOLE

    return WHOLE


def shares(table: pd.DataFrame, kernel: str, dtype: str) -> pd.DataFrame:
    """Return each provider's share of the bandwidth of a copy, a row a number of classes."""
    return _over_classes(table, kernel, dtype, "share_of_copy")


def rates(table: pd.DataFrame, kernel: str, dtype: str) -> pd.DataFrame:
    """Return gigabytes a second, a row a number of classes, a column a provider and one for the copy.

    Each logit counts as read once and written once, whatever a kernel moves besides. The copy's rate is that
    of the same array in the same run; of several runs it is the median.
    """
    moved = 2 * BYTES[dtype] * table["n"] * table["k"]
    table = table.assign(rate=1e-6 * moved / table["ms"])
    table = table.assign(copied=table["rate"] / table["share_of_copy"])
    found = _over_classes(table, kernel, dtype, "rate")
    copied = _timed(table).query("kernel == @kernel and dtype == @dtype").groupby("k")["copied"].median()
    return found.assign(**{COPY: copied})


def _over_classes(table: pd.DataFrame, kernel: str, dtype: str, value: str) -> pd.DataFrame:
    rows = _timed(table).query("kernel == @kernel and dtype == @dtype")
    wide = rows.pivot_table(index="k", columns="provider", values=value, aggfunc="last")
    return wide[_ordered(wide.columns)]


def _ordered(providers: Collection[str] | pd.Index) -> list[str]:
    """Return providers in the order of `LOOK`, others after them."""
    return [*(name for name in LOOK if name in providers), *sorted(set(providers) - set(LOOK))]


def against(table: pd.DataFrame, least: int = LEAST, most: int = MOST) -> pd.DataFrame:
    """Return the package's share of a copy and each peer's time over its own, for every kernel and type.

    They are smallest to largest over ``least <= K <= most``. A peer that was not measured has a dash.
    """
    rows = {}
    for kernel in kernels(table):
        for dtype in _dtypes(table):
            share = shares(table, kernel, dtype).loc[least:most]
            if OURS not in share or share.empty:
                continue
            peers = [name for name in share if name != OURS]
            columns = {"share of a copy": share[OURS]}
            columns |= {f"{peer} / softmax_lab": share[OURS] / share[peer] for peer in peers}
            rows[NAMES.get(kernel, kernel), dtype] = {name: _range(found) for name, found in columns.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(index=["kernel", "type"]).fillna("–")


def batches(table: pd.DataFrame) -> pd.DataFrame:
    """Return the milliseconds of value and gradient of small batches, a column a provider.

    There the launch takes most of the time.
    """
    small = table[(table["kernel"] == SMALL) & table["ms"].notna()].astype({"n": int, "k": int})
    wide = small.pivot(index=["dtype", "n", "k"], columns="provider", values="ms")
    return wide[_ordered(wide.columns)]


def linear(table: pd.DataFrame) -> pd.DataFrame:
    """Return milliseconds and peak memory (in MB) of the linear layer's loss with its gradients.

    There is a row a shape and provider.
    """
    rows = table[table["kernel"].str.startswith("linear") & table["ms"].notna()]
    rows = rows.astype({"n": int, "k": int})
    return rows.set_index(["kernel", "dtype", "n", "k", "provider"])[["ms", "peak_mb"]]


def errors(table: pd.DataFrame) -> pd.DataFrame:
    """Return the largest absolute error in the first rows over all K, a row a kernel and type."""
    rows = table[table["kernel"].isin(kernels(table))].dropna(subset=["max_error"])
    wide = rows.pivot_table(
        index=["kernel", "dtype"], columns="provider", values="max_error", aggfunc="max", sort=False
    )
    return wide[_ordered(wide.columns)].rename(index=NAMES, level="kernel").rename_axis(index=["of", "type"])


def checks(table: pd.DataFrame) -> pd.DataFrame:
    """Return what every check found, a row a check."""
    rows = table[table["kernel"].str.startswith("check")]
    names = rows["kernel"].str.removeprefix("check ")
    return rows.set_index(names.rename("check"))[["note"]].rename(columns={"note": "found"})


# ---- sentences ----


def circumstances(table: pd.DataFrame) -> str:
    """Name the card, the versions and the days of what is stored."""
    if table.empty:
        return "no card"
    return f"{table['card'].iloc[0]} with {_versions(table)}"


def _versions(table: pd.DataFrame) -> str:
    days = sorted({when[:10] for when in table["when"]})
    return (
        f"{'; '.join(dict.fromkeys(table['versions']))} ({' to '.join(dict.fromkeys((days[0], days[-1])))})"
    )


def standing(table: pd.DataFrame) -> str:
    """Say what is measured."""
    if table.empty:
        return f"No GPU was at hand yet: no time and no result of one is stored. `{COMMAND}` makes them."
    checks = table[table["kernel"].str.startswith("check")]
    failed = checks["note"].str.startswith("FAILED").sum()
    said = f"{', '.join(table['card'].unique())}: {len(checks) - failed} of {len(checks)} checks passed"
    when = f" ({_minute(checks['when'])})" if len(checks) else ""
    timed = _timed(table)
    newest = f" (the newest {_minute(timed['when'])})" if len(timed) else ""
    return f"{said}{when}, {len(timed)} times stored{newest}."


def _minute(when: pd.Series) -> str:
    """Return the last of some moments, to the minute."""
    return str(when.max())[:16].replace("T", " at ")


def missing(table: pd.DataFrame) -> str:
    """Say which providers have rows without a time, and why, and which cases have no row of the package."""
    rows = table[table["ms"].isna() & table["note"].notna()]
    reasons = rows["note"].str.replace(r"^not installed:.*", "not installed", regex=True)
    found = {
        reason: ", ".join(dict.fromkeys(own["provider"]))
        for reason, own in rows.assign(reason=reasons).groupby("reason", sort=False)
    }
    said = [f"{names} ({reason})" for reason, names in found.items()]
    timed = _timed(table)
    own = timed[(timed["provider"] == OURS) & timed["kernel"].isin(KERNELS)]
    there = set(zip(own["kernel"], own["dtype"], own["k"], strict=True))
    said += [
        f"{NAMES[kernel]} in {dtype} at K = {int(k):,}"
        for kernel in dict.fromkeys(own["kernel"])
        for dtype in _dtypes(own)
        for k in sorted(set(own["k"]))
        if (kernel, dtype, k) not in there
    ]
    return f"Not measured: {'; '.join(said)}." if said else "Every provider has its times."


def brief(table: pd.DataFrame, kernel: str) -> str:
    """Say how near to a copy the package comes over K, and how its time stands to the peers'."""
    found = [shares(table, kernel, dtype) for dtype in _dtypes(table)]
    found = [share for share in found if OURS in share]
    if not found:
        return "not measured"
    share = pd.concat(found)
    peers = [name for name in share if name != OURS]
    own = share[OURS].dropna()
    said = [f"{own.min():.2f} to {own.max():.2f} of the copy's bandwidth"]
    if peers:
        ahead = share[OURS] > share[peers].max(axis=1)
        said.append(f"fastest in {ahead.sum()} of {len(share)} cases")
        ratios = [f"{peer} {_range(share[OURS] / share[peer])}" for peer in peers]
        said.append(f"times over the package's: {', '.join(ratios)}")
    return "; ".join(said)


def behind(table: pd.DataFrame, kernel: str) -> str:
    """Say in which types and at which numbers of classes a peer takes less time than the package."""
    said = []
    for dtype in _dtypes(_timed(table)):
        share = shares(table, kernel, dtype)
        if OURS not in share:
            continue
        ahead = {
            name: [f"{int(k):,}" for k in share.index[share[name] > share[OURS]]]
            for name in share.columns.drop(OURS)
        }
        cases = [f"{name} is at K = {', '.join(where)}" for name, where in ahead.items() if where]
        said.append(f"in {dtype} {'; '.join(cases) or 'no peer is'}")
    return "; ".join(said) or "nothing is measured"


def call_price(table: pd.DataFrame) -> str:
    """Say how many times as long as torch the package takes for value and gradient of the small batches."""
    wide = batches(table)
    if not {OURS, "torch"} <= set(wide):
        return "not measured"
    ratios = wide[OURS] / wide["torch"]
    return listed(
        [f"{_range(own)} times as long in {dtype}" for dtype, own in ratios.groupby("dtype", sort=False)]
    )


def less_accurate(table: pd.DataFrame) -> str:
    """Say where the package's largest error is above a peer's."""
    wide = errors(table)
    peers = [name for name in wide if name != OURS]
    said = [
        f"{of} in {dtype}: {row[OURS]:.1e} against {row[peers].min():.1e}"
        for (of, dtype), row in wide.iterrows()
        if peers and row[OURS] > row[peers].min()
    ]
    return "; ".join(said) or "nowhere"


def linear_words(table: pd.DataFrame) -> str:
    """Say how the package's linear layer stands to each peer's, in time and in memory."""
    said = []
    for _, rows in linear(table).groupby(level=["kernel", "dtype", "n", "k"], sort=False):
        found = rows.droplevel(["kernel", "dtype", "n", "k"])
        ratios = found.loc[OURS] / found.drop(OURS)
        said += [
            f"{row['ms']:.1f} times the time of {peer} and {row['peak_mb']:.1f} times its memory"
            for peer, row in ratios.iterrows()
        ]
    return listed(said, "nothing that was measured")


def aims(table: pd.DataFrame) -> str:
    """Say in how many cases the bars of the kernels are met: a share of a copy, and torch.compile's time."""
    found = [shares(table, kernel, dtype) for kernel in kernels(table) for dtype in _dtypes(table)]
    cases = pd.concat([share.loc[LEAST:MOST] for share in found if OURS in share] or [pd.DataFrame()])
    if cases.empty:
        return "nothing is measured"
    said = [f"{(cases[OURS] >= SHARE).sum()} of {len(cases)} cases reach the share"]
    if "torch.compile" in cases:
        both = cases.dropna(subset=["torch.compile"])
        said.append(f"{(both[OURS] > both['torch.compile']).sum()} of {len(both)} take less time")
    return " and ".join(said)


def _range(values: pd.Series) -> str:
    low, high = f"{values.min():.2f}", f"{values.max():.2f}"
    return low if low == high else f"{low} to {high}"


# ---- the picture ----


def picture(table: pd.DataFrame) -> Figure | None:
    """Draw the bytes a second of every provider and of the copy over K: a row a kernel, a column a type.

    There is none where nothing was measured.
    """
    names = kernels(table)
    if not names:
        return None
    dtypes = _dtypes(_timed(table))
    strangers = _ordered(set(_timed(table)["provider"]) - set(LOOK))
    look = LOOK | {name: OTHERS[place % len(OTHERS)] for place, name in enumerate(strangers)}
    figure = Figure(figsize=(NARROW, 1.5 + 2.2 * len(names)), layout="constrained")
    panels = figure.subplots(len(names), len(dtypes), sharex=True, sharey=True, squeeze=False)
    for line, kernel in zip(panels, names, strict=True):
        for axis, dtype in zip(line, dtypes, strict=True):
            _panel(axis, rates(table, kernel, dtype), look)
            axis.set_title(f"{NAMES.get(kernel, kernel)}, {dtype}")
        line[0].set_ylabel("read + written (GB/s)")
    panels[0, 0].set(xscale="log", ylim=(0, None))
    for axis in panels[-1]:
        axis.set_xlabel("number of classes K")
    handles = {line.get_label(): line for axis in panels.flat for line in axis.lines}
    figure.legend(handles=list(handles.values()), loc="outside lower center", ncols=2)
    figure.suptitle(f"{table['card'].iloc[0]}\n{_versions(table)}", fontsize="medium")
    return figure


def _panel(axis: Axes, found: pd.DataFrame, look: Mapping[str, tuple[str, str]]) -> None:
    copied = found[COPY]
    axis.plot(copied.index, copied, color="0.4", linestyle="--", linewidth=1.2, label="a copy")
    for name in found.columns.drop(COPY):
        color, marker = look[name]
        own = found[name].dropna()
        axis.plot(
            own.index,
            own,
            color=COLORS[color],
            marker=marker,
            markersize=8 if name == OURS else 4,
            label=name,
        )
