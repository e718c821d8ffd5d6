"""The table of findings: what is stored is not run again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from experiments import machine, tables
from softmax_lab.audit import Finding

__all__ = ["COLUMNS", "ENGINES_TABLE", "append", "read", "stored"]

ENGINES_TABLE = tables.RESULTS / "engines.csv"
COLUMNS = (
    "engine",
    "variant",
    "function",
    "dtype",
    "case",
    "max_ulp",
    "wrong",
    "problem",
    "version",
    "processor",
    "date",
)
_KEY = ("engine", "variant", "version")


def stored(path: Path = ENGINES_TABLE) -> set[tuple[str, ...]]:
    """Return (engine, variant, version) of what the table has."""
    return {tuple(row[name] for name in _KEY) for row in tables.read(path, COLUMNS)}


def append(
    found: Iterable[tuple[str, str, str, Finding]],
    engine: str,
    variant: str,
    version: str,
    path: Path = ENGINES_TABLE,
) -> None:
    """Add the findings of one engine, each with its function, dtype and case."""
    about = {
        "engine": engine,
        "variant": variant,
        "version": version,
        "processor": machine.processor(),
        "date": machine.now()[:10],
    }
    rows = [
        {
            **about,
            "function": function,
            "dtype": dtype,
            "case": case,
            "max_ulp": "" if math.isnan(finding.max_ulp) else f"{finding.max_ulp:.4g}",
            "wrong": int(finding.wrong),
            "problem": finding.problem,
        }
        for function, dtype, case, finding in found
    ]
    tables.append(path, COLUMNS, rows)


def read(path: Path = ENGINES_TABLE, engines: Iterable[str] | None = None) -> pd.DataFrame:
    """Return the stored findings; of an engine that was run at several versions, each of them."""
    rows: Sequence[Mapping[str, str]] = tables.read(path, COLUMNS)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    if engines is not None:
        table = table[table["engine"].isin(list(engines))].reset_index(drop=True)
    return table.assign(
        max_ulp=pd.to_numeric(table["max_ulp"], errors="coerce"),
        wrong=table["wrong"] == "1",
        ok=table["problem"] == "",
    )
