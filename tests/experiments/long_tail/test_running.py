"""Runs are done once, here and on a cluster, and kill -9 loses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import long_tail as lt
from experiments.long_tail import rows as stored
from experiments.long_tail import running
from tests.experiments.long_tail.toy import TOY
from tests.limits import HANG

ROOT = Path(__file__).resolve().parents[3]


def numbers(path: Path) -> dict[str, list[str]]:
    """Return what was measured by key, without the time that it took."""
    return {row["key"]: [row[name] for name in stored.MEASURES if name != "seconds"] for row in lt.read(path)}


CONFIGS = [
    replace(TOY, loss=loss, seed=seed) for loss, seed in (("plain", 0), ("plain", 1), ("label_smoothing", 0))
]
BROKEN = replace(TOY, dataset="cifar10", protocol="convnet")  # without its data


def test_runs_are_done_once_and_their_rows_say_how(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lt.run_all(CONFIGS[:1] * 2, table, progress=False) == []
    assert lt.run_all(CONFIGS, table, progress=False) == []
    monkeypatch.setattr(running, "_on_this_machine", lambda *_: pytest.fail("something was run again"))
    assert lt.run_all(CONFIGS, table, progress=False) == []
    rows = lt.read(table)
    assert sorted(row["key"] for row in rows) == sorted(config.key for config in CONFIGS)
    for row in rows:
        assert "torch " in row["versions"]
        assert row["hardware"]
        assert float(row["seconds"]) > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("where", ["processes", pytest.param("cluster", marks=pytest.mark.long)])
def test_processes_and_a_cluster_give_what_one_process_gives(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    alone, many = tmp_path / "alone.csv", tmp_path / "many.csv"
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # one thread each: sums are in the same order
    assert lt.run_all(CONFIGS, alone, progress=False) == []
    if where == "processes":
        monkeypatch.setattr(
            running, "prepare", lambda *_: None
        )  # let the worker find that the data are missing
        failed = lt.run_all([*CONFIGS, BROKEN], many, jobs=2, progress=False)
    else:
        distributed = pytest.importorskip("distributed")
        with distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster:
            failed = lt.run_all([*CONFIGS, BROKEN], many, scheduler=cluster.scheduler_address, progress=False)
    assert [config for config, _ in failed] == [BROKEN]
    assert "say where, with --data PATH" in failed[0][1]
    assert numbers(many) == numbers(alone)


@pytest.mark.long
def test_kill_9_loses_nothing_and_repeats_nothing(table: Path) -> None:
    rhos, seeds = [1.0, 2.0, 10.0, 50.0], list(range(8))  # a stack for each rho
    # without Numba: its loops would take longer to load than the runs take
    start = (
        "import sys; sys.modules['numba'] = None; from experiments.long_tail import main; "
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [
        sys.executable,
        "-c",
        start,
        "final",
        "--epochs",
        "1",
        "--jobs",
        "1",
        "--quiet",
        "--out",
        str(table),
    ]
    command += ["--loss", "plain", "--rho", *map(str, rhos), "--seed", *map(str, seeds)]
    expected = {replace(TOY, rho=rho, seed=seed).key for rho in rhos for seed in seeds}
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL)
    end = time.monotonic() + HANG
    while len(lt.read(table)) < 3 and time.monotonic() < end and process.poll() is None:
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was done before it could be killed"
    before = lt.read(table)
    assert 3 <= len(before) < len(expected)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=HANG)
    assert done.returncode == 0, done.stderr
    rows = lt.read(table)
    assert rows[: len(before)] == before  # nothing lost, nothing done again
    assert sorted(row["key"] for row in rows) == sorted(expected)
