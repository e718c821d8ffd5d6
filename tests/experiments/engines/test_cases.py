"""The further cases of engines: every planted fault is caught, and what has nothing wrong is cleared."""

from __future__ import annotations

import numpy as np
import pytest

import softmax_lab as sl
from experiments.engines.cases import ASKED, FURTHER, LEFT_OUT
from softmax_lab.audit import CHECKS
from softmax_lab.audit.subject import PLAIN
from tests.audit.implementations import Array, Good

CASE = {check.name: check for check in FURTHER}


class LastOfNine(Good):
    """A loop of eight lanes that forgets the one class left over."""

    def softmax(self, z: Array, where: Array | None = None) -> Array:
        e = np.exp(z - z.max(axis=1, keepdims=True))
        kept = z.shape[1] - (z.shape[1] % 8 == 1 and z.shape[1] > 8)
        return e / e[:, :kept].sum(axis=1, keepdims=True)


class SixteenBitIndex(Good):
    def softmax(self, z: Array, where: Array | None = None) -> Array:
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e[:, : 2**16].sum(axis=1, keepdims=True)


class RunningSum(Good):
    def softmax(self, z: Array, where: Array | None = None) -> Array:
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / np.cumsum(e, axis=1)[:, -1:]


class InfinitiesMasked(Good):
    """Where a row has a mask of -inf, whatever is infinite in it is taken for masked."""

    def softmax(self, z: Array, where: Array | None = None) -> Array:
        some = (z == -np.inf).any(axis=1, keepdims=True) & np.isfinite(z).any(axis=1, keepdims=True)
        return sl.softmax(z, where=np.isfinite(z) | ~some)


class Poisoned(Good):
    """A scratch array that a NaN stays in."""

    def __init__(self) -> None:
        self.scratch = 0.0

    def softmax(self, z: Array, where: Array | None = None) -> Array:
        self.scratch += 0 * float(z.sum()) if np.isnan(z).any() else 0.0
        return sl.softmax(z, where=where) + z.dtype.type(self.scratch)


#: fault -> a case that must catch it, words of the verdict, and whether more than digits is lost
FAULTS: dict[type[Good], tuple[str, str, bool]] = {
    LastOfNine: ("widths", "9 classes: ", False),
    SixteenBitIndex: ("a hundred thousand classes", "every entry is 1.906 times", False),
    RunningSum: ("a hundred thousand classes", "ulp off", False),
    InfinitiesMasked: ("+inf beside -inf", "must be NaN", True),
    Poisoned: ("after NaN", "change what later calls return: nan", True),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_every_planted_fault_is_caught_and_named(fault: type[Good]) -> None:
    case, words, wrong = FAULTS[fault]
    finding = CASE[case].run(fault(), "softmax", "float32")
    assert finding is not None
    assert words in finding.problem
    assert finding.wrong is wrong
    assert {case for case, _, _ in FAULTS.values()} == set(CASE)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("function", PLAIN)
def test_what_has_nothing_wrong_is_cleared(function: str, dtype: str) -> None:
    for check in FURTHER:
        finding = check.run(Good(), function, dtype)
        assert finding is not None
        assert not finding.problem, (check.name, finding.problem)


def test_the_cases_are_the_audits_less_what_is_left_out() -> None:
    names = [check.name for check in ASKED]
    assert len(set(names)) == len(names)
    assert set(names) == {check.name for check in CHECKS} - set(LEFT_OUT) | set(CASE)
    assert set(LEFT_OUT) <= {check.name for check in CHECKS}
    assert all(len(check.reason) > 10 for check in ASKED)
