"""An environment an engine: its packages conflict with others', so each has a folder of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from .recipes import PROGRAMS, Engine

__all__ = ["FOLDER", "NotToBeHadError", "command", "make"]

#: of the checkout, and ignored by git
FOLDER = Path(__file__).parents[2] / ".engines"
_DONE = "installed.txt"


class NotToBeHadError(Exception):
    """The engine cannot be installed here; the message says why."""


def make(name: str, engine: Engine, folder: Path = FOLDER) -> Path:
    """Install an engine, unless its pinned packages are there, and return its folder.

    Raises
    ------
    NotToBeHadError
        Where the machine lacks a program, or the packages cannot be installed.
    """
    own = folder / name
    for program in (*engine.needs, *(("node", "npm") if engine.by_npm else ())):
        if shutil.which(program) is None:
            raise NotToBeHadError(f"it needs {program}, which this machine has not")
    wanted = "\n".join(engine.packages) + "\n"
    if (own / _DONE).is_file() and (own / _DONE).read_text(encoding="utf-8") == wanted:
        return own
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(parents=True)
    try:
        (_by_npm if engine.by_npm else _by_pip)(engine, own)
    except NotToBeHadError:
        shutil.rmtree(own, ignore_errors=True)
        raise
    (own / _DONE).write_text(wanted, encoding="utf-8")
    return own


def _by_pip(engine: Engine, own: Path) -> None:
    # this Python's own pip installs: one less in each environment
    _run([sys.executable, "-m", "venv", "--without-pip", str(own)])
    python = str(own / "bin" / "python")
    options = ["--no-deps"] if engine.alone else []
    if engine.borrows:
        # behind its own packages: what both have is its own
        packages = Path(
            _run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip()
        )
        (packages / "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
        options += ["--ignore-installed"] if engine.alone else []
    quiet = ["--quiet", "--disable-pip-version-check", "--no-cache-dir", "--no-compile"]
    _run([sys.executable, "-m", "pip", "--python", python, "install", *quiet, *options, *engine.packages])


def _by_npm(engine: Engine, own: Path) -> None:
    # scripts would fetch programs from elsewhere, which none of these engines needs here
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    _run(["npm", "install", "--prefix", str(own), *options, *engine.packages])


def _run(arguments: Sequence[str]) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower()] or lines
        raise NotToBeHadError(
            f"{Path(arguments[0]).name} says: {errors[-1].strip()[:200] if errors else '?'}"
        )
    return done.stdout


def command(engine: Engine, own: Path, arguments: Sequence[str]) -> list[str]:
    """Return what runs an engine's program in its environment."""
    runs = "node" if engine.by_npm else str(own / "bin" / "python")
    variables = {**engine.variables, "ENGINE_FOLDER": str(own)}
    settings = [f"{name}={value}" for name, value in variables.items()]
    return ["env", *settings, runs, str(PROGRAMS / engine.program), *arguments]
