"""The balancing loss has the registry's spec, and two processes are as one."""

from __future__ import annotations

import copy
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import softmax_lab as sl
import softmax_lab.torch as slt
from softmax_lab.losses import gradient_balanced
from tests.limits import HANG
from tests.torch.modules import balance_ranks

ROOT = Path(__file__).resolve().parents[3]
K = 5
COUNTS = np.array([400, 90, 30, 4, 0])
Z = 2 * torch.randn(20, K, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
Y = torch.from_numpy(np.random.default_rng(0).choice(K - 1, 20, p=[0.6, 0.2, 0.1, 0.1]))
SETTINGS: list[dict[str, Any]] = [
    {},
    {"tau": 0.0},
    {"strength": 0.5, "gate": 0.0},
    {"eps": 0.1, "power": 1.0},
    {"gate": 2.0, "eps": 0.05},
]

Loss = slt.GradientBalancedLoss


def value_and_gradient(
    loss: Callable[..., Tensor], z: Tensor = Z, y: Tensor = Y, **more: Any
) -> tuple[Tensor, Tensor]:
    leaf = z.clone().requires_grad_()
    value = loss(leaf, y, **more)
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), gradient


def saved(module: torch.nn.Module) -> dict[str, Any]:
    """Return the state as it comes back from a file, by the safe loader."""
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    state: dict[str, Any] = torch.load(file, weights_only=True)
    return state


@pytest.mark.parametrize("settings", SETTINGS)
def test_with_given_counts_it_is_the_registered_loss(settings: dict[str, Any]) -> None:
    spec = gradient_balanced(COUNTS, **settings)
    module = Loss(COUNTS, **settings)
    assert module.spec == spec
    for found, expected in zip(
        value_and_gradient(module), value_and_gradient(slt.SoftmaxLoss(spec)), strict=True
    ):
        assert torch.equal(found, expected)


def test_the_number_of_classes_has_a_name() -> None:
    named, given = Loss(num_classes=K), Loss(K)
    for found, expected in zip(value_and_gradient(named), value_and_gradient(given), strict=True):
        assert torch.equal(found, expected)
    assert named.counts.tolist() == given.counts.tolist()
    assert saved(named).keys() == saved(given).keys()
    with pytest.raises(TypeError, match="takes counts or num_classes; got both"):
        Loss(COUNTS, num_classes=K)
    with pytest.raises(TypeError, match="takes counts or num_classes; got neither"):
        Loss()
    with pytest.raises(TypeError, match="num_classes"):
        Loss(num_classes=COUNTS)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_classes"):
        Loss(num_classes=0)


@pytest.mark.parametrize("settings", SETTINGS)
def test_with_gathered_counts_it_is_the_registered_loss_of_what_was_seen(settings: dict[str, Any]) -> None:
    module, seen = Loss(K, **settings), np.zeros(K, dtype=int)
    for start in range(3):
        y = (Y + start) % (K - 1)  # the last class stays without samples
        seen += np.bincount(y, minlength=K)
        expected = value_and_gradient(slt.SoftmaxLoss(gradient_balanced(seen, **settings)), y=y)
        for found, wanted in zip(value_and_gradient(module, y=y), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)
    assert module.counts.tolist() == seen.tolist()
    assert module.spec == gradient_balanced(seen, **settings)


def test_balanced_counts_are_plain_cross_entropy() -> None:
    for module in (Loss(np.full(K, 7)), Loss(K).eval()):  # and so is one that has seen nothing
        torch.testing.assert_close(module(Z, Y), slt.cross_entropy(Z, Y), rtol=1e-12, atol=0)


def test_evaluation_and_ignored_rows_are_not_counted() -> None:
    module = Loss(K, ignore_index=3)
    y = torch.tensor([0, 0, 3, 1])
    module(Z[:4], y)
    assert module.counts.tolist() == [2, 1, 0, 0, 0]
    module.eval()(Z[:4], y)
    assert module.counts.tolist() == [2, 1, 0, 0, 0]
    module.train()
    with pytest.raises(IndexError, match="label 5 at row 0"):
        module(Z[:1], torch.tensor([K]))
    assert module.counts.sum() == 3


def test_dimensions_weights_and_reductions() -> None:
    module, spec = Loss(COUNTS, dim=1, reduction="none"), gradient_balanced(COUNTS)
    images, labels = Z.reshape(4, 5, K).movedim(-1, 1), Y.reshape(4, 5)
    assert torch.equal(module(images, labels).reshape(-1), slt.cross_entropy(Z, Y, spec, reduction="none"))
    weight = torch.linspace(0.5, 2.0, len(Y))
    assert torch.equal(Loss(COUNTS)(Z, Y, weight), slt.cross_entropy(Z, Y, spec, sample_weight=weight))


def test_it_compiles_and_gathers() -> None:
    module, reference = Loss(K), Loss(K)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    for start in range(2):
        y = (Y + start) % K
        torch.testing.assert_close(compiled(Z, y), reference(Z, y))
    assert torch.equal(module.counts, reference.counts)


def test_moved_and_halved_models_keep_counts_and_precision() -> None:
    module = Loss(K)
    module(Z, Y)
    other = copy.deepcopy(module).half().eval()
    assert torch.equal(other(Z, Y), module.eval()(Z, Y))
    assert other.counts.dtype == torch.int64
    meta = Loss(K).to("meta")
    assert meta(Z.to("meta"), Y.to("meta")).shape == ()


@pytest.mark.parametrize("counts", [COUNTS, K])
def test_training_resumes_exactly(counts: Any) -> None:
    module = Loss(counts, eps=0.05, rate=0.3)
    module(Z, Y)
    module.observe(2 * Z, Y)
    again = Loss(counts if isinstance(counts, int) else np.ones(K))
    again.load_state_dict(saved(module))
    assert again.tau == module.tau != 1.1
    assert again.spec == module.spec
    for _ in range(2):
        for found, expected in zip(value_and_gradient(again), value_and_gradient(module), strict=True):
            assert torch.equal(found, expected)
        module.observe(Z, Y)
        again.observe(Z, Y)
    assert again.tau == module.tau
    assert torch.equal(again.counts, module.counts)


def test_the_controller_takes_the_prior_out_and_stops_there() -> None:
    """The logits carry tau0 - tau times the log-prior, as of a model that learns what its loss asks.

    So tau goes to tau0.
    """
    prior = torch.from_numpy(np.log(np.maximum(COUNTS, 1) / np.maximum(COUNTS, 1).sum()))
    y = torch.arange(K).repeat(40)
    fair = torch.randn(len(y), K, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    # logits of which no multiple of the prior can improve the balanced loss: what is left to add is found by
    # the step itself
    for _ in range(20):
        fair += sl.balance.prior_response(fair.numpy(), y.numpy(), prior.numpy()).shift() * prior
    module = Loss(COUNTS, tau=0.2, rate=0.5)
    for _ in range(40):
        module.observe(fair + (0.9 - module.tau) * prior, y)
    assert module.tau == pytest.approx(0.9, abs=1e-6)
    assert module.spec == gradient_balanced(COUNTS, tau=module.tau)
    for sign, end in ((1.0, 3.0), (-1.0, 0.0)):  # a model that never gives in: tau stops at its bounds
        for _ in range(20):
            module.observe(fair + sign * 5 * prior, y)
        assert module.tau == end


def test_rows_that_say_nothing_leave_tau_alone() -> None:
    module = Loss(COUNTS)
    for z, y in ((Z[:0], Y[:0]), (Z, torch.full_like(Y, -100)), (Z * torch.nan, Y)):
        module.observe(z, y)
    assert module.tau == 1.1


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Loss(2.5), TypeError, "number of classes as an int; got 2.5"),
        (lambda: Loss(0), ValueError, "number of classes must be"),
        (lambda: Loss([1.5, 2.0]), ValueError, "whole numbers of samples, or frequencies"),
        (lambda: Loss([0.5, 0.5]), ValueError, r"whole numbers of samples here.*got frequencies"),
        (lambda: Loss(True), TypeError, "number of classes as an int; got True"),
        (lambda: Loss([0, 0]), ValueError, "at least one class with samples"),
        (lambda: Loss([-1, 2]), ValueError, "counts must be"),
        (lambda: Loss(K, tau=4.0), ValueError, "tau must be in"),
        (lambda: Loss(K, rate=0.0), ValueError, "rate must be in"),
        (lambda: Loss(K, gate=-1.0), ValueError, "gate must be"),
        (lambda: Loss(K, reduction="median"), ValueError, "reduction must be one of"),
        (lambda: Loss(K)(Z[:, :3], Y), ValueError, "5 classes"),
        (lambda: Loss(K, gate=0.0)(Z, torch.softmax(Z, 1)), ValueError, "class-index targets"),
        (lambda: Loss(K).observe(Z, Y[:3]), ValueError, "class-index target must have shape"),
        (lambda: setattr(Loss(K), "spec", sl.LossSpec()), AttributeError, "follows from its counts"),
    ],
)
def test_errors(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_representation() -> None:
    assert (
        repr(Loss(3, eps=0.1))
        == "GradientBalancedLoss(3 classes, counts gathered, tau=1.1, strength=1, gate=4, eps=0.1, power=0.5)"
    )


@pytest.mark.long
def test_two_processes_are_one_on_the_joined_batch(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.torch.modules.balance_ranks", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen([*command, str(rank)], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    for process in ranks:
        _, errors = process.communicate(timeout=HANG)
        assert process.returncode == 0, errors
    expected = balance_ranks.cases([slice(0, 14)] * balance_ranks.STEPS)
    for rank in range(2):
        found = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12, equal_nan=True)
