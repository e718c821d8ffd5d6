"""The tests mirror the experiments: a file a module, in the same folder."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parent
EXPERIMENTS = TESTS.parents[1] / "experiments"
#: run in environments of their own: tests/experiments/engines/test_recipes.py asks them
PROGRAMS = EXPERIMENTS / "engines" / "programs"
#: run by themselves: tests/experiments/engines/test_reproduced.py does
REPRODUCTIONS = EXPERIMENTS / "engines" / "reproductions"
NO_CODE = ("__init__.py", "__main__.py")  # names that are handed on, and a call


def test_every_module_has_its_test_file() -> None:
    paths = [path for path in EXPERIMENTS.rglob("*.py") if path.parent not in (PROGRAMS, REPRODUCTIONS)]
    modules = [path.relative_to(EXPERIMENTS) for path in paths]
    wanted = {
        module.parent / f"test_{module.stem.lstrip('_')}.py"
        for module in modules
        if module.name not in NO_CODE
    }
    found = {path.relative_to(TESTS) for path in TESTS.rglob("test_*.py")} - {Path("test_layout.py")}
    assert found == wanted


def test_a_command_is_only_called_where_python_looks_for_it() -> None:
    calls = [path.read_text(encoding="utf-8") for path in EXPERIMENTS.rglob("__main__.py")]
    assert calls
    assert all(text.endswith("from .command import main\n\nraise SystemExit(main())\n") for text in calls)
