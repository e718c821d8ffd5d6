"""Hypothesis profiles, and the table of worst errors in ulp that closes a run.

``default`` repeats the same examples on every machine, ``thorough`` (pytest --hypothesis-profile=thorough)
searches for new ones, and ``fuzz`` searches longer, for ``test_fuzz``.

The same examples means: in whatever order and company, on however loaded a machine, and wherever ``CI`` is
set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

from softmax_lab import _dispatch

from .ulps import Record, table

# Hypothesis draws one number in twenty from constants, half of them from the local modules imported so far.
# Alone a test would see other examples than after its neighbours. Older releases know no such constants.
if hasattr(providers, "_get_local_constants"):
    from hypothesis.internal.constants_ast import Constants

    _no_constants = Constants()
    providers._get_local_constants = lambda: _no_constants

# Every profile says all that matters: the rest comes from one that hypothesis chooses by the environment.
_common: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": [
        HealthCheck.function_scoped_fixture,  # the path is the same for every example
        HealthCheck.too_slow,  # a loaded machine is no defect
    ],
}
settings.register_profile("default", max_examples=50, derandomize=True, database=None, **_common)
settings.register_profile("thorough", max_examples=2000, derandomize=False, print_blob=True, **_common)
settings.register_profile("fuzz", max_examples=10_000, derandomize=False, print_blob=True, **_common)
settings.load_profile("default")

_records: list[tuple[str, str, str, float]] = []


@pytest.fixture
def record_ulp(record_property: Callable[[str, object], None]) -> Record:
    """Record a measured error as a property of the test report.

    So it reaches the terminal from parallel workers too.
    """
    return lambda function, dtype, case, error: record_property("ulp", (function, dtype, case, float(error)))


@pytest.fixture(params=["compiled", "reference"])
def each_path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test by the compiled loops where they reach, and again by the NumPy reference alone."""
    if request.param == "reference":
        monkeypatch.setattr(_dispatch, "kernels", lambda: None)
    return str(request.param)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call":
        _records.extend(tuple(value) for key, value in report.user_properties if key == "ulp")  # type: ignore[misc, arg-type]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _records:
        terminalreporter.section("worst errors in ulp")
        for line in table(_records):
            terminalreporter.write_line(line)
