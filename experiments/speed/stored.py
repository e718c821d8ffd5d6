"""The stored measurements of the CPU: of every measurement the newest counts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from experiments.benchmarks import cpu

__all__ = ["PEERS", "TASKS", "circumstances", "copy_scatter", "origin", "read", "spread"]


Shape = tuple[int, int]
OURS, FLOOR = "softmax_lab", "copy"
PEERS = tuple(name for name in cpu.OF_ALL if name not in (OURS, FLOOR))
TASKS = {"loss": "loss and gradient", "softmax": "softmax", "log_softmax": "log-softmax"}
KEY = ["task", "dtype", "n", "k", "provider"]
PLACE = ["dtype", "n", "k"]


def read(
    path: Path = cpu.RESULTS,
    *,
    threads: int = 2,
    processor: str = "",
    vectors: int | None = None,
    on_jax: bool = False,
) -> pd.DataFrame:
    """Return the newest measurement of each (task, dtype, N, K, provider).

    With ``on_jax`` it is those on the shapes that JAX arrays are measured on, else all others.

    Its nanoseconds a logit are in the column ``ns``.

    Of all rows those with ``threads`` threads count, from the named processor, or else from the one that was
    measured last, with its own vectors or with narrower ones of ``vectors`` bits. The benchmark times two
    copies of a shape: one before everything, which its file counts in, and one among the providers, which has
    a row. ``copies`` is the multiple of the second, so that one shape has one unit everywhere;
    ``copies_before`` that of the first.

    Raises
    ------
    ValueError
        Where the file is not one of the benchmark's, or holds nothing for that number of threads, that
        processor or that width.
    """
    table = pd.read_csv(path, dtype={"vectors": str})
    if missing := [name for name in cpu.COLUMNS if name not in table]:
        raise ValueError(
            f"{path.name} must have the columns of experiments.benchmarks.cpu; it lacks {', '.join(missing)}"
        )
    shapes = pd.MultiIndex.from_frame(table[["n", "k"]])
    table = table[_have(table["vectors"].fillna(""), vectors) & (shapes.isin(cpu.JAX_SHAPES) == on_jax)]
    if table.empty:
        raise ValueError(
            f"{path.name} must hold rows of {vectors or 'the own'} bits: "
            f"{advice('--jax ' * on_jax + ('' if vectors is None else f'--vectors {vectors}'))}"
        )
    here = table[table["processor"] == processor] if processor else table
    own = here[here["threads"] == threads].sort_values("when", kind="stable")
    if own.empty:
        found = ", ".join(str(count) for count in sorted(set(here["threads"]))) or "none"
        raise ValueError(
            f"{path.name} must hold rows with {threads} threads{f' of {processor}' * bool(processor)}, "
            f"it has {found}: {advice(f'--threads {threads}')}"
        )
    own = own[own["processor"] == own["processor"].iloc[-1]].drop_duplicates(KEY, keep="last")
    floor = own[own["provider"] == FLOOR].set_index(PLACE)["ms"].rename("floor")
    copies = own["ms"] / own.join(floor, on=PLACE)["floor"]
    return own.assign(
        ns=1e6 * own["ms"] / (own["n"] * own["k"]), copies_before=own["copies"], copies=copies
    ).reset_index(drop=True)


def _have(width: pd.Series, vectors: int | None) -> pd.Series:
    """Whether rows are of a processor's own vectors, or of so many bits where it has more."""
    return ~width.str.contains(" of ") if vectors is None else width.str.startswith(f"{vectors} of ")


def advice(options: str) -> str:
    return f"run python -m experiments.benchmarks.cpu {options}".rstrip()


def at_shapes(table: pd.DataFrame, shapes: Iterable[Shape]) -> pd.DataFrame:
    """Return the rows measured at one of the shapes, in their order.

    The shapes are those of the benchmark's table or of its sweep.
    """
    order = {shape: place for place, shape in enumerate(shapes)}
    places = [order.get((int(n), int(k)), -1) for n, k in zip(table["n"], table["k"], strict=True)]
    found = table.assign(place=places).query("place >= 0").sort_values(["dtype", "place"], kind="stable")
    if found.empty:
        raise ValueError(
            f"no measurement at {', '.join(shape_words(shape) for shape in order)}: {advice('')}, and with "
            f"--sweep"
        )
    return found.drop(columns="place")


def shape_words(shape: Shape) -> str:
    return f"{shape[0]:,} x {shape[1]:,}"


def circumstances(table: pd.DataFrame) -> dict[str, str]:
    """Return what was measured on, when and with what, in words.

    Say also whether a shape's rows come from one run.
    """
    runs = table.groupby(PLACE)["when"].nunique()
    mixed = ", ".join(
        f"{shape_words((int(n), int(k)))} {dtype}" for (dtype, n, k), count in runs.items() if count > 1
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
    """Return how many times as long the slower of a shape's two copies took as the faster.

    There is a row a (dtype, N, K).
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
