"""What every benchmark's command does: read the options, measure job by job, store and tell each row."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

import softmax_lab as sl
from experiments import machine, tables

__all__ = ["Benchmark", "Job", "Row", "Shape", "add_budget", "add_choice", "add_shapes", "add_threads"]

Row = dict[str, Any]
Shape = tuple[int, int]


class Job(NamedTuple):
    """What is measured in one go, under one time stamp."""

    name: str
    rows: Callable[[], Iterable[Row]]


@dataclass(frozen=True)
class Benchmark:
    """A command: what it says of itself, where its rows go, and what it measures."""

    summary: str
    results: Path
    columns: tuple[str, ...]
    #: adds the options of this benchmark to those of all
    add_options: Callable[[argparse.ArgumentParser], None]
    jobs: Callable[[argparse.Namespace], Iterable[Job]]
    #: a row as the terminal shows it
    line: Callable[[Row], str]
    #: columns that all rows of a job share
    about: Callable[[], Row] = machine.circumstances
    #: whether the rows of a job are stored together, when all are there
    whole: bool = False

    def parse(self, arguments: Sequence[str] | None = None) -> argparse.Namespace:
        """Return the options; a table with other columns is refused before anything is measured."""
        name = f"python -m experiments.benchmarks.{self.results.stem}"
        parser = argparse.ArgumentParser(prog=name, description=self.summary)
        self.add_options(parser)
        parser.add_argument("--out", type=Path, default=self.results, help="the table (default: %(default)s)")
        options = parser.parse_args(arguments)
        try:
            tables.check_columns(options.out, self.columns)
        except ValueError as error:
            parser.error(str(error))
        return options

    def run(self, options: argparse.Namespace, *, store: bool = True) -> list[Row]:
        """Do the jobs; store and tell each row as it comes, and return all."""
        done: list[Row] = []
        with tqdm(self.jobs(options), unit="job", disable=None) as progress:
            for job in progress:
                progress.set_postfix_str(job.name, refresh=False)
                for group in self._groups(job):
                    if store:
                        tables.append(options.out, self.columns, group)
                    for row in group:
                        tqdm.write(self.line(row))
                    done += group
        return done

    def _groups(self, job: Job) -> Iterator[list[Row]]:
        """Yield the rows of a job that are stored at once."""
        about = self.about()
        rows = (about | row for row in job.rows())
        if self.whole:
            yield list(rows)
        else:
            yield from ([row] for row in rows)

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Run the command; return its exit status."""
        self.run(self.parse(arguments))
        return 0


# ---- options that several benchmarks have ----


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add ``--threads``."""
    parser.add_argument("--threads", type=int, default=sl.get_num_threads())


def add_choice(
    parser: argparse.ArgumentParser,
    name: str,
    choices: Iterable[str],
    default: Iterable[str] | None = None,
    **words: Any,
) -> None:
    """Add an option that takes some of the choices; by default it takes all, or those of ``default``."""
    choices = list(choices)
    chosen = choices if default is None else list(default)
    parser.add_argument(f"--{name}", nargs="+", default=chosen, choices=choices, **words)


def add_shapes(parser: argparse.ArgumentParser) -> None:
    """Add ``--shape N K``, which may be given several times; ``options.shape`` is a list of pairs or None."""
    parser.add_argument(
        "--shape", nargs=2, type=int, action="append", metavar=("N", "K"), help="only these shapes"
    )


def add_budget(parser: argparse.ArgumentParser, default: float, least: str = "seven repetitions") -> None:
    """Add ``--budget``."""
    parser.add_argument(
        "--budget", type=float, default=default, help=f"seconds a measurement, beyond {least}"
    )
