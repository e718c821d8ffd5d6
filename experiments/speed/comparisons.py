"""Who is faster, by how much and where: comparisons of the stored measurements, and the words for them.

Two times whose middle three fifths overlap are level: neither is called the faster.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from experiments.benchmarks import cpu
from experiments.sentences import listed

from .stored import FLOOR, KEY, OURS, PEERS, PLACE, TASKS, Shape, advice, at_shapes, shape_words

__all__ = ["bandwidth", "brief", "comparison", "margins", "short_rows", "shown", "standing", "verdict"]


def comparison(table: pd.DataFrame, task: str, shapes: Sequence[Shape] = cpu.SHAPES) -> pd.DataFrame:
    """Return a row a (dtype, N, K): the package's numbers, and each peer's time over the package's.

    The package's are ``ms``, ``copies`` and ``max_ulp``.

    ``best`` is the smallest of these ratios and ``peer`` whose it is. Column ``torch is``, and so for every
    peer, says whether it is "faster" or "slower" than the package, or "level": the middle three fifths of the
    two times overlap. ``softmax_lab is`` the "fastest" where every peer is slower, "slower" where one is
    faster, else "level".
    """
    rows = at_shapes(table[table["task"] == task], shapes)
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
            f"no peer of {OURS} was measured in {task}: install softmax-lab[frameworks], then {advice('')}"
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
    """Return `comparison` as text, to be read.

    An asterisk marks a peer that is faster than the package, a tilde one that is level.
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
        [(dtype, shape_words((n, k))) for dtype, n, k in compared.index], names=["type", "N x K"]
    )
    return pd.DataFrame(text, index=index).rename(columns={"max_ulp": "ulp"})


def _number(value: float, form: str) -> str:
    return "–" if np.isnan(value) else f"{value:{form}}"


def verdict(table: pd.DataFrame, task: str, shapes: Sequence[Shape] = cpu.SHAPES) -> str:
    """Say in how many cases the package is the fastest, level and slower, and by how much."""
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
    return listed(said)


def brief(table: pd.DataFrame, task: str, shapes: Sequence[Shape] = cpu.SHAPES) -> str:
    """Say in how many cases the package is the fastest, level and slower, and how far away the peers are.

    The distance is the fastest peer's time over the package's: smallest, largest and median.
    """
    compared = comparison(table, task, shapes)
    counts = _counts(compared)
    said = [f"the fastest in {counts['fastest']} of {len(compared)} cases"]
    said += [f"level with the fastest peer in {counts['level']}"] * (counts["level"] > 0)
    said += [f"slower in {counts['slower']}"] * (counts["slower"] > 0)
    best = compared["best"].dropna()
    return (
        f"{listed(said)}; the fastest peer takes {_range(best)} times the package's time "
        f"(median {best.median():.2f})"
    )


def _counts(compared: pd.DataFrame) -> dict[str, int]:
    return {side: int((compared[f"{OURS} is"] == side).sum()) for side in ("fastest", "level", "slower")}


def _range(values: pd.Series) -> str:
    low, high = f"{values.min():.2f}", f"{values.max():.2f}"
    return low if low == high else f"{low} to {high}"


def margins(table: pd.DataFrame, shapes: Sequence[Shape] = cpu.SWEEP) -> pd.DataFrame:
    """Return the fastest peer's time over the package's as text.

    There is a row a number of classes and a column a (task, type).

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
    """Return what a logit costs in rows of ``few`` classes over what it costs in rows of ``many``.

    The index is task, type and provider.
    """
    keys = ["task", "dtype", "provider"]
    short, long = (
        at_shapes(table, [shape for shape in cpu.SWEEP if shape[1] == k]).set_index(keys)["ns"]
        for k in (few, many)
    )
    return (short / long).dropna()


def standing(table: pd.DataFrame) -> pd.DataFrame:
    """Return who is fastest, who most accurate, and whom nobody beats in both at once.

    There is a row a task, type and shape with known errors.

    Whoever is level with the fastest is named after it.
    """
    rows = at_shapes(table[table["provider"] != FLOOR], cpu.SHAPES).dropna(subset="max_ulp")
    order = {task: place for place, task in enumerate(TASKS)}
    rows = rows.assign(place=rows["task"].map(order)).sort_values(["dtype", "place"], kind="stable")
    found = {
        (TASKS[key[0]], key[1], shape_words(key[2:])): _standing(own)
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
    """Return gigabytes a second, each logit counted as read once and written once.

    There is a row a (dtype, N, K), and a column for the copy and for each task.
    """
    rows = at_shapes(table, shapes)
    rows = rows.assign(
        rate=[2 * np.dtype(dtype).itemsize / ns for dtype, ns in zip(rows["dtype"], rows["ns"], strict=True)]
    )
    floor = rows[rows["provider"] == FLOOR].set_index(PLACE)["rate"]
    own = rows[rows["provider"] == OURS].pivot_table(index=PLACE, columns="task", values="rate", sort=False)
    return own.reindex(columns=list(TASKS)).assign(copy=floor)
