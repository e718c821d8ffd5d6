"""The tables of what has been run."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_type_hints

from experiments import tables

TRAINING, ALL_REDUCE, RATES, STEPS = (
    tables.RESULTS / f"large_vocabulary{part}.csv" for part in ("", "_all_reduce", "_rates", "_steps")
)


def write(path: Path, rows: Sequence[Any]) -> None:
    """Write records as a table: a reader never sees half of it."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(rows[0]._fields)
    for row in rows:
        writer.writerow(
            value if name == "loss" or isinstance(value, int | str) else f"{value:.5g}"
            for name, value in row._asdict().items()
        )
    tables.write(path, text.getvalue())


def read(path: Path, kind: Any) -> list[Any]:
    """Read a table of records."""
    types = get_type_hints(kind).values()
    with path.open(newline="", encoding="utf-8") as file:
        return [
            kind(*(convert(row[name]) for convert, name in zip(types, kind._fields, strict=True)))
            for row in csv.DictReader(file)
        ]
