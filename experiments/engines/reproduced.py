"""Reproductions: programs of a few lines, each of which shows one surprising answer and the exact value."""

from __future__ import annotations

import ast
import csv
import importlib.metadata
import importlib.util
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from experiments import machine, tables

from . import environments
from .recipes import ENGINES

__all__ = [
    "FOLDER",
    "OUTPUTS",
    "Reproduction",
    "python_of",
    "recorded",
    "reproduce",
    "reproductions",
    "run",
    "why_not",
]

FOLDER = Path(__file__).parent / "reproductions"
OUTPUTS = tables.RESULTS / "engines_reproduced.csv"
COLUMNS = ("reproduction", "output", "engine", "version", "processor", "date")
_HEAD = re.compile(
    r'"""(?P<engine>[^,\n]+), (?P<function>\w+), (?P<question>[^:\n]+): (?P<words>[^\n]+)"""\n\n'
)
_TOLD = ("computed", "exact")  # what its lines begin with; engines print lines of their own
_TIMEOUT = 900.0  # s, on a machine that others use too


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
    def modules(self) -> list[str]:
        """Return the packages that it imports."""
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
    for path in sorted(folder.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        head = _HEAD.match(text)
        if head is None:
            raise ValueError(f'{path.name} must begin with """engine, function, question: words"""')
        found.append(Reproduction(path, **head.groupdict(), code=text[head.end() :]))
    return found


def python_of(reproduction: Reproduction, folder: Path = environments.FOLDER) -> str | None:
    """Return the Python that has the engine: that of its own environment, or else this one; None without."""
    own = folder / reproduction.engine / "bin" / "python"
    if own.is_file():
        return str(own)
    return None if _absent(reproduction) else sys.executable


def why_not(reproduction: Reproduction) -> str:
    """Return why a reproduction is not run, where it is not."""
    return f"{reproduction.engine} is not installed: no {listed_modules(reproduction)} here"


def listed_modules(reproduction: Reproduction) -> str:
    """Return the packages that are missing in this Python."""
    return ", ".join(_absent(reproduction))


def _absent(reproduction: Reproduction) -> list[str]:
    return [name for name in reproduction.modules if importlib.util.find_spec(name) is None]


def run(reproduction: Reproduction, python: str) -> str:
    """Run a program by itself and return what it tells.

    Raises
    ------
    RuntimeError
        Where it fails, with the last line of its error.
    """
    variables = {"TF_CPP_MIN_LOG_LEVEL": "3", "PATH": os.environ.get("PATH", "")}
    done = subprocess.run(
        [python, str(reproduction.path)],
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
        python = python_of(each, folder)
        if python is None:
            say(f"{each.name}: {why_not(each)}")
            continue
        told = {
            "reproduction": each.name,
            "output": run(each, python),
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
