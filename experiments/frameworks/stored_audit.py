"""The audit of every implementation: run, stored, and read by chapter 4."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd

import softmax_lab as sl
from experiments import tables
from softmax_lab.audit import CHECKS, adapters

__all__ = [
    "AUDIT",
    "GRADIENTS",
    "absent",
    "available",
    "failing",
    "read_audit",
    "run_audit",
    "shared",
    "write_audit",
]


AUDIT = tables.RESULTS / "audit.csv"
COLUMNS = ("implementation", "function", "dtype", "case", "max_ulp", "problem", "version", "platform")
LIMIT_ULP = 4.0
_FRAMEWORK = {"torch.compile": "torch", "tf.function": "tensorflow", "jax.jit": "jax"}
GRADIENTS = ("softmax_lab", "numpy", "torch", "tensorflow", "jax")  # eager, with a gradient


# the stored audit
def available(names: Iterable[str] = tuple(adapters.ADAPTERS)) -> list[str]:
    """Return the adapters whose framework is installed, in their order."""
    return [name for name in names if adapters.installed(name)]


def absent(names: Iterable[str] = tuple(adapters.ADAPTERS)) -> str:
    """Return a sentence that names what is not installed and how to install it.

    It is empty where nothing is missing.
    """
    missing = [name for name in names if not adapters.installed(name)]
    return (
        f"not installed, and left out: {', '.join(missing)}; pip install 'softmax-lab[frameworks]'"
        if missing
        else ""
    )


def run_audit(
    names: Sequence[str] = tuple(adapters.ADAPTERS),
    path: Path = AUDIT,
    *,
    dtypes: Sequence[str] | None = None,
    functions: Sequence[str] | None = None,
    fresh: bool = False,
    say: Callable[[str], object] = print,
) -> pd.DataFrame:
    """Audit what ``path`` does not hold yet, writing it after each implementation, and return all of it.

    ``dtypes`` and ``functions`` are handed to :func:`softmax_lab.audit.run`. An implementation whose
    framework is missing or does not work is told through ``say`` and left out.
    """
    table = (
        pd.DataFrame(columns=list(COLUMNS))
        if fresh or not path.exists()
        else pd.read_csv(path, keep_default_na=False)
    )
    for name in names:
        if name in set(table["implementation"]):
            continue
        try:
            subject = adapters.make(name)
        except adapters.MissingFramework as missing:
            say(f"{name}: left out: {missing}")
            continue
        start = time.perf_counter()
        found = sl.audit.run(
            {name: subject}, limit_ulp=LIMIT_ULP, dtypes=dtypes, functions=functions, progress=False
        )
        table = pd.concat([table, _stored(found, name)], ignore_index=True)
        write_audit(_in_order(table), path)
        say(f"{name}: {len(found)} rows in {time.perf_counter() - start:.0f} s")
    return _in_order(table)


def _stored(found: pd.DataFrame, name: str) -> pd.DataFrame:
    """Keep what cannot be looked up, as text.

    Whether a row is ok follows from its problem, and the reason from its case.
    """
    return found.assign(
        max_ulp=[f"{ulp:.4g}" if ulp == ulp else "" for ulp in found["max_ulp"]],
        version=adapters.versions()[_FRAMEWORK.get(name, name)],
        platform=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    )[list(COLUMNS)]


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    order = {name: place for place, name in enumerate(adapters.ADAPTERS)}
    return table.sort_values(
        "implementation", key=lambda names: names.map(order), kind="stable", ignore_index=True
    )


def write_audit(table: pd.DataFrame, path: Path = AUDIT) -> None:
    """Write the table: a reader never sees half of it."""
    tables.write(path, table.to_csv(index=False, lineterminator="\n"))


def read_audit(path: Path = AUDIT) -> pd.DataFrame:
    """Return the stored audit.

    The columns are those of :func:`softmax_lab.audit.run` but ``wrong``, and ``version`` and ``platform``.
    """
    table = pd.read_csv(path, dtype={"version": str}, keep_default_na=False)
    reasons = {check.name: check.reason for check in CHECKS}
    return table.assign(
        max_ulp=pd.to_numeric(table["max_ulp"], errors="coerce"),
        ok=table["problem"] == "",
        reason=table["case"].map(reasons),
    )


def failing(
    table: pd.DataFrame, function: str, case: str, dtypes: Sequence[str] = ("float32", "float64")
) -> list[str]:
    """Return the implementations that fail a case in every one of ``dtypes``."""
    rows = table[(table["function"] == function) & (table["case"] == case) & table["dtype"].isin(dtypes)]
    return [
        name
        for name, own in rows.groupby("implementation", sort=False)
        if len(own) == len(dtypes) and not own["ok"].any()
    ]


def shared(
    table: pd.DataFrame, functions: Sequence[str], *, but: Sequence[str] = ("softmax_lab",)
) -> dict[tuple[str, str], bool]:
    """Map (function, case) to True where all fail in float32, False where only some do.

    A function and case where none fails is left out, and so are the implementations ``but``. Only those that
    offer the function and the case count; one alone is "some".
    """
    rows = table[
        (table["dtype"] == "float32") & table["function"].isin(functions) & ~table["implementation"].isin(but)
    ]
    verdicts = rows.groupby(["function", "case"], sort=False)["ok"]
    return {(str(key[0]), str(key[1])): len(ok) > 1 and not ok.any() for key, ok in verdicts if not ok.all()}
