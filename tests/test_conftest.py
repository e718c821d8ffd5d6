"""What the tests have in common: examples that depend on nothing but the test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

DRAWS = """
import importlib, sys
import tests.conftest
from hypothesis import given, settings
from hypothesis import strategies as st

for name in sys.argv[1:]:
    importlib.import_module(name)

@settings(max_examples=200)
@given(st.integers(0, 2**32 - 1), st.floats(-1e3, 1e3))
def draw(n, x):
    print(n, x)

draw()
"""


def draws(folder: Path, *modules: str, **environment: str) -> list[str]:
    """Return the examples that a process draws which has imported these modules.

    Some of the modules are from ``folder``.
    """
    path = os.pathsep.join([str(ROOT), str(folder)])
    command = [sys.executable, "-c", DRAWS, *modules]
    lines = subprocess.check_output(
        command, text=True, cwd=folder, env={**os.environ, "PYTHONPATH": path, **environment}
    )
    return lines.splitlines()


def test_examples_do_not_depend_on_the_modules_that_are_imported(tmp_path: Path) -> None:
    (tmp_path / "constants.py").write_text(
        f"WHOLE = {list(range(10_000, 10_300))}\nREAL = {[n + 0.125 for n in range(300)]}\n"
    )
    alone = draws(tmp_path)
    assert len(set(alone)) > 100
    assert draws(tmp_path, "constants", "softmax_lab.audit.cases") == alone
    assert draws(tmp_path, CI="true") == alone


def test_a_module_named_like_its_function_is_tested_alone() -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "softmax_lab/data/long_tail.py",
    ]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.returncode == 0, run.stdout
    assert "2 passed" in run.stdout
