"""Tables of results: a reader sees the old file or the new one, never a half of either."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from softmax_lab._files import write_text

__all__ = ["RESULTS", "append", "check_columns", "read", "write"]

RESULTS = Path(__file__).parent / "results"


def write(path: Path, text: str) -> None:
    """Put a text in place of a file, in one step; make the folder where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)


def append(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows that belong together, the header first in a new file: all of them or none.

    The file is replaced by a longer one, so one process at a time may do this. A column that a row lacks is
    empty.

    Raises
    ------
    ValueError
        Where the file has other columns, or a row has a column that the table has not.
    """
    check_columns(path, columns)
    old = path.read_bytes().decode("utf-8") if path.is_file() else ""
    added = io.StringIO(newline="")
    writer = csv.DictWriter(added, columns, restval="")
    if not old:
        writer.writeheader()
    writer.writerows(rows)
    write(path, old + added.getvalue())


def check_columns(path: Path, columns: Sequence[str]) -> None:
    """Raise ``ValueError`` where there is a file with other columns: rows would not fit below them."""
    if not path.is_file():
        return
    with path.open(newline="", encoding="utf-8") as file:
        found = next(csv.reader(file), None)
    if found is not None and tuple(found) != tuple(columns):
        raise ValueError(
            f"{path} must have the columns {', '.join(columns)}; got {', '.join(found) or 'none'}"
        )


def read(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Return the rows as they are stored; none where there is no file.

    Raises
    ------
    ValueError
        Where the file has other columns.
    """
    check_columns(path, columns)
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
