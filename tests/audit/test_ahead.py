"""What is compiled before the cases: each program that they need, once, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from softmax_lab import audit
from softmax_lab.audit import CHECKS, ahead
from softmax_lab.audit.adapters import ADAPTERS, make
from softmax_lab.audit.adapters.adapter import Adapter, Rows
from softmax_lab.audit.adapters.jax import Jax
from softmax_lab.audit.adapters.torch import TorchCompiled
from softmax_lab.audit.ahead import compile_ahead, programs
from softmax_lab.audit.command import Program
from softmax_lab.audit.subject import PLAIN, Subject

from .adapters.made import made

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


class NotedTorch(TorchCompiled):
    """Torch's compiled adapter without torch."""

    def __init__(self) -> None:
        pass


# torch compiles apart long rows, and labels that are a column of a table
def test_torch_is_called_for_each_layout_of_logits_and_labels() -> None:
    softmax, loss = (
        programs(Subject(NotedTorch(), function), FLOAT32) for function in ("softmax", "cross_entropy")
    )
    assert {((8, 10), None), ((1, 1000), None), ((1, 61 * 16_384), None)} <= softmax.keys()
    assert {((6, 10), (24,)), ((20_000, 10), (8,)), ((1, 61 * 16_384), (8,))} <= loss.keys()
    assert programs(Subject(NotedTorch(), "cross_entropy_grad"), FLOAT32).keys() >= loss.keys()


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


class Stacked(Adapter):
    """An adapter whose programs other processes make; it computes as the textbook does."""

    name = "stacked"
    compiled_in = "processes"
    sharing = MappingProxyType({"cross_entropy_grad": "cross_entropy"})
    dtypes = ("float32", "float64")

    def __init__(self, *, on_disk: bool = False) -> None:
        self._textbook = make("numpy")
        self._on_disk = on_disk

    def compiles(self) -> bool:
        return not self._on_disk

    def softmax(self, z: Rows) -> Rows:
        return np.asarray(self._textbook.softmax(z))

    def cross_entropy(self, z: Rows, y: Rows) -> Rows:
        return np.asarray(self._textbook.cross_entropy(z, y))

    def cross_entropy_grad(self, z: Rows, y: Rows) -> Rows:
        return np.asarray(self._textbook.cross_entropy_grad(z, y))


class Others:
    """Stand-ins for the other processes, and what they are asked."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, cores: int = 2) -> None:
        self.started = 0
        self.act = ""
        self._log = folder / "asked"
        self._log.touch()
        monkeypatch.setitem(ADAPTERS, "stacked", Stacked)
        monkeypatch.setattr(ahead, "_cores", lambda: cores)
        monkeypatch.setattr(ahead, "_arguments", self._arguments)

    def _arguments(self, adapter: Adapter) -> list[str]:
        self.started += 1
        code = f"""
import sys, time
for line in sys.stdin:
    open({str(self._log)!r}, "a").write(line)
    {self.act or "pass"}
    print("made", flush=True)
"""
        return [sys.executable, "-c", code]

    @property
    def asked(self) -> list[str]:
        return self._log.read_text().splitlines()

    def findings(self, adapter: Stacked) -> pd.DataFrame:
        return audit.run({"stacked": adapter}, progress=False)


@pytest.fixture
def others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Others:
    return Others(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def alone() -> pd.DataFrame:
    return audit.run({"stacked": Stacked(on_disk=True)}, progress=False)


def test_another_process_begins_with_the_last_functions_and_makes_shared_programs_once(
    others: Others, alone: pd.DataFrame
) -> None:
    pd.testing.assert_frame_equal(others.findings(Stacked()), alone)
    assert others.started == 1
    assert others.asked[0] == "cross_entropy float64"
    assert set(others.asked) <= {
        f"{function} {dtype}" for function in ("softmax", "cross_entropy") for dtype in Stacked.dtypes
    }
    assert len(set(others.asked)) == len(others.asked)


def test_what_another_process_has_begun_is_waited_for(others: Others, tmp_path: Path) -> None:
    done = tmp_path / "done"
    others.act = f"time.sleep(1.0); open({str(done)!r}, 'w').close()"
    adapter = Stacked()
    subjects = [(Subject(adapter, function), FLOAT32) for function in ("softmax", "cross_entropy")]
    with ahead.Ahead(subjects) as due:
        due.ready(*subjects[0])
        while not others.asked:
            time.sleep(0.01)
        due.ready(*subjects[1])
        assert done.exists()
    assert others.asked == ["cross_entropy float32"]


@pytest.mark.parametrize("act", ["sys.exit(1)", "time.sleep(600)", "print('what?' * 9, flush=True)"])
def test_another_process_that_fails_changes_nothing(
    act: str, others: Others, alone: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "_LIMIT", 0.5)
    others.act = act
    pd.testing.assert_frame_equal(others.findings(Stacked()), alone)
    assert others.started == 1


@pytest.mark.parametrize("executable", [None, "", "/nowhere/python"])
def test_python_that_cannot_be_started_changes_nothing(
    executable: Any, others: Others, alone: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "_arguments", lambda adapter: [executable, "-c", ""])
    pd.testing.assert_frame_equal(others.findings(Stacked()), alone)


def test_no_process_is_started_for_programs_that_are_on_disk(others: Others) -> None:
    others.findings(Stacked(on_disk=True))
    assert others.started == 0


def test_no_process_is_started_for_an_adapter_that_only_this_one_has(
    others: Others, alone: pd.DataFrame
) -> None:
    class Mine(Stacked):
        pass

    pd.testing.assert_frame_equal(others.findings(Mine()), alone)
    assert others.started == 0


@pytest.mark.parametrize(("cores", "number"), [(1, 0), (3, 2), (64, 4)])
def test_there_are_as_many_processes_as_cores_and_few(
    cores: int, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = Others(tmp_path, monkeypatch, cores)
    subject = Subject(Stacked(), "softmax")
    with ahead.Ahead([(subject, FLOAT32)]) as due:
        due.ready(subject, FLOAT32)
    assert others.started == number


def _interrupted(others: Others, subjects: list[tuple[Subject, Any]]) -> None:
    with ahead.Ahead(subjects) as due:
        due.ready(*subjects[0])
        while not others.asked:
            time.sleep(0.01)
        raise KeyboardInterrupt


def test_an_interruption_ends_the_other_processes(others: Others) -> None:
    others.act = "time.sleep(600)"
    adapter = Stacked()
    subjects = [(Subject(adapter, function), FLOAT32) for function in ("softmax", "cross_entropy")]
    begun, before = time.perf_counter(), set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        _interrupted(others, subjects)
    # the threads that wait for an answer end too: Python waits for them before it ends
    while any(thread.name.startswith("ThreadPoolExecutor") for thread in set(threading.enumerate()) - before):
        assert time.perf_counter() - begun < 30.0
        time.sleep(0.01)


def test_a_process_answers_when_programs_are_made_and_ends_with_its_input() -> None:
    program = Program(ahead._arguments(make("numpy")))
    try:
        assert program.answer("softmax float32", 60.0) == "made"
        assert program.answer("cross_entropy bfloat16", 60.0) == "made"
    finally:
        program.end()
    assert program._process.returncode == 0


# torch keeps a program by what it computes, so that one process finds what another has made
@pytest.mark.long
def test_torch_finds_on_disk_what_another_process_has_compiled(tmp_path: Path) -> None:
    made("torch.compile")
    code = f"""
import os
os.environ["TORCHINDUCTOR_CACHE_DIR"] = {str(tmp_path)!r}
from torch._dynamo.utils import counters
from softmax_lab import audit
from softmax_lab.audit import ahead
from softmax_lab.audit.adapters import make
ahead._cores = lambda: 2
wanted = dict(functions=["softmax", "cross_entropy", "cross_entropy_grad"], dtypes=["float64"])
adapter = make("torch.compile")
first = audit.run({{"torch.compile": adapter}}, progress=False, **wanted)
found = counters["inductor"]["fxgraph_cache_hit"]
ahead._cores = lambda: 1
second = audit.run(["torch.compile"], progress=False, **wanted)
assert first.equals(second)
assert adapter.compiles() and found >= 4, counters["inductor"]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
