"""Lightning: training with a balancing loss among the members, saved, resumed, and on two processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import softmax_lab as sl
from tests.clients import lightning_module as program
from tests.clients.losses import assert_restored
from tests.limits import HANG

ROOT = Path(__file__).resolve().parents[2]


def assert_same_state(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> tuple[program.Classifier, program.Classifier]:
    return program.interrupted(tmp_path_factory.mktemp("one"))


def test_a_training_resumes_to_the_bit(one_process: tuple[program.Classifier, program.Classifier]) -> None:
    whole, resumed = one_process
    assert int(whole.loss.counts.sum()) == 4 * program.ROWS
    assert whole.loss.tau != program.Classifier().loss.tau
    assert_same_state(resumed.state_dict(), whole.state_dict())
    assert_restored(resumed.loss, whole.loss)


def test_two_processes_train_as_one_does_on_the_joined_batches_and_resume_to_the_bit(
    tmp_path: Path, one_process: tuple[program.Classifier, program.Classifier]
) -> None:
    launcher = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "tests.clients.lightning_module",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *launcher, str(tmp_path)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    expected = one_process[0].state_dict()
    states = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    for whole, resumed in states:
        assert_same_state(whole, states[0][0])
        assert_same_state(resumed, whole)
        assert torch.equal(whole["loss.counts"], expected["loss.counts"])
        for name in ("layer.weight", "layer.bias"):  # sums of other order, float64
            torch.testing.assert_close(whole[name], expected[name], rtol=1e-9, atol=1e-12)


def test_a_spec_among_the_hyperparameters_loads_with_weights_only(tmp_path: Path) -> None:
    spec = sl.losses.gradient_balanced([90, 40, 9, 1], eps=0.05)
    module = program.WithSpec(spec)
    program.fit(module, tmp_path, 1).save_checkpoint(tmp_path / "with-spec.ckpt")
    again = program.WithSpec.load_from_checkpoint(tmp_path / "with-spec.ckpt", weights_only=True)
    assert again.hparams.spec == spec
    assert again.loss.spec == spec
    assert_same_state(again.state_dict(), module.state_dict())
