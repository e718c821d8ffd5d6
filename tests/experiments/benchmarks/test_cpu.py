"""The benchmark of the CPU: providers compute the same, and every one has its rows."""

from __future__ import annotations

import csv
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import softmax_lab as sl
from experiments import machine
from experiments.benchmarks import _command, _timing, cpu

SHAPE = (64, 33)


@pytest.mark.parametrize("provider", ["scipy", "torch"])
@pytest.mark.parametrize("task", cpu.TASKS)
def test_a_peer_computes_what_the_package_computes(provider: str, task: str) -> None:
    pytest.importorskip(provider)
    problem = cpu.make_problem(*SHAPE, "float64")
    ours = np.array(cpu.softmax_lab(problem)[task]())
    theirs = cpu.PROVIDERS[provider](problem)[task]()
    np.testing.assert_allclose(np.asarray(theirs), ours, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("provider", cpu.ON_JAX[1:])
def test_a_provider_on_jax_computes_what_the_package_computes(provider: str) -> None:
    pytest.importorskip("optax")
    problem = cpu.make_problem(*SHAPE, "float32")
    calls = cpu.PROVIDERS[provider](problem)
    assert set(calls) == ({"loss"} if provider == "optax" else set(cpu.TASKS))
    for task, call in calls.items():
        ours = np.array(cpu.softmax_lab(problem)[task]())
        np.testing.assert_allclose(np.asarray(call()), ours, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_copy_copies_all_parts(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sl, "get_num_threads", lambda: threads)
    problem = cpu.make_problem(5, 3, "float32")
    np.testing.assert_array_equal(cpu.copy(problem)["loss"](), problem.logits)


def test_narrower_vectors_take_a_process_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    def run(command: list[str], *, env: dict[str, str], check: bool) -> subprocess.CompletedProcess[bytes]:
        started.append(command)
        assert "-avx512f" in env["NUMBA_CPU_FEATURES"].split(",")
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(machine, "_features", lambda: {"avx512f": True, "avx2": True})
    monkeypatch.setattr(subprocess, "run", run)
    arguments = ["--vectors", "256", "--shape", "8", "4"]
    assert cpu.main(arguments) == 3
    assert [command[2:] for command in started] == [["experiments.benchmarks.cpu", *arguments]]


def test_vectors_as_wide_as_asked_take_no_other_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "vectors", lambda: "256 of 512")
    monkeypatch.setattr(machine, "limit_threads", lambda threads: None)
    done: list[int] = []
    monkeypatch.setattr(_command.Benchmark, "run", lambda self, options: done.append(options.vectors))
    assert cpu.main(["--vectors", "256"]) == 0
    assert done == [256]


def test_errors_are_counted_in_ulp() -> None:
    pytest.importorskip("mpmath")
    problem = cpu.make_problem(*SHAPE, "float32")
    for task in cpu.TASKS:
        right = np.array(cpu.softmax_lab(problem)[task]())
        assert cpu.worst_ulp(task, problem, right) <= 1
        assert cpu.worst_ulp(task, problem, right * np.float32(1 + 2.0**-20)) > 5
    assert np.isnan(cpu.worst_ulp("loss", cpu.make_problem(3, 2, "float32"), right))  # 1/3 is rounded


def test_every_provider_and_task_has_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mpmath")
    monkeypatch.setattr(_timing, "REST", 0.0)
    monkeypatch.setattr(machine, "limit_threads", lambda threads: None)
    path = tmp_path / "cpu.csv"
    arguments = ["--shape", "64", "33", "--dtype", "float32", "--budget", "0", "--out", str(path)]
    assert cpu.main([*arguments, "--provider", "copy", "softmax_lab", "--task", "loss", "softmax"]) == 0
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == cpu.COLUMNS
    assert [(row["provider"], row["task"]) for row in rows] == [
        ("copy", "loss"),
        ("softmax_lab", "loss"),
        ("softmax_lab", "softmax"),
    ]
    assert all(float(row["ms_20"]) <= float(row["ms"]) <= float(row["ms_80"]) for row in rows)
    assert len({row["when"] for row in rows}) == 1  # one run of a shape


def test_jax_arrays_have_shapes_and_providers_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "limit_threads", lambda threads: None)
    options = cpu.BENCHMARK.parse(["--jax"])
    assert [job.name for job in cpu.jobs(options)] == [f"float32 {n}x{k}" for n, k in cpu.JAX_SHAPES]
    assert options.provider == cpu.ON_JAX
    assert not set(cpu.JAX_SHAPES) & {*cpu.SHAPES, *cpu.SWEEP}
    assert set(cpu.BENCHMARK.parse([]).provider) == set(cpu.PROVIDERS) - {"optax", "softmax_lab.jax"}


def test_on_jax_arrays_the_providers_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row has its own provider's times."""
    monkeypatch.setattr(_timing, "REST", 0.0)
    order: list[str] = []

    def provider(name: str, milliseconds: float) -> Callable[[Any], dict[str, Any]]:
        def run() -> Any:
            order.append(name)
            time.sleep(milliseconds / 1e3)
            return np.zeros((4, 3), np.float32)

        return lambda problem: {"softmax": run}

    monkeypatch.setattr(cpu, "worst_ulp", lambda task, problem, result: 0.0)
    providers = {"slow": provider("slow", 20.0), "fast": provider("fast", 1.0), "none": _not_installed}
    monkeypatch.setattr(cpu, "PROVIDERS", providers)
    rows = list(cpu.rows_of((4, 3), "float32", list(providers), ["softmax"], 0.0, taking_turns=True))
    assert [(row["provider"], row["task"], row["repeats"]) for row in rows] == [
        ("slow", "softmax", 7),
        ("fast", "softmax", 7),
    ]
    assert rows[0]["ms"] > 20.0 > rows[1]["ms"] > 1.0
    assert order[:18] == ["slow", "fast"] * (2 + 7)


def _not_installed(problem: Any) -> Any:
    raise ImportError


def test_the_sweep_is_another_list_of_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "limit_threads", lambda threads: None)
    for flags, shapes in (([], cpu.SHAPES), (["--sweep"], cpu.SWEEP)):
        jobs = cpu.jobs(cpu.BENCHMARK.parse([*flags, "--dtype", "float64"]))
        assert [job.name for job in jobs] == [f"float64 {n}x{k}" for n, k in shapes]
