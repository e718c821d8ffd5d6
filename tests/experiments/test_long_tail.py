"""The grid: keyed rows, written whole, resumed after kill -9 with nothing lost and nothing twice, here and on
a cluster; and the sums.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments import long_tail as lt
from experiments import long_tail_training as training
from experiments.long_tail_training import LOSSES, Config
from tests.limits import HANG

ROOT = Path(__file__).resolve().parents[2]
TOY = Config(rho=10.0, epochs=1)
MEASURED = {name: float(i) for i, name in enumerate(lt.MEASURES)}


def store(path: Path, config: Config, **measured: float) -> None:
    lt.append(path, lt.row_of(config, MEASURED | measured, {"versions": "v", "hardware": "h", "commit": "c"}))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "results" / "long_tail.csv"


# ---- configurations and the grid ----


def test_a_key_is_the_whole_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    changes: list[dict[str, Any]] = [
        {"dataset": "cifar10"},
        {"protocol": "convnet"},
        {"rho": 100.0},
        {"loss": "focal"},
        {"seed": 1},
        {"settings": (("gamma", 1.0),)},
        {"part": "tune"},
        {"noise": 0.1},
        {"absent": 1},
        {"permuted": True},
        {"epochs": 2},
    ]
    keys = [TOY.key, *(replace(TOY, **change).key for change in changes)]
    assert len(set(keys)) == len(keys)
    assert set(Config.__dataclass_fields__) == {name for change in changes for name in change}
    assert replace(TOY).key == TOY.key
    other = replace(training.PROTOCOLS["digits"]["mlp"], batch=16)
    monkeypatch.setitem(training.PROTOCOLS["digits"], "mlp", other)
    assert TOY.key != keys[0]  # another protocol under the same name


@pytest.mark.parametrize(
    "change", [{"dataset": "mnist"}, {"protocol": "resnet32"}, {"loss": "hinge"}, {"part": "test"}]
)
def test_a_wrong_configuration_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="must be"):
        replace(TOY, **change)  # type: ignore[arg-type]


def test_every_loss_has_its_grid_and_equal_budgets() -> None:
    assert set(lt.GRIDS) == set(LOSSES)
    assert not set(lt.TUNING_SEEDS) & set(lt.FINAL_SEEDS)
    assert len(lt.FINAL_SEEDS) >= 5
    for loss, settings in lt.GRIDS.items():
        assert len(settings) == len(set(settings)) in (1, 4)
        for each in settings:
            training.make_loss(loss, training.Context(np.array([50, 5, 0]), 10), each)
    for config in lt.ablation(replace(TOY, loss="gradient_balanced")):
        training.make_loss(config.loss, training.Context(np.array([50, 5]), 10), config.settings)
    assert lt.ablation(TOY) == []


def test_the_choice_is_the_best_mean_on_the_tuning_seeds(table: Path) -> None:
    base = replace(TOY, loss="focal")
    configs = lt.tune(base)
    assert {config.part for config in configs} == {"tune"}
    assert {config.seed for config in configs} == set(lt.TUNING_SEEDS)
    best = lt.GRIDS["focal"][2]
    for config in configs[:-1]:
        store(
            table,
            config,
            balanced_accuracy=60.0
            + 5 * (config.settings == best)
            + 9 * (config == configs[0])
            - 9 * (config == configs[1]),
        )
    with pytest.raises(ValueError, match="focal at rho 10 has 1 of 8 tuning runs to do"):
        lt.chosen(base, lt.read(table))
    store(table, configs[-1], balanced_accuracy=60.0)
    # rows of the final part, however good, change nothing
    store(table, replace(base, settings=lt.GRIDS["focal"][0]), balanced_accuracy=99.0)
    rows = lt.read(table)
    assert lt.chosen(base, rows) == best
    for study in ("final", "noise", "absent", "permuted"):
        found = lt.STUDIES[study](base, rows)
        assert {config.settings for config in found} == {best}
        assert {config.seed for config in found} == set(lt.FINAL_SEEDS)
        assert {config.part for config in found} == {"final"}


def test_losses_without_a_choice_have_nothing_to_tune() -> None:
    assert lt.tune(replace(TOY, loss="balanced_softmax")) == []
    assert lt.chosen(replace(TOY, loss="balanced_softmax"), []) == ()


# ---- rows ----


def test_rows_come_back_as_they_were_written(table: Path) -> None:
    config = replace(TOY, loss="vs", settings=(("gamma", 0.1), ("tau", 1.25)), permuted=True)
    store(table, config, nll=1 / 3)
    store(table, replace(config, seed=1), nll=float("nan"))
    first, second = lt.read(table)
    assert tuple(first) == lt.COLUMNS
    assert json.loads(first["settings"]) == dict(config.settings)
    assert (first["key"], float(first["nll"]), first["epochs"]) == (config.key, 0.333333, "1")
    assert np.isnan(float(second["nll"]))
    assert list(lt.frame([first])["permuted"]) == [True]


def test_a_row_is_never_twice_and_other_columns_are_refused(table: Path) -> None:
    store(table, TOY, nll=1.0)
    before = table.read_bytes()
    store(table, TOY, nll=2.0)
    assert table.read_bytes() == before
    table.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"must have the columns dataset, .*; got a, b"):
        store(table, TOY)


def test_a_write_that_is_stopped_leaves_the_old_file(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(table, TOY)
    before = table.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store(table, replace(TOY, seed=1))
    assert table.read_bytes() == before
    store(table, replace(TOY, seed=2))  # what it left behind is no hindrance
    assert [row["seed"] for row in lt.read(table)] == ["0", "2"]


# ---- running ----


def numbers(path: Path) -> dict[str, list[str]]:
    """Return what was measured by key, without the time that it took."""
    return {row["key"]: [row[name] for name in lt.MEASURES if name != "seconds"] for row in lt.read(path)}


CONFIGS = [
    replace(TOY, loss=loss, seed=seed) for loss, seed in (("plain", 0), ("plain", 1), ("label_smoothing", 0))
]
BROKEN = replace(TOY, dataset="cifar10", protocol="convnet")  # without its data


def test_runs_are_done_once_and_their_rows_say_how(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lt.run_all(CONFIGS[:1] * 2, table, progress=False) == []
    assert lt.run_all(CONFIGS, table, progress=False) == []
    monkeypatch.setattr(lt, "_on_this_machine", lambda *_: pytest.fail("something was run again"))
    assert lt.run_all(CONFIGS, table, progress=False) == []
    rows = lt.read(table)
    assert sorted(row["key"] for row in rows) == sorted(config.key for config in CONFIGS)
    for row in rows:
        assert "torch " in row["versions"]
        assert row["hardware"]
        assert float(row["seconds"]) > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("where", ["processes", "cluster"])
def test_processes_and_a_cluster_give_what_one_process_gives(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    alone, many = tmp_path / "alone.csv", tmp_path / "many.csv"
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # one thread each: sums are in the same order
    assert lt.run_all(CONFIGS, alone, progress=False) == []
    if where == "processes":
        monkeypatch.setattr(lt, "prepare", lambda *_: None)  # let the worker find that the data are missing
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


@pytest.mark.slow
def test_kill_9_loses_nothing_and_repeats_nothing(table: Path) -> None:
    losses, rhos, seeds = ["plain", "balanced_softmax"], [1.0, 10.0], list(range(8))
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
    command += ["--loss", *losses, "--rho", *map(str, rhos), "--seed", *map(str, seeds)]
    expected = {
        replace(TOY, rho=rho, loss=loss, seed=seed).key for rho in rhos for loss in losses for seed in seeds
    }
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


def test_the_command_line_says_what_is_missing(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lt.main(["final", "--loss", "focal", "--rho", "10", "--out", str(table)]) == 2
    assert "run the part tune first" in capsys.readouterr().err
    toy = [
        "final",
        "--loss",
        "plain",
        "--rho",
        "10",
        "--epochs",
        "1",
        "--jobs",
        "1",
        "--seed",
        "3",
        "--out",
        str(table),
    ]
    assert lt.main(toy) == 0
    assert "1/1" in capsys.readouterr().err  # progress
    broken = [
        "final",
        "--loss",
        "plain",
        "--rho",
        "10",
        "--dataset",
        "cifar10",
        "--protocol",
        "convnet",
        "--seed",
        "0",
    ]
    with pytest.raises(ValueError, match="say where, with --data PATH"):
        lt.main([*broken, "--jobs", "1", "--out", str(table)])
    assert len(lt.read(table)) == 1


# ---- sums ----


def made_up(table: Path) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    for rho in (10.0, 100.0):
        for seed in lt.FINAL_SEEDS:
            easy = rng.normal()
            for loss, mean in {"plain": 50, "focal": 48, "gradient_balanced": 53}.items():
                store(
                    table,
                    replace(TOY, rho=rho, loss=loss, seed=seed),
                    balanced_accuracy=mean - 5 * (rho > 10) + easy + 0.1 * rng.normal(),
                )
    store(table, replace(TOY, part="tune"), balanced_accuracy=0.0)
    return lt.frame(lt.read(table))


def test_summary_differences_and_regret(table: Path) -> None:
    found = made_up(table)
    assert set(found["part"]) == {"final"}
    whole = lt.summary(found)
    assert (whole["seeds"] == len(lt.FINAL_SEEDS)).all()
    one = found[(found["loss"] == "plain") & (found["rho"] == 10)].set_index("seed")["balanced_accuracy"]
    other = found[(found["loss"] == "gradient_balanced") & (found["rho"] == 10)].set_index("seed")[
        "balanced_accuracy"
    ]
    line = whole.xs(("plain", 10.0), level=("loss", "rho"))
    assert line[("mean", "balanced_accuracy")].item() == pytest.approx(one.mean())
    assert line[("error", "balanced_accuracy")].item() == pytest.approx(stats.sem(one))
    difference = lt.paired(found, "gradient_balanced", "plain").xs(10.0, level="rho").iloc[0]
    interval = stats.ttest_rel(other, one).confidence_interval()
    np.testing.assert_allclose(
        difference[["difference", "low", "high"]].tolist(),
        [(other - one).mean(), interval.low, interval.high],
    )
    missed = lt.regret(found).xs(10.0, level="rho").iloc[0]
    assert missed["plain"] == 0
    assert missed["gradient_balanced"] == pytest.approx(one.mean() - other.mean())
