"""A table is whole: rows are added all or none, below the columns that they fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments import tables

COLUMNS = ("a", "b")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "table.csv"


def test_rows_are_added_below_the_header(path: Path) -> None:
    tables.append(path, COLUMNS, [{"a": 1, "b": "x, y"}])
    first = path.read_bytes()
    assert first == b'a,b\r\n1,"x, y"\r\n'
    tables.append(path, COLUMNS, [{"a": 2, "b": ""}, {"a": 3}])
    assert path.read_bytes() == first + b"2,\r\n3,\r\n"
    assert tables.read(path, COLUMNS) == [
        {"a": "1", "b": "x, y"},
        {"a": "2", "b": ""},
        {"a": "3", "b": ""},
    ]
    assert [file.name for file in path.parent.iterdir()] == ["table.csv"]


def test_old_rows_keep_their_bytes(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b'a,b\n"1",2\n')
    tables.append(path, COLUMNS, [{"a": 3, "b": 4}])
    assert path.read_bytes() == b'a,b\n"1",2\n3,4\r\n'


def test_of_rows_that_belong_together_none_is_stored_alone(path: Path) -> None:
    tables.append(path, COLUMNS, [{"a": 1, "b": 2}])
    before = path.read_bytes()
    with pytest.raises(ValueError, match="c"):
        tables.append(path, COLUMNS, [{"a": 3, "b": 4}, {"a": 5, "c": 6}])
    assert path.read_bytes() == before


def test_other_columns_are_refused(path: Path) -> None:
    tables.append(path, ("a", "c"), [{"a": 1, "c": 2}])
    before = path.read_bytes()
    for refused in (
        lambda: tables.append(path, COLUMNS, [{"a": 1, "b": 2}]),
        lambda: tables.read(path, COLUMNS),
        lambda: tables.check_columns(path, COLUMNS),
    ):
        with pytest.raises(ValueError, match=r"table\.csv must have the columns a, b; got a, c"):
            refused()
    assert path.read_bytes() == before


def test_no_file_has_no_rows(path: Path) -> None:
    assert tables.read(path, COLUMNS) == []
    tables.check_columns(path, COLUMNS)
    assert not path.parent.exists()


def test_a_link_stays_and_its_table_grows(path: Path, tmp_path: Path) -> None:
    tables.append(path, COLUMNS, [{"a": 1, "b": 2}])
    link = tmp_path / "link.csv"
    link.symlink_to(path)
    tables.append(link, COLUMNS, [{"a": 3, "b": 4}])
    assert link.is_symlink()
    assert len(tables.read(path, COLUMNS)) == 2
