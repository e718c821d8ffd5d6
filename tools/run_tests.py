"""Run stages of the tests in order, timed, and stop at the first that fails.

python tools/run_tests.py               the group `test`: what `make test` runs
python tools/run_tests.py long          the group `long`: the pages, a clean install, compiled modes, programs
python tools/run_tests.py versions      the group `versions`: other Pythons, the lowest and newest releases
python tools/run_tests.py ruff mypy     only these stages
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TYPED = ("softmax_lab", "tools", "tests", "experiments", "examples", "book/_ext")
NOTEBOOKS = ("book", "experiments")
# nbval's own pytest run: the options and the warnings of the unit tests are not meant for it.
NBVAL = (
    "-o",
    "addopts=",
    "-o",
    "filterwarnings=",
    "--nbval",
    "--nbval-current-env",
    "--nbval-sanitize-with",
    "tests/book/sanitise.cfg",
)
GROUPS = {
    "test": ("ruff", "format", "mypy", "pytest", "notebooks", "book", "links"),
    "long": ("pages", "pdf", "wheel", "compiled", "clients"),
    # an hour, and what others release decides
    "versions": ("python3.12", "lowest", "lowest-jax", "newest", "python3.13"),
}


NEEDS = {"pages": ("book",), "pdf": ("book",), "links": ("book",)}  # they look at what it renders


def stages() -> dict[str, list[str]]:
    """Return the stages by name: the arguments for this Python."""
    return {
        "ruff": ["-m", "ruff", "check", "."],
        "format": ["-m", "ruff", "format", "--check", "."],
        "mypy": ["-m", "mypy", *(folder for folder in TYPED if any((ROOT / folder).rglob("*.py")))],
        "pytest": ["-m", "pytest", "-n", "2", "-m", "not site and not long and not clients"],
        "notebooks": ["-m", "pytest", *NBVAL, "-n", "2", "--dist", "loadfile", *notebooks()],
        "book": ["tools/build_book.py", "--stored"],
        "links": ["tools/check_site.py"],
        "pages": ["-m", "pytest", "-n", "2", "-m", "site", "tests/book/test_pages.py"],
        "pdf": ["-m", "pytest", "-m", "site", "tests/book/test_pdf.py"],  # one process prints the book
        "wheel": ["tools/versions.py", "wheel"],
        "compiled": ["-m", "pytest", "-n", "2", "-m", "long and not clients"],
        "clients": ["tools/versions.py", "clients"],
        "python3.12": ["tools/versions.py", "without-torch", "3.12"],
        "lowest": ["tools/versions.py", "lowest-without-torch"],
        "lowest-jax": ["tools/versions.py", "lowest-jax"],
        "newest": ["tools/versions.py", "newest-without-torch"],
        "python3.13": ["tools/versions.py", "without-torch", "3.13"],
    }


def notebooks() -> list[str]:
    """Return every notebook of the project, relative to its root."""
    return [
        str(path.relative_to(ROOT))
        for folder in NOTEBOOKS
        for path in sorted((ROOT / folder).glob("*.ipynb"))
    ]


def chosen(names: Sequence[str]) -> list[str]:
    """Return the stages that groups and stages stand for, each once and after what it needs."""
    wanted = (stage for name in names or ("test",) for stage in GROUPS.get(name, (name,)))
    return list(dict.fromkeys(each for stage in wanted for each in (*NEEDS.get(stage, ()), stage)))


def run_stage(name: str, command: Sequence[str]) -> tuple[int, float]:
    """Run one stage; return its exit status and how many seconds it took."""
    print(f"\n=== {name}: python {' '.join(command)}", flush=True)
    start = time.perf_counter()
    # Notebooks run in their own folder and look at experiments, which are not installed.
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    status = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, check=False).returncode
    return status, time.perf_counter() - start


def table(seconds: Mapping[str, float]) -> Iterable[str]:
    """Return a line a stage: its seconds and its name."""
    return (f"{value:8.1f} s  {name}" for name, value in [*seconds.items(), ("total", sum(seconds.values()))])


def main(names: Sequence[str]) -> int:
    """Run the named groups and stages; return the exit status of the first that fails, else 0."""
    commands = stages()
    if unknown := set(names) - commands.keys() - GROUPS.keys():
        print(
            f"No stage {', '.join(sorted(unknown))}; there are {', '.join([*GROUPS, *commands])}.",
            file=sys.stderr,
        )
        return 2
    seconds: dict[str, float] = {}
    outcome, status = "all passed", 0
    for name in chosen(names):
        status, seconds[name] = run_stage(name, commands[name])
        if status:
            outcome = f"{name} failed with status {status}"
            break
    print("\n".join([f"\n=== {outcome}", *table(seconds)]), flush=True)
    return status


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
