"""What is compiled before the cases: each program that they need, once, and nothing else."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import numpy as np
import pytest

from softmax_lab.audit import CHECKS
from softmax_lab.audit.adapters.adapter import Adapter, Rows
from softmax_lab.audit.adapters.jax import Jax
from softmax_lab.audit.ahead import compile_ahead, programs
from softmax_lab.audit.subject import PLAIN, Subject

FLOAT32 = np.dtype(np.float32)


class Noted(Jax):
    """JAX's adapter without JAX: it notes the programs that its calls need."""

    def __init__(self) -> None:
        self.needed: Counter[Any] = Counter()
        self.threads: set[int] = set()
        self.broken = False

    def softmax(self, z: Rows, *, where: Rows | None = None, axis: int = -1) -> Rows:
        return self._note(z, z, where=where, axis=axis)

    def log_softmax(self, z: Rows, *, where: Rows | None = None, axis: int = -1) -> Rows:
        return self._note(z, z, where=where, axis=axis)

    def cross_entropy(self, z: Rows, y: Rows) -> Rows:
        return self._note(z[:, 0], z, y)

    def cross_entropy_grad(self, z: Rows, y: Rows, *, upstream: Rows | None = None) -> Rows:
        given = {} if upstream is None else {"upstream": upstream}
        return self._note(z, z, y, **given)

    def _note(self, answer: Rows, z: Rows, y: Rows | None = None, **keywords: Any) -> Rows:
        if keywords.get("axis") == -1:
            del keywords["axis"]
        self.needed[self.program(z, y, **keywords)] += 1
        self.threads.add(threading.get_ident())
        if self.broken:
            raise RuntimeError("no")
        return answer


# XLA takes a tenth of a second to a second a program: a further one is to be had only where a case needs it
@pytest.mark.parametrize(("function", "number"), zip(PLAIN, (20, 20, 17, 18), strict=True))
def test_the_number_of_programs_is_held(function: str, number: int) -> None:
    assert len(programs(Subject(Noted(), function), FLOAT32)) == number


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("function", PLAIN)
def test_each_program_of_the_cases_is_called_for_once_ahead(function: str, dtype: str) -> None:
    asked, ahead = Noted(), Noted()
    for check in CHECKS:
        check.run(asked, function, dtype)
    compile_ahead(Subject(ahead, function), np.dtype(dtype))
    assert set(ahead.needed) == set(asked.needed)
    assert set(ahead.needed.values()) == {1}
    assert threading.get_ident() not in ahead.threads


def test_an_error_ahead_is_left_to_the_cases() -> None:
    adapter = Noted()
    adapter.broken = True
    compile_ahead(Subject(adapter, "softmax"), FLOAT32)
    assert len(adapter.needed) == 20


def test_what_compiles_nothing_is_not_called_ahead() -> None:
    class Plain(Adapter):
        def softmax(self, z: Rows) -> Rows:
            raise AssertionError("called")

    compile_ahead(Subject(Plain(), "softmax"), FLOAT32)
    compile_ahead(Subject(object(), "softmax"), FLOAT32)
