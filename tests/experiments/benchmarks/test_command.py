"""What all benchmarks share: rows are stored as they come, or a job at a time, and told."""

from __future__ import annotations

import argparse
import csv
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments import tables
from experiments.benchmarks import _command
from experiments.benchmarks._command import Benchmark, Job, Row

COLUMNS = ("when", "name", "value")


def rows(name: str, fails: bool) -> Iterator[Row]:
    yield {"name": name, "value": 1}
    if fails:
        raise KeyboardInterrupt
    yield {"name": name, "value": 2}


def add_options(parser: argparse.ArgumentParser) -> None:
    _command.add_threads(parser)
    _command.add_choice(parser, "name", ("first", "second"))
    _command.add_choice(parser, "dtype", ("float32", "float64"), ["float32"])
    _command.add_shapes(parser)
    _command.add_budget(parser, 0.5)
    parser.add_argument("--fail", action="store_true")


def jobs(options: argparse.Namespace) -> list[Job]:
    fails = {name: options.fail and name == "second" for name in options.name}
    return [Job(name, lambda name=name: rows(name, fails[name])) for name in options.name]  # type: ignore[misc]


def benchmark(path: Path, *, whole: bool = False) -> Benchmark:
    return Benchmark(
        "Measure nothing.",
        path,
        COLUMNS,
        add_options,
        jobs,
        lambda row: f"{row['name']}: {row['value']}",
        lambda: {"when": "now"},
        whole,
    )


def stored(path: Path) -> list[tuple[str, ...]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [tuple(row) for row in csv.reader(file)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "table.csv"


def test_every_row_is_stored_and_told(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark(path).main(["--name", "first"]) == 0
    assert benchmark(path).main(["--name", "second"]) == 0
    assert stored(path) == [
        COLUMNS,
        *(("now", name, value) for name in ("first", "second") for value in ("1", "2")),
    ]
    assert capsys.readouterr().out.splitlines() == ["first: 1", "first: 2", "second: 1", "second: 2"]


@pytest.mark.parametrize(("whole", "left"), [(False, 3), (True, 2)])
def test_a_run_that_is_stopped_keeps_what_it_has(path: Path, whole: bool, left: int) -> None:
    """Of a job whose rows belong together it keeps all or none."""
    with pytest.raises(KeyboardInterrupt):
        benchmark(path, whole=whole).main(["--fail"])
    assert len(stored(path)) == 1 + left


def test_a_table_with_other_columns_is_refused_before_anything_is_measured(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path.parent.mkdir()
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(SystemExit):
        benchmark(path).main([])
    told = capsys.readouterr()
    assert "must have the columns when, name, value; got a, b" in told.err
    assert told.out == ""
    assert path.read_text(encoding="utf-8") == "a,b\n1,2\n"


def test_a_rehearsal_stores_nothing(path: Path) -> None:
    rehearsed = benchmark(path)
    found = rehearsed.run(rehearsed.parse([]), store=False)
    assert found[0] == {"when": "now", "name": "first", "value": 1}
    assert len(found) == 4
    assert not path.exists()


def test_options_have_their_defaults(path: Path) -> None:
    options = benchmark(path).parse([])
    assert (options.name, options.dtype, options.shape) == (["first", "second"], ["float32"], None)
    assert (options.budget, options.out) == (0.5, path)
    options = benchmark(path).parse(["--shape", "3", "4", "--shape", "5", "6", "--dtype", "float64"])
    assert (options.shape, options.dtype) == ([[3, 4], [5, 6]], ["float64"])


@pytest.mark.parametrize(
    "name",
    ["cpu", "family", "torch_cpu", "half_cpu", "linear_cpu", "balance_cpu", "gpu.command"],
)
def test_the_stored_table_has_the_columns_of_its_benchmark(name: str) -> None:
    pytest.importorskip("torch")
    known: Benchmark = importlib.import_module(f"experiments.benchmarks.{name}").BENCHMARK
    assert known.results.is_file()
    tables.check_columns(known.results, known.columns)
