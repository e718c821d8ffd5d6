"""Every program in ``examples/`` runs, and what it finds is right.

Those that need transformers or Lightning run in ``tests/clients/test_examples.py``.
"""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.limits import HANG

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def main_of(name: str) -> Any:
    """Return the function that a program runs, from the file itself."""
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]


def shell(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
    )


def test_the_solvers_find_what_scikit_learn_finds() -> None:
    found = main_of("logistic_regression")()
    theirs = found.pop("scikit-learn")
    assert len(found) == 2
    for weights in found.values():
        np.testing.assert_allclose(weights, theirs, atol=1e-4)


def test_a_training_in_torch_learns() -> None:
    pytest.importorskip("torch")
    result = main_of("torch_training")(epochs=20)
    assert result.losses[-1] < result.losses[0] / 10
    assert result.accuracy > 0.94
    assert result.lost.counted == 1200


def test_long_tail_losses_help_the_rare_classes() -> None:
    found = main_of("long_tailed_digits")()
    plain = found.pop("plain")
    for name in ("logit_adjusted", "gradient_balanced"):
        assert found[name][0] > plain[0]
        assert found[name][1] > plain[1] + 0.1


def test_the_audit_tells_the_naive_softmax_from_the_careful_one() -> None:
    pytest.importorskip("mpmath")
    pytest.importorskip("pandas")
    frame = main_of("audit_my_function")()
    wrong = frame.groupby("implementation")["wrong"].sum()
    assert wrong["naive"] > 3
    assert wrong["careful"] == 0


@pytest.mark.parametrize(("name", "status"), [("Careful", 0), ("Naive", 1)])
def test_the_line_for_ci_ends_with_the_status_that_it_promises(
    tmp_path: Path, name: str, status: int
) -> None:
    pytest.importorskip("pandas")
    text = (EXAMPLES / "audit_my_function.py").read_text(encoding="utf-8")
    line = re.search(r"^ +softmax-lab (audit .+:Careful --fail-on wrong .+)$", text, re.MULTILINE)
    assert line is not None
    words = line[1].replace("Careful", name).replace("audit.", f"{tmp_path}/audit.").split()
    done = shell("-W", "ignore", "-m", "softmax_lab.cli", *words, "--dtype", "float32")
    assert done.returncode == status, done.stderr[-2000:]
    assert (tmp_path / "audit.xml").is_file()
    assert (tmp_path / "audit.md").is_file()


def test_a_training_in_jax_learns() -> None:
    pytest.importorskip("jax")
    pytest.importorskip("optax")
    losses, accuracy = main_of("jax_optax")(epochs=15)
    assert losses[-1] < losses[0]
    assert accuracy > 0.9


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_keras_model_learns_on_either_backend(backend: str) -> None:
    pytest.importorskip("keras")
    pytest.importorskip(backend)
    name = "keras_loss"
    # a process of its own: Keras has one backend
    done = shell(str(EXAMPLES / f"{name}.py"), KERAS_BACKEND=backend, TF_CPP_MIN_LOG_LEVEL="3")
    assert done.returncode == 0, done.stderr[-3000:]
    said = re.search(rf"{backend}: loss (.*) -> (.*), accuracy (.*)", done.stdout)
    assert said is not None
    first, last, accuracy = map(float, said.groups())
    assert last < first / 3
    assert accuracy > 0.93


def test_a_keras_loss_is_the_mean_of_the_rows() -> None:
    """Weights and reduction are Keras's, and the rows' losses those of the package."""
    pytest.importorskip("keras")
    pytest.importorskip("jax")
    code = """
import runpy
import numpy as np
import softmax_lab as sl
loss = runpy.run_path("examples/keras_loss.py")["CrossEntropy"]
z, y = np.array([[30.0, 0.0, 1.0], [0.5, 2.0, -1.0]], np.float32), np.array([0, 2])
spec = sl.losses.focal(2.0)
rows = sl.cross_entropy(z, y, spec, reduction="none")
np.testing.assert_allclose(float(loss(spec)(y, z)), rows.mean(), rtol=1e-6)
np.testing.assert_allclose(np.asarray(loss(spec, reduction=None)(y, z)), rows, rtol=1e-6)
weighted = float(loss(spec)(y, z, sample_weight=np.array([1.0, 3.0], np.float32)))
np.testing.assert_allclose(weighted, (rows * [1.0, 3.0]).sum() / 2, rtol=1e-6)
"""
    done = shell("-c", code, KERAS_BACKEND="jax", TF_CPP_MIN_LOG_LEVEL="3")
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.long
def test_a_vocabulary_on_two_processes_has_the_losses_of_one() -> None:
    pytest.importorskip("torch")
    expected = main_of("large_vocabulary")()
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = shell(*launcher, str(EXAMPLES / "large_vocabulary.py"), OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr[-3000:]
    said = re.findall(r"process (\d) of 2 holds (\d+) classes; losses \[(.*?)\]", done.stdout)
    assert sorted((rank, holds) for rank, holds, _ in said) == [("0", "10001"), ("1", "10000")]
    for *_, losses in said:
        assert [float(each) for each in losses.split(", ")] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_every_program_is_listed_says_how_it_is_run_and_is_tested(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert f"examples/{path.name}" in text or path.stem in text
    assert f"`{path.name}`" in (EXAMPLES / "README.md").read_text(encoding="utf-8")
    tests = (Path(__file__), ROOT / "tests" / "clients" / "test_examples.py")
    assert any(f'"{path.stem}"' in test.read_text(encoding="utf-8") for test in tests)


def test_the_list_names_programs_that_are_there() -> None:
    listed = re.findall(
        r"^\| `(\w+\.py)`", (EXAMPLES / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert sorted(listed) == sorted(path.name for path in EXAMPLES.glob("*.py"))
    assert len(listed) == 9
