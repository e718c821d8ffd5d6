r"""How fast, and how accurate at that speed? (chapter 10)

``python -m experiments.benchmarks.cpu`` measures and appends to ``results/cpu.csv``. Here that file is read
(of every measurement the newest counts), compared, put into words and drawn: nothing that the chapter says of
it is typed. Two times whose middle three fifths overlap are level: neither is called the faster. Two small
things are measured when asked: what a logit costs on one thread, and what an ordinary store costs in memory
traffic. The sources of the compiled loops are looked up by the names in `LISTINGS`.
"""

from __future__ import annotations

import importlib
import inspect
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

import softmax_lab as sl
from experiments.benchmarks import cpu, family, half_cpu, linear_cpu, torch_cpu
from softmax_lab.plotting import COLORS

__all__ = [
    "AIMS",
    "CONSTANTS",
    "LISTINGS",
    "PEERS",
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
    "linear_layers",
    "listing",
    "margins",
    "origin",
    "polynomial_error",
    "product_gains",
    "read",
    "reduction",
    "short_rows",
    "shown",
    "spread",
    "standing",
    "store_traffic",
    "store_words",
    "verdict",
]

Shape = tuple[int, int]

OURS, FLOOR = "softmax_lab", "copy"
PEERS = tuple(name for name in cpu.PROVIDERS if name not in (OURS, FLOOR))
TASKS = {"loss": "loss and gradient", "softmax": "softmax", "log_softmax": "log-softmax"}
KEY = ["task", "dtype", "n", "k", "provider"]
PLACE = ["dtype", "n", "k"]
#: colour and marker of each provider, in every picture
LOOK = {
    "softmax_lab": ("green", "*"),
    "torch": ("vermillion", "o"),
    "torch.compile": ("orange", "s"),
    "jax.jit": ("blue", "^"),
    "tf.function": ("purple", "D"),
    "scipy": ("sky", "v"),
    "copy": ("grey", ""),
}

#: what chapter 10 shows of the loops' source: name -> module and function
LISTINGS = {
    "exponent": ("softmax_lab._kernels.simd", "_shift_exponent"),
    "exponential": ("softmax_lab._kernels.exponential", "single"),
    "chunk": ("softmax_lab._kernels.long_rows", "exponentials"),
    "rows": ("softmax_lab._kernels.long_rows", "softmax"),
    "target": ("softmax_lab._kernels.terms", "cross_of"),
    "row": ("softmax_lab._kernels.terms", "row_terms"),
}
#: what it says of their sizes: name -> module
CONSTANTS = {
    "WIDTH": "softmax_lab._kernels.simd",
    "CHUNK": "softmax_lab._kernels.long_rows",
    "HELD": "softmax_lab._kernels.transform",
    "_STREAMED": "softmax_lab._dispatch",
    "MOST_CLASSES": "softmax_lab._kernels.short_rows",
    "LOG2_E": "softmax_lab._kernels.exponential",
    "LOG_2": "softmax_lab._kernels.exponential",
    "MAGIC": "softmax_lab._kernels.exponential",
    "Q": "softmax_lab._kernels.exponential",
}


# ---- the stored measurements ----


def read(path: Path = cpu.RESULTS, *, threads: int = 2) -> pd.DataFrame:
    """Return the newest measurement of each (task, dtype, N, K, provider), with its nanoseconds a logit as
    ``ns``.

    Of all rows those with ``threads`` threads count, from the processor that was measured last. The benchmark
    times two copies of a shape: one before everything, which its file counts in, and one among the providers,
    which has a row. ``copies`` is the multiple of the second, so that one shape has one unit everywhere;
    ``copies_before`` that of the first.

    Raises
    ------
    ValueError
        Where the file is not one of the benchmark's, or holds nothing for that number of threads.
    """
    table = pd.read_csv(path)
    if missing := [name for name in cpu.COLUMNS if name not in table]:
        raise ValueError(
            f"{path.name} must have the columns of experiments.benchmarks.cpu; it lacks {', '.join(missing)}"
        )
    own = table[table["threads"] == threads].sort_values("when", kind="stable")
    if own.empty:
        found = ", ".join(str(count) for count in sorted(set(table["threads"]))) or "none"
        raise ValueError(
            f"{path.name} must hold rows with {threads} threads, it has {found}: "
            f"{_command(f'--threads {threads}')}"
        )
    own = own[own["processor"] == own["processor"].iloc[-1]].drop_duplicates(KEY, keep="last")
    floor = own[own["provider"] == FLOOR].set_index(PLACE)["ms"].rename("floor")
    copies = own["ms"] / own.join(floor, on=PLACE)["floor"]
    return own.assign(
        ns=1e6 * own["ms"] / (own["n"] * own["k"]), copies_before=own["copies"], copies=copies
    ).reset_index(drop=True)


def _command(options: str) -> str:
    return f"run python -m experiments.benchmarks.cpu {options}".rstrip()


def _at(table: pd.DataFrame, shapes: Iterable[Shape]) -> pd.DataFrame:
    """Return the rows measured at one of the shapes, in their order.

    The table of the benchmark or its sweep.
    """
    order = {shape: place for place, shape in enumerate(shapes)}
    places = [order.get((int(n), int(k)), -1) for n, k in zip(table["n"], table["k"], strict=True)]
    found = table.assign(place=places).query("place >= 0").sort_values(["dtype", "place"], kind="stable")
    if found.empty:
        raise ValueError(
            f"no measurement at {', '.join(_words(shape) for shape in order)}: {_command('')}, and with "
            f"--sweep"
        )
    return found.drop(columns="place")


def _words(shape: Shape) -> str:
    return f"{shape[0]:,} x {shape[1]:,}"


def circumstances(table: pd.DataFrame) -> dict[str, str]:
    """Return what was measured on, when and with what, in words.

    And whether a shape's rows come from one run.
    """
    runs = table.groupby(PLACE)["when"].nunique()
    mixed = ", ".join(
        f"{_words((int(n), int(k)))} {dtype}" for (dtype, n, k), count in runs.items() if count > 1
    )
    days = sorted({when[:10] for when in table["when"]})
    return {
        "processor": str(table["processor"].iloc[0]),
        "threads": str(table["threads"].iloc[0]),
        "versions": "; ".join(dict.fromkeys(table.sort_values("when")["versions"])),
        "when": days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}",
        "repeats": f"{table['repeats'].min()} to {table['repeats'].max()}",
        "runs": f"Times from several runs are compared at {mixed}"
        if mixed
        else "All times of one shape and type come from one run",
    }


def spread(table: pd.DataFrame) -> pd.Series:
    """Return (80th - 20th percentile) / median of every measurement: how much a time can be trusted."""
    return (table["ms_80"] - table["ms_20"]) / table["ms"]


def copy_scatter(table: pd.DataFrame) -> pd.Series:
    """Return how many times as long the slower of a shape's two copies took as the faster: a row a (dtype, N,
    K).
    """
    twice = table[table["provider"] == FLOOR].set_index(PLACE)["copies_before"]
    return twice.where(twice >= 1, 1 / twice).rename("slower / faster")


def origin(path: Path) -> str:
    """Say when, on what and with what the rows of a benchmark's file that count were measured."""
    table = pd.read_csv(path)
    keys = [name for name in ("task", "dtype", "n", "k", "d", "v", "provider") if name in table]
    table = table.drop_duplicates(keys, keep="last")
    days = sorted({when[:10] for when in table["when"]})
    where = " and ".join(dict.fromkeys(table["processor"]))
    threads = " and ".join(str(count) for count in dict.fromkeys(table["threads"]))
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return f"{when}, with {threads} threads of a processor that the system calls {where}"


# ---- comparisons ----


def comparison(table: pd.DataFrame, task: str, shapes: Sequence[Shape] = cpu.SHAPES) -> pd.DataFrame:
    """Return a row a (dtype, N, K): the package's ``ms``, ``copies`` and ``max_ulp``, and each peer's time
    over the package's.

    ``best`` is the smallest of these ratios and ``peer`` whose it is. Column ``torch is``, and so for every
    peer, says whether it is "faster" or "slower" than the package, or "level": the middle three fifths of the
    two times overlap. ``softmax_lab is`` the "fastest" where every peer is slower, "slower" where one is
    faster, else "level".
    """
    rows = _at(table[table["task"] == task], shapes)
    own = rows[rows["provider"] == OURS].set_index(PLACE)[
        ["ms", "ms_20", "ms_80", "copies", "copies_before", "max_ulp"]
    ]
    rows = rows[rows["provider"].isin(PEERS)]
    names = [name for name in PEERS if name in set(rows["provider"])]
    low, ms, high = (
        rows.pivot_table(index=PLACE, columns="provider", values=value, sort=False).reindex(
            index=own.index, columns=names
        )
        for value in ("ms_20", "ms", "ms_80")
    )
    ratios = ms.div(own["ms"], axis=0)
    if ratios.isna().all(axis=None):
        raise ValueError(
            f"no peer of {OURS} was measured in {task}: install softmax-lab[frameworks], then {_command('')}"
        )
    faster, slower = high.lt(own["ms_20"], axis=0), low.gt(own["ms_80"], axis=0)
    sides = pd.DataFrame(np.select([faster, slower], ["faster", "slower"], "level"), own.index, names).where(
        ratios.notna()
    )
    ours = np.select(
        [faster.any(axis=1), (slower | ratios.isna()).all(axis=1)], ["slower", "fastest"], "level"
    )
    known = ratios.dropna(how="all")
    found = (
        own.drop(columns=["ms_20", "ms_80"])
        .join(ratios)
        .assign(best=known.min(axis=1), peer=known.idxmin(axis=1))
    )
    return found.join(sides.add_suffix(" is")).assign(**{f"{OURS} is": ours})


#: how the tables mark a peer that is not slower than the package
_MARKS = {"faster": "*", "level": "~"}


def shown(compared: pd.DataFrame) -> pd.DataFrame:
    """Return `comparison` as text, to be read: an asterisk marks a peer that is faster than the package, a
    tilde one that is level.
    """
    peers = [name for name in PEERS if name in compared]
    formats = {"ms": ".3g", "copies": ".2f", "max_ulp": ".2f"} | dict.fromkeys(peers, ".2f")
    text = {name: [_number(value, form) for value in compared[name]] for name, form in formats.items()}
    for name in peers:
        text[name] = [
            number + _MARKS.get(side, "")
            for number, side in zip(text[name], compared[f"{name} is"], strict=True)
        ]
    index = pd.MultiIndex.from_tuples(
        [(dtype, _words((n, k))) for dtype, n, k in compared.index], names=["type", "N x K"]
    )
    return pd.DataFrame(text, index=index).rename(columns={"max_ulp": "ulp"})


def _number(value: float, form: str) -> str:
    return "–" if np.isnan(value) else f"{value:{form}}"


def verdict(table: pd.DataFrame, task: str, shapes: Sequence[Shape] = cpu.SHAPES) -> str:
    """Say on how many of the shapes and types the package is the fastest, level and slower, and by
    how much.
    """
    compared = comparison(table, task, shapes).reset_index()
    level, behind = (compared[compared[f"{OURS} is"] == side] for side in ("level", "slower"))
    said = [f"{OURS} is the fastest in {_counts(compared)['fastest']} of {len(compared)} cases"]
    if len(level):
        said.append(
            f"level with the fastest peer in {len(level)} (which takes {_range(level['best'])} of its time)"
        )
    if len(behind):
        cases = [
            f"{peer} takes {_range(rows['best'])} of its time at K = "
            f"{', '.join(f'{k:,}' for k in rows['k'])} ({dtype})"
            for (dtype, peer), rows in behind.groupby(["dtype", "peer"], sort=False)
        ]
        said.append(f"slower in {len(behind)}: {'; '.join(cases)}")
    return _listed(said)


def brief(table: pd.DataFrame, task: str, shapes: Sequence[Shape] = cpu.SHAPES) -> str:
    """Return the counts of `verdict`, and the worst ratio where a peer takes less time, within the scatter or
    beyond it.
    """
    compared = comparison(table, task, shapes).reset_index()
    counts = _counts(compared)
    said = [f"the fastest in {counts['fastest']} of {len(compared)} cases"]
    said += [f"level with the fastest peer in {counts['level']}"] * (counts["level"] > 0)
    said += [f"slower in {counts['slower']}"] * (counts["slower"] > 0)
    worst = compared.loc[compared["best"].idxmin()]
    if worst["best"] >= 1:
        return _listed(said)
    place = f"at {worst['k']:,} classes in {worst['dtype']}"
    return f"{_listed(said)} (at worst {1 / worst['best']:.1f} times as long as {worst['peer']}, {place})"


def _counts(compared: pd.DataFrame) -> dict[str, int]:
    return {side: int((compared[f"{OURS} is"] == side).sum()) for side in ("fastest", "level", "slower")}


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _range(values: pd.Series) -> str:
    low, high = f"{values.min():.2f}", f"{values.max():.2f}"
    return low if low == high else f"{low} to {high}"


def margins(table: pd.DataFrame, shapes: Sequence[Shape] = cpu.SWEEP) -> pd.DataFrame:
    """Return the fastest peer's time over the package's as text: a row a number of classes, a column a (task,
    type).

    An asterisk marks where a peer is faster, a tilde where the package is level with the fastest.
    """
    marks = {"slower": _MARKS["faster"], "level": _MARKS["level"], "fastest": ""}
    found = {}
    for task, words in TASKS.items():
        compared = comparison(table, task, shapes).droplevel("n")
        text = [
            _number(best, ".2f") + marks[side]
            for best, side in zip(compared["best"], compared[f"{OURS} is"], strict=True)
        ]
        found[words] = (
            pd.Series(text, compared.index)
            .unstack("dtype", fill_value="–")
            .reindex(dict.fromkeys(k for _, k in shapes))
        )
    return pd.concat(found, axis=1, names=["of", "type"]).rename(index="{:,}".format).rename_axis(index="K")


def short_rows(table: pd.DataFrame, few: int, many: int) -> pd.Series:
    """Return what a logit costs in rows of ``few`` classes over what it costs in rows of ``many``: per task,
    type and provider.
    """
    keys = ["task", "dtype", "provider"]
    short, long = (
        _at(table, [shape for shape in cpu.SWEEP if shape[1] == k]).set_index(keys)["ns"] for k in (few, many)
    )
    return (short / long).dropna()


#: what a bar is about, its number to be filled in
_ASKED: dict[str, str] = {
    "torch": "at least {:g} times as fast as eager PyTorch",
    "best": "at least {:g} times as fast as the fastest peer",
    "copies": "at most {:g} copies",  # by either of a shape's two copies
    "max_ulp": "at most {:g} ulp",
}


@dataclass(frozen=True)
class Aim:
    """A bar set before the loops were written: a column of `comparison`, at its worst over the shapes of some
    widths.

    One in copies is judged by both copies that are timed at a shape, and met if it is met by both.
    """

    tasks: tuple[str, ...]
    dtype: str
    column: str
    bound: float
    classes: tuple[int, ...] = tuple(k for _, k in cpu.SHAPES)

    @property
    def asked(self) -> str:
        """The bar in words."""
        return _ASKED[self.column].format(self.bound).replace("1 times as fast as", "as fast as")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of `comparison` that are judged."""
        return ("copies", "copies_before") if self.column == "copies" else (self.column,)

    @property
    def at_least(self) -> bool:
        """Whether more is better: true of ratios to a peer, not of copies and errors."""
        return self.column in ("torch", "best")


LONG = tuple(k for _, k in cpu.SHAPES if k >= 1000)
AIMS = (
    Aim(("loss",), "float32", "torch", 6.0),
    Aim(("loss",), "float32", "best", 1.5, (10,)),
    Aim(("loss",), "float32", "best", 2.5, LONG),
    Aim(("loss",), "float32", "copies", 2.5, LONG),
    Aim(("softmax",), "float32", "best", 1.0),
    Aim(("log_softmax",), "float32", "best", 1.0),
    Aim(("loss",), "float64", "torch", 3.0),
    Aim(tuple(TASKS), "float32", "max_ulp", 2.0),
    Aim(tuple(TASKS), "float64", "max_ulp", 4.0),
)


def aims(table: pd.DataFrame) -> pd.DataFrame:
    """Return the targets, the worst that was measured and where, and whether that is enough.

    A target in copies has two worst values, by the copy that has a row and by the one before; where only one
    of them is enough, it is met "by one copy of two".
    """
    return pd.DataFrame([_judged(table, aim) for aim in AIMS])


def _judged(table: pd.DataFrame, aim: Aim) -> dict[str, str]:
    compared = pd.concat({task: comparison(table, task) for task in aim.tasks}, names=["task"]).reset_index()
    rows = compared[(compared["dtype"] == aim.dtype) & compared["k"].isin(aim.classes)]
    target = {
        "of": ", ".join(TASKS[task] for task in aim.tasks),
        "type": aim.dtype,
        "target": aim.asked,
        "at K": _widths(aim.classes),
    }
    columns = [rows[name].dropna() for name in aim.columns if name in rows]
    if not columns or any(values.empty for values in columns):
        return target | {"worst": "not measured", "where": "–", "met": "–"}
    places = [values.idxmin() if aim.at_least else values.idxmax() for values in columns]
    worst = [float(values[place]) for values, place in zip(columns, places, strict=True)]
    where = dict.fromkeys(_words((rows.loc[place, "n"], rows.loc[place, "k"])) for place in places)
    met = [value >= aim.bound if aim.at_least else value <= aim.bound for value in worst]
    return target | {
        "worst": " or ".join(f"{value:.2f}" for value in worst),
        "where": " or ".join(where),
        "met": "yes" if all(met) else "by one copy of two" if any(met) else "no",
    }


def _widths(classes: tuple[int, ...]) -> str:
    return "all" if len(classes) == len(cpu.SHAPES) else ", ".join(f"{k:,}" for k in classes)


def standing(table: pd.DataFrame) -> pd.DataFrame:
    """Return who is fastest, who most accurate, and whom nobody beats in both at once: a row a task, type and
    shape with known errors.

    Whoever is level with the fastest is named after it.
    """
    rows = _at(table[table["provider"] != FLOOR], cpu.SHAPES).dropna(subset="max_ulp")
    order = {task: place for place, task in enumerate(TASKS)}
    rows = rows.assign(place=rows["task"].map(order)).sort_values(["dtype", "place"], kind="stable")
    found = {
        (TASKS[key[0]], key[1], _words(key[2:])): _standing(own)
        for key, own in rows.groupby(KEY[:4], sort=False)
    }
    return pd.DataFrame.from_dict(found, orient="index").rename_axis(["of", "type", "N x K"])


def _standing(own: pd.DataFrame) -> dict[str, str]:
    own = own.sort_values("ms", kind="stable")
    low, high, error, names = (own[name].to_numpy() for name in ("ms_20", "ms_80", "max_ulp", "provider"))
    faster = high[:, None] < low  # [i, j]: i than j
    # beaten: another one is no worse in either and better in one
    beaten = ~faster.T & (error[:, None] <= error) & (faster | (error[:, None] < error))
    return {
        "fastest, or level with it": ", ".join(names[~faster[0]]),
        "most accurate": ", ".join(names[error == error.min()]),
        "beaten by none": ", ".join(names[~beaten.any(axis=0)]),
    }


def bandwidth(table: pd.DataFrame, shapes: Sequence[Shape]) -> pd.DataFrame:
    """Return gigabytes a second, each logit counted as read once and written once: a row a (dtype, N, K), a
    column the copy or a task.
    """
    rows = _at(table, shapes)
    rows = rows.assign(
        rate=[2 * np.dtype(dtype).itemsize / ns for dtype, ns in zip(rows["dtype"], rows["ns"], strict=True)]
    )
    floor = rows[rows["provider"] == FLOOR].set_index(PLACE)["rate"]
    own = rows[rows["provider"] == OURS].pivot_table(index=PLACE, columns="task", values="rate", sort=False)
    return own.reindex(columns=list(TASKS)).assign(copy=floor)


# ---- what is measured when asked ----


def cost(
    shapes: Sequence[Shape], task: str = "loss", *, dtype: str = "float32", budget: float = 0.03
) -> pd.Series:
    """Return the package's nanoseconds a logit on one thread for each (N, K): the best of what fits into
    ``budget`` seconds.
    """
    threads = sl.get_num_threads()
    sl.set_num_threads(1)
    try:
        seconds = [_best(cpu.softmax_lab(cpu.make_problem(n, k, dtype))[task], budget) for n, k in shapes]
    finally:
        sl.set_num_threads(threads)
    index = pd.MultiIndex.from_tuples(shapes, names=["n", "k"])
    return pd.Series(
        [1e9 * s / (n * k) for s, (n, k) in zip(seconds, shapes, strict=True)], index=index, name="ns a logit"
    )


def _best(call: Callable[[], Any], budget: float) -> float:
    """Return the shortest of at least five times, in seconds, after a warm-up."""
    call()
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < 5 or time.perf_counter() - start < budget:
        before = time.perf_counter()
        call()
        times.append(time.perf_counter() - before)
    return min(times)


def store_traffic(logits: int = 1 << 24, *, budget: float = 0.3) -> pd.Series:
    """Return nanoseconds a float32 logit on one thread: copied, negated into another array, negated in place.

    The second stores in the ordinary way, so every line of the result is read before it is written; the third
    has no line to read that it does not need (and half of the memory). How the copy stores is the system's
    choice.
    """
    z = np.ones(logits, dtype=np.float32)
    out = np.ones_like(z)
    calls: dict[str, Callable[[], Any]] = {
        "copied to another array": lambda: np.copyto(out, z),
        "negated to another array": lambda: np.negative(z, out=out),
        "negated in place": lambda: np.negative(z, out=z),
    }
    return pd.Series(
        {name: 1e9 * _best(call, budget) / logits for name, call in calls.items()}, name="ns a logit"
    )


STREAMED = 12 / 8  # bytes a float32 logit with ordinary stores over those with streaming ones
_FITS = 1.2  # a measured ratio within this factor of the one that bytes give


def store_words(stores: pd.Series) -> str:
    """Say which stores the copy of `store_traffic` has, where the count of bytes explains the three times.

    Else that it does not.
    """
    copy, ordinary, in_place = stores
    found = (
        f"the array negated into another takes {ordinary / in_place:.2f} times as long as the one "
        f"negated in place"
    )
    level = [
        floor
        for floor, other in (("1 copy, or 0.67", ordinary), ("1.5 copies, or 1", in_place))
        if _near(copy / other, 1)
    ]
    if not _near(ordinary / in_place, STREAMED) or len(level) != 1:
        return (
            f"{found}, where the count of bytes says {STREAMED:g}, and the copy {copy / ordinary:.2f} and "
            f"{copy / in_place:.2f} times "
            "as long as these two: the count does not explain these times, so they do not tell which stores "
            "the copy has"
        )
    kind = "with ordinary stores" if level[0].startswith("1 copy") else "that streams"
    return (
        f"{found}, as the count of bytes says, and the copy is one {kind}: the floor of a kernel is "
        f"{level[0]} where it streams"
    )


def _near(ratio: float, expected: float) -> bool:
    return bool(1 / _FITS <= ratio / expected <= _FITS)


# ---- the loops' own source ----


def listing(name: str) -> str:
    """Return the source of one of `LISTINGS` as a Markdown code block."""
    module, attribute = LISTINGS[name]
    function = getattr(importlib.import_module(module), attribute)
    return f"```python\n{inspect.getsource(getattr(function, 'py_func', function))}```"


def constant(name: str) -> Any:
    """Return one of the loops' `CONSTANTS`."""
    return getattr(importlib.import_module(CONSTANTS[name]), name)


def reduction(d: NDArray[np.float64]) -> pd.DataFrame:
    """Return n and r of d = n log 2 + r as the loop finds them, and the relative error of its 2^n e^r.

    D <= 0, float64.
    """
    shifted = np.asarray(d * constant("LOG2_E") + constant("MAGIC"), dtype=np.float64)
    n = (shifted.view(np.int64) & ((1 << 52) - 1)) - (1 << 51)
    r = d - n * constant("LOG_2")
    value = np.ldexp(1 + r * np.polyval(constant("Q"), r), n)
    return pd.DataFrame({"n": n, "r": r, "error": value / np.exp(d) - 1}, index=pd.Index(d, name="d"))


def polynomial_error(points: int = 100_001) -> float:
    """Return the largest relative error of 1 + r Q(r) against e^r for |r| <= log(2) / 2."""
    r = np.linspace(-np.log(2) / 2, np.log(2) / 2, points)
    return float(np.abs((1 + r * np.polyval(constant("Q"), r)) / np.exp(r) - 1).max())


# ---- pictures ----


def _panels(rows: int, columns: int, height: float, **shared: Any) -> tuple[Figure, NDArray[Any]]:
    figure = Figure(figsize=(7.4, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def _legend(figure: Figure, handles: Sequence[Any], columns: int = 4) -> None:
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=9)


def _handle(name: str, **changes: Any) -> Line2D:
    color, marker = LOOK[name]
    style = {
        "color": COLORS[color],
        "marker": marker,
        "linestyle": "--" if name == FLOOR else "-",
        "label": name,
    }
    return Line2D([], [], **(style | changes))


def _widths_axis(axis: Axes) -> None:
    axis.set_xscale("log")
    axis.set_xticks(
        [2, 10, 100, 1000, 10_000, 100_000, 1_000_000],
        ["2", "10", r"$10^2$", r"$10^3$", r"$10^4$", r"$10^5$", r"$10^6$"],
    )
    axis.minorticks_off()


def classes_picture(table: pd.DataFrame) -> Figure:
    """Draw the time a logit takes over K: a column a task, a row a type, a line a provider and the copy."""
    rows = _at(table, cpu.SWEEP)
    dtypes = list(dict.fromkeys(rows["dtype"]))
    figure, axes = _panels(len(dtypes), len(TASKS), 0.9 + 2.6 * len(dtypes), sharex=True, sharey=True)
    for line, dtype in zip(axes, dtypes, strict=True):
        for axis, task in zip(line, TASKS, strict=True):
            _classes_panel(axis, rows[rows["dtype"] == dtype], task)
            axis.set_title(f"{TASKS[task]}, {dtype}")
        line[0].set_ylabel("time (ns a logit)")
    for axis in axes[-1]:
        axis.set_xlabel("number of classes K")
    _legend(figure, [_handle(name) for name in LOOK])
    return figure


def _classes_panel(axis: Axes, rows: pd.DataFrame, task: str) -> None:
    for name, (color, marker) in LOOK.items():
        measured = "loss" if name == FLOOR else task  # the floor is measured once
        own = rows[(rows["provider"] == name) & (rows["task"] == measured)]
        line, size, over = (
            ("--" if name == FLOOR else "-"),
            (8 if name == OURS else 4),
            (3 if name == OURS else 2),
        )
        axis.plot(own["k"], own["ns"], line, color=COLORS[color], marker=marker, markersize=size, zorder=over)
    axis.set_yscale("log")
    _plain_ticks(axis.yaxis)
    _widths_axis(axis)


def accuracy_picture(table: pd.DataFrame) -> Figure:
    """Draw error against time, both better up and to the left: a column a task, a row a shape.

    Filled float32, hollow float64.
    """
    rows = _at(table[table["provider"] != FLOOR], cpu.SHAPES).dropna(subset="max_ulp")
    shapes = [shape for shape in cpu.SHAPES if shape[1] in set(rows["k"])]
    figure, axes = _panels(len(shapes), len(TASKS), 1.2 + 2.2 * len(shapes), sharex="row", sharey=True)
    for line, shape in zip(axes, shapes, strict=True):
        for axis, task in zip(line, TASKS, strict=True):
            _accuracy_panel(axis, rows[(rows["k"] == shape[1]) & (rows["task"] == task)])
            axis.set_title(f"{TASKS[task]}, {_words(shape)}", fontsize=9)
    axes[0, 0].invert_yaxis()  # shared by all
    for axis in axes[-1]:
        axis.set_xlabel(r"$\leftarrow$ faster: time / copy", fontsize=9)
    for axis in axes[:, 0]:
        axis.set_ylabel(r"worst error (ulp): better $\rightarrow$", fontsize=9)
    kinds = [
        Line2D([], [], color="black", marker="o", linestyle="", markerfacecolor=face, label=dtype)
        for dtype, face in {"float32": "black", "float64": "white"}.items()
        if dtype in set(rows["dtype"])
    ]
    _legend(figure, [*(_handle(name, linestyle="") for name in LOOK if name != FLOOR), *kinds])
    return figure


def _accuracy_panel(axis: Axes, rows: pd.DataFrame) -> None:
    for point in rows.itertuples():
        color, marker = LOOK[str(point.provider)]
        face, size = (
            (COLORS[color] if point.dtype == "float32" else "white"),
            (12 if point.provider == OURS else 7),
        )
        axis.plot(
            point.copies, point.max_ulp, marker, color=COLORS[color], markerfacecolor=face, markersize=size
        )
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.margins(0.12)
    _plain_ticks(axis.xaxis)
    _plain_ticks(axis.yaxis)


def _plain_ticks(side: Axis) -> None:
    """Numbers like 2 and 50 on a logarithmic axis, not powers of ten."""
    side.set_major_locator(LogLocator(subs=(1, 2, 5)))
    side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    side.set_minor_formatter(NullFormatter())


_RATES = {
    "copy": ("grey", "s"),
    "loss": ("vermillion", "o"),
    "softmax": ("blue", "^"),
    "log_softmax": ("green", "D"),
}


def bandwidth_picture(table: pd.DataFrame) -> Figure:
    """Draw gigabytes a second over K beside the copy's, a panel a type: lines the sweep, hollow marks the
    benchmark's table.
    """
    swept, tabled = bandwidth(table, cpu.SWEEP), bandwidth(table, cpu.SHAPES)
    dtypes = list(dict.fromkeys(swept.index.get_level_values("dtype")))
    figure, axes = _panels(1, len(dtypes), 4.0, sharey=True)
    for axis, dtype in zip(axes[0], dtypes, strict=True):
        _bandwidth_panel(
            axis, swept.xs(dtype, level="dtype"), tabled[tabled.index.get_level_values("dtype") == dtype]
        )
        axis.set_title(dtype)
        axis.set_xlabel("number of classes K")
    axes[0, 0].set_ylabel("read once + written once (GB/s)")
    handles: list[Artist] = [
        Line2D(
            [],
            [],
            color=COLORS[color],
            marker=marker,
            linestyle="--" if name == FLOOR else "-",
            label=TASKS.get(name, name),
        )
        for name, (color, marker) in _RATES.items()
    ]
    handles.append(
        Line2D(
            [],
            [],
            color="black",
            marker="o",
            linestyle="",
            markersize=9,
            markerfacecolor="none",
            label="shape of the table",
        )
    )
    handles.append(Patch(color=COLORS["grey"], alpha=0.15, label="copy x 1.5 either way"))
    _legend(figure, handles, 3)
    return figure


def _bandwidth_panel(axis: Axes, swept: pd.DataFrame, tabled: pd.DataFrame) -> None:
    copied = swept["copy"]
    axis.fill_between(
        copied.index.get_level_values("k"),
        copied / 1.5,
        copied * 1.5,
        color=COLORS["grey"],
        alpha=0.15,
        linewidth=0,
    )
    for name, (color, marker) in _RATES.items():
        line = "--" if name == FLOOR else "-"
        axis.plot(
            swept.index.get_level_values("k"),
            swept[name],
            line,
            color=COLORS[color],
            marker=marker,
            markersize=4,
            zorder=3,
        )
        widths = tabled.index.get_level_values("k")
        axis.plot(widths, tabled[name], marker, color=COLORS[color], markersize=9, markerfacecolor="none")
    axis.set_yscale("log")
    _plain_ticks(axis.yaxis)
    _widths_axis(axis)


def cost_picture(over_rows: pd.Series, over_classes: dict[str, pd.Series]) -> Figure:
    """Draw `cost` on one thread: left over N, a line a number of classes; right over K, a line a task."""
    figure, axes = _panels(1, 2, 3.9)
    left, right = axes[0]
    for (k, own), color, marker in zip(over_rows.groupby("k"), ("blue", "vermillion"), "os", strict=False):
        left.plot(own.index.get_level_values("n"), own, f"{marker}-", color=COLORS[color], label=f"K = {k:,}")
    for task, own in over_classes.items():
        color, marker = _RATES[task]
        right.plot(
            own.index.get_level_values("k"),
            own,
            f"{marker}-",
            color=COLORS[color],
            markersize=4,
            label=TASKS[task],
        )
    for name, words in {
        "MOST_CLASSES": "rows\nas lanes",
        "CHUNK": "one\nchunk",
        "HELD": "held\nwhole",
    }.items():
        right.axvline(constant(name) + 0.5, color="black", linewidth=0.9, linestyle=":")
        place = {"xycoords": ("data", "axes fraction"), "xytext": (-3, 0), "textcoords": "offset points"}
        right.annotate(words, (constant(name), 1), ha="right", va="top", fontsize=8, **place)
    left.set_xlabel("number of rows N")
    left.set_ylabel("time on one thread (ns a logit)")
    left.set_xscale("log")
    left.set_yscale("log")
    left.legend(fontsize=9)
    right.set_xlabel("number of classes K")
    right.set_ylim(bottom=0)
    _widths_axis(right)
    _legend(figure, right.get_legend_handles_labels()[0], 3)
    return figure


# ---- the family, and torch's autograd ----


def family_costs(path: Path = family.RESULTS) -> pd.DataFrame:
    """Return the time of each member over the plain loss of the same run, float32, a column a shape.

    Of several runs the last.
    """
    table = _family_rows(path)
    ratios = table.pivot(index="task", columns=["n", "k"], values="ratio")
    wanted = list(dict.fromkeys(zip(table["n"], table["k"], strict=True)))
    ratios = ratios.loc[list(dict.fromkeys(table["task"])), wanted]
    ratios.columns = [_words(shape) for shape in wanted]
    return ratios.rename_axis(index="field")


def _family_rows(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path)
    return table[(table["peer"] == "plain loss") & (table["dtype"] == "float32")].drop_duplicates(
        ["task", "n", "k"], keep="last"
    )


def family_scatter(path: Path = family.RESULTS) -> pd.Series:
    """Return the longest over the shortest time of the plain loss, which is measured anew beside every
    member: a row a shape.

    A distribution as target has arrays of its own, so the plain loss beside it is left out.
    """
    table = _family_rows(path)
    of_shape = table[table["task"] != "distribution as target"].groupby(["n", "k"], sort=False)["peer_ms"]
    found = of_shape.max() / of_shape.min()
    return found.set_axis([_words(shape) for shape in found.index])


def product_gains(path: Path = family.RESULTS) -> pd.DataFrame:
    """Return how many times as long as the package torch takes for the same product, a column a shape.

    Of several runs the last.
    """
    table = pd.read_csv(path)
    table = table[table["peer"].str.startswith("torch") & (table["dtype"] == "float32")].drop_duplicates(
        ["task", "n", "k"], keep="last"
    )
    gains = (1 / table.set_index(["task", "n", "k"])["ratio"]).unstack(["n", "k"])
    gains.columns = [_words(shape) for shape in gains.columns]
    return gains.rename_axis(index="product")


def autograd(path: Path = torch_cpu.RESULTS) -> pd.DataFrame:
    """Return times through torch's autograd as a row a task, type and shape, with the ratios to both peers
    and the memory.

    Memory is in gradient buffers: what a call takes at its highest, over the size of the logits.
    """
    table = pd.read_csv(path).drop_duplicates(["task", "dtype", "n", "k", "provider"], keep="last")
    wide = table.pivot(index=["task", "dtype", "n", "k"], columns="provider", values=["ms", "buffers"])
    order = list(dict.fromkeys(table[["task", "dtype", "n", "k"]].itertuples(index=False, name=None)))
    ms, buffers = wide["ms"].loc[order], wide["buffers"].loc[order]
    ratios = {f"{peer} / softmax_lab": ms[peer] / ms[OURS] for peer in ("torch", "torch.compile")}
    return pd.DataFrame(
        {"ms": ms[OURS], **ratios, "buffers": buffers[OURS], "buffers of torch": buffers["torch"]}
    )


def half_precision(path: Path = half_cpu.RESULTS) -> pd.DataFrame:
    """Return the loss in half precision as a row a type, shape and loss scale: time, ratios to it, and the
    share of zero gradients.

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
    """Return time, multiple of the bare products' time, and memory of a linear layer's loss: medians of the
    stored rounds.
    """
    table = pd.read_csv(path)
    grouped = table.groupby(["dtype", "n", "d", "v", "provider"], sort=False)[
        ["seconds", "ratio", "peak_mb"]
    ].median()
    return grouped.rename(columns={"ratio": "over the products", "peak_mb": "peak (MB)"})
