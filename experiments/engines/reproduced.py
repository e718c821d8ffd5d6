"""Reproductions: programs of a few lines, each of which shows one surprising answer and the exact value."""

from __future__ import annotations

import ast
import csv
import importlib.metadata
import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from experiments import machine, tables

from . import environments, report
from .recipes import ENGINES

__all__ = [
    "FOLDER",
    "OUTPUTS",
    "WITHOUT",
    "Reproduction",
    "interpreter",
    "recorded",
    "reproduce",
    "reproductions",
    "run",
    "why_not",
    "without",
]

FOLDER = Path(__file__).parent / "reproductions"
OUTPUTS = tables.RESULTS / "engines_reproduced.csv"
COLUMNS = ("reproduction", "output", "engine", "version", "processor", "date")
_CELL = r"(?P<engine>[^,\n]+), (?P<function>\w+), (?P<question>[^:\n]+): (?P<words>[^\n]+)"
#: a file's ending -> how its first line stands in its language
_HEADS = {".py": re.compile(rf'"""{_CELL}"""\n\n'), ".js": re.compile(rf"// {_CELL}\n\n")}
_REQUIRED = re.compile(r"""require\(['"]([^'"]+)['"]\)""")
_TOLD = ("computed", "exact")  # what its lines begin with; engines print lines of their own
_TIMEOUT = 900.0  # s, on a machine that others use too

#: (engine, kind of fault) -> why it has no program of its own
WITHOUT: Mapping[tuple[str, str], str] = {
    (
        "openvino",
        "company",
    ): "14 ulp along the first of two axes, on one machine and not on another of its name",
}


@dataclass(frozen=True)
class Reproduction:
    """One program, and the cell of the atlas that it reproduces."""

    path: Path
    engine: str
    function: str
    question: str
    words: str
    code: str

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def on_node(self) -> bool:
        return self.path.suffix == ".js"

    @property
    def modules(self) -> list[str]:
        """Return the packages that it imports."""
        if self.on_node:
            return sorted(_REQUIRED.findall(self.code))
        imports = [node for node in ast.walk(ast.parse(self.code)) if isinstance(node, ast.Import)]
        froms = [node for node in ast.walk(ast.parse(self.code)) if isinstance(node, ast.ImportFrom)]
        names = [alias.name for node in imports for alias in node.names] + [
            str(node.module) for node in froms
        ]
        return sorted({name.split(".")[0] for name in names})


def reproductions(folder: Path = FOLDER) -> list[Reproduction]:
    """Return the programs of a folder.

    Raises
    ------
    ValueError
        Where a first line does not say engine, function, question and what is seen.
    """
    found = []
    for path in sorted(path for path in folder.iterdir() if path.suffix in _HEADS):
        text = path.read_text(encoding="utf-8")
        head = _HEADS[path.suffix].match(text)
        if head is None:
            raise ValueError(
                f'{path.name} must begin with """engine, function, question: words""" and an empty line'
            )
        found.append(Reproduction(path, **head.groupdict(), code=text[head.end() :]))
    return found


def interpreter(reproduction: Reproduction, folder: Path = environments.FOLDER) -> str | None:
    """Return what runs a program where its engine is; None where the engine is not installed.

    It is Node, or the Python of the engine's own environment, or else this one.
    """
    own = folder / reproduction.engine
    if reproduction.on_node:
        return shutil.which("node") if _packages_of_node(own).is_dir() else None
    if (own / "bin" / "python").is_file():
        return str(own / "bin" / "python")
    return None if _absent(reproduction) else sys.executable


def without(table: pd.DataFrame, found: Sequence[Reproduction]) -> dict[tuple[str, str], list[str]]:
    """Return the kinds of fault of an engine that no program shows, with their cases.

    Lost digits are no such kind: every engine loses some. A program shows a kind where the cell that it names
    has that kind.

    Parameters
    ----------
    table : pandas.DataFrame
        As ``report.rows`` returns it.
    found : sequence of Reproduction
        The programs.

    Returns
    -------
    dict
        (engine, kind) to "function, type, case" of each finding. What ``WITHOUT`` gives a reason for is left
        out.
    """
    shown = {(each.engine, each.function, each.question) for each in found}
    faults: dict[tuple[str, str], list[Any]] = {}
    for row in table.itertuples():
        fault = report.kind(row)
        if fault not in ("", *report.DIGITS):
            faults.setdefault((str(row.engine), fault), []).append(row)
    return {
        pair: [f"{row.function}, {row.dtype}, {row.case}" for row in rows]
        for pair, rows in faults.items()
        if pair not in WITHOUT
        and not any((row.engine, row.function, report.question(row.case)) in shown for row in rows)
    }


def _packages_of_node(own: Path) -> Path:
    return own / "node_modules"


def why_not(reproduction: Reproduction) -> str:
    """Return why a reproduction is not run, where it is not."""
    missing = reproduction.modules if reproduction.on_node else _absent(reproduction)
    return f"{reproduction.engine} is not installed: no {', '.join(missing)} here"


def _absent(reproduction: Reproduction) -> list[str]:
    """Return what is missing in this Python: of an engine without imports of its own, the engine itself."""
    missing = [name for name in reproduction.modules if importlib.util.find_spec(name) is None]
    if not missing and not _installed(reproduction.engine):
        missing = [reproduction.engine]
    return missing


def _installed(engine: str) -> bool:
    try:
        importlib.metadata.version(engine)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def run(reproduction: Reproduction, by: str, folder: Path = environments.FOLDER) -> str:
    """Run a program by itself and return what it tells.

    Parameters
    ----------
    by : str
        As ``interpreter`` returns it.
    folder : Path
        Of the environments: Node finds the packages of the engine there.

    Raises
    ------
    RuntimeError
        Where it fails, with the last line of its error.
    """
    variables = {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PATH": os.environ.get("PATH", ""),
        "NODE_PATH": str(_packages_of_node(folder / reproduction.engine)),
    }
    done = subprocess.run(
        [by, str(reproduction.path)],
        capture_output=True,
        text=True,
        check=False,
        env=variables,
        timeout=_TIMEOUT,
    )
    if done.returncode:
        raise RuntimeError(f"{reproduction.name}: {(done.stderr.splitlines() or ['?'])[-1]}")
    return "\n".join(line for line in done.stdout.splitlines() if line.startswith(_TOLD))


def version_of(engine: str, folder: Path = environments.FOLDER) -> str:
    """Return the version that a reproduction runs: the pinned one of an environment, else the installed."""
    if engine in ENGINES and (folder / engine).is_dir():
        return ENGINES[engine].pinned[ENGINES[engine].package]
    return importlib.metadata.version(engine)


def reproduce(
    path: Path = OUTPUTS, folder: Path = environments.FOLDER, *, say: Callable[[str], object] = print
) -> None:
    """Run every reproduction whose engine is here, and store what it tells in place of what was stored.

    Each is stored as it ends. What has no program any more is dropped.
    """
    for each in reproductions():
        by = interpreter(each, folder)
        if by is None:
            say(f"{each.name}: {why_not(each)}")
            continue
        told = {
            "reproduction": each.name,
            "output": run(each, by, folder),
            "engine": each.engine,
            "version": version_of(each.engine, folder),
            "processor": machine.processor(),
            "date": machine.now()[:10],
        }
        _put(path, told)
        say(f"{each.name}: reproduced")


def _put(path: Path, told: dict[str, str]) -> None:
    names = [each.name for each in reproductions()]
    known = recorded(path) | {told["reproduction"]: told}
    rows = [known[name] for name in names if name in known]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    tables.write(path, text.getvalue())


def recorded(path: Path = OUTPUTS) -> dict[str, dict[str, str]]:
    """Return what each reproduction told when it was stored, by its name."""
    return {row["reproduction"]: row for row in tables.read(path, COLUMNS)}
