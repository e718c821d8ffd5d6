"""Run the stages of `make test` in order, timed, and stop at the first that fails.

python tools/run_tests.py               every stage
python tools/run_tests.py ruff mypy     only these
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TYPED = ("softmax_lab", "tools", "tests", "experiments", "book/_ext")
NOTEBOOKS = ("book", "experiments")
# nbval's own pytest run: the options and the warnings of the unit tests are not meant for it.
NBVAL = ("-o", "addopts=", "-o", "filterwarnings=", "--nbval", "--nbval-current-env", "--nbval-sanitize-with", "tests/book/sanitise.cfg")


def stages() -> dict[str, list[str]]:
    """Return the stages by name: the arguments for this Python."""
    return {
        "ruff": ["-m", "ruff", "check", "."],
        "format": ["-m", "ruff", "format", "--check", "."],
        "mypy": ["-m", "mypy", *(folder for folder in TYPED if any((ROOT / folder).rglob("*.py")))],
        "pytest": ["-m", "pytest", "-n", "2", "-m", "not site"],
        "notebooks": ["-m", "pytest", *NBVAL, "-n", "2", "--dist", "loadfile", *notebooks()],
        "book": ["tools/build_book.py", "--stored"],
        "links": ["tools/check_site.py"],
        "pages": ["-m", "pytest", "-n", "2", "-m", "site", "tests/book/test_pages.py"],
    }


def notebooks() -> list[str]:
    """Return every notebook of the project, relative to its root."""
    return [str(path.relative_to(ROOT)) for folder in NOTEBOOKS for path in sorted((ROOT / folder).glob("*.ipynb"))]


def run_stage(name: str, command: Sequence[str]) -> tuple[int, float]:
    """Run one stage; return its exit status and how many seconds it took."""
    print(f"\n=== {name}: python {' '.join(command)}", flush=True)
    start = time.perf_counter()
    # Notebooks run in their own folder and look at experiments, which are not installed.
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    status = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, check=False).returncode
    return status, time.perf_counter() - start


def main(names: Sequence[str]) -> int:
    """Run the named stages, or all; return the exit status of the first that fails, else 0."""
    commands = stages()
    if unknown := set(names) - commands.keys():
        print(f"No stage {', '.join(sorted(unknown))}; there are {', '.join(commands)}.", file=sys.stderr)
        return 2
    seconds: dict[str, float] = {}
    for name in names or commands:
        status, seconds[name] = run_stage(name, commands[name])
        if status:
            print(f"\n=== {name} failed with status {status} after {seconds[name]:.1f} s", file=sys.stderr)
            return status
    print(
        "\n=== all passed\n" + "\n".join(f"{value:8.1f} s  {name}" for name, value in [*seconds.items(), ("total", sum(seconds.values()))])
    )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
