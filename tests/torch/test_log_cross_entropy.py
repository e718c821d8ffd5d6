"""The log of the mean loss on tensors: the oracle's numbers, derivatives of every kind, edges, and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import softmax_lab as sl
import softmax_lab.torch as slt
from softmax_lab import LossSpec, exact
from softmax_lab._checks import Reduction
from softmax_lab.torch._base.options import Options
from softmax_lab.torch._formula import logs
from softmax_lab.torch._formula.fields import fields_of
from tests.logs import HARD, LOG_SPECS, VALUE_BARS, exact_gradient, in_type, relative_errors, value_errors
from tests.specs import INDEX_SPECS, K

REDUCTIONS: tuple[Reduction, ...] = ("mean", "sum", "none")
DTYPES = (torch.float32, torch.float64)
N = 5
WEIGHTS = [0.5, 2.0, 1.0, 3.0, 0.25]


def problem(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(0)
    return torch.tensor(3.0 * rng.standard_normal((N, K))).to(dtype), torch.tensor(rng.integers(0, K, N))


def formula(logits: Tensor, target: Tensor, spec: LossSpec = LossSpec(), **options: Any) -> Tensor:
    """The formula in plain torch, which is what other devices take."""
    weight = options.pop("sample_weight", None)
    given = Options(**{"dim": 1, **options})
    return logs.loss(logits, target, fields_of(spec, logits), weight, given)


FUNCTIONS = {"public": slt.log_cross_entropy, "formula": formula}


def value_and_gradient(function: Any, z: Tensor, *args: Any, **options: Any) -> tuple[Tensor, Tensor]:
    leaf = z.detach().clone().requires_grad_()
    value = function(leaf, *args, **options)
    value.sum().backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("case", HARD)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_oracles_values_and_gradients(
    function: str, case: str, reduction: Reduction, dtype: torch.dtype
) -> None:
    kind = np.dtype(str(dtype).removeprefix("torch."))
    batch = in_type(HARD[case], kind)
    given = torch.tensor(batch.rows), torch.tensor(batch.labels)
    value, gradient = value_and_gradient(FUNCTIONS[function], *given, reduction=reduction)
    errors = value_errors(value.numpy(), batch, LossSpec(), kind, reduction=reduction)
    assert errors.max() <= VALUE_BARS[kind.name]
    rows = batch.rows.astype(np.float64)
    expected = exact_gradient(case, kind.name, reduction)
    # a row's share is an exponential of differences of numbers of the value's size, which are two-floats in
    # the loops, and one float64 in plain torch
    exact_shares = reduction == "none" or function == "public"
    size = 1.0 if exact_shares else np.abs(rows[np.isfinite(rows)]).max()
    bound = 8 * np.finfo(kind).eps + 4 * np.finfo(np.float64).eps * size
    assert relative_errors(gradient.numpy(), expected).max() <= bound


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", LOG_SPECS)
def test_every_member_that_is_taken(name: str, reduction: Reduction) -> None:
    z, y = problem()
    spec = LOG_SPECS[name]
    options: dict[str, Any] = {"reduction": reduction, "sample_weight": torch.tensor(WEIGHTS)}
    value, gradient = value_and_gradient(slt.log_cross_entropy, z, y, spec, **options)
    rows, labels = z.numpy(), y.numpy()
    options["sample_weight"] = WEIGHTS
    expected = exact.log_cross_entropy(rows, labels, spec, **options)
    np.testing.assert_allclose(value.numpy(), np.array(expected, dtype=np.float64), rtol=1e-14, atol=1e-14)
    expected = exact.log_cross_entropy_grad(rows, labels, spec, **options)
    assert relative_errors(gradient.numpy(), expected).max() <= 1e-14


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", LOG_SPECS)
def test_second_derivatives(name: str, reduction: Reduction) -> None:
    z, y = problem()
    spec, t = LOG_SPECS[name], torch.randn(N, K, dtype=torch.float64, generator=torch.manual_seed(3))
    expected = exact.log_cross_entropy_hvp(z.numpy(), y.numpy(), t.numpy(), spec, reduction=reduction)

    def total(x: Tensor) -> Tensor:
        return slt.log_cross_entropy(x, y, spec, reduction=reduction).sum()

    twice = torch.autograd.functional.vhp(total, z, t)[1]
    forward = torch.func.jvp(torch.func.grad(total), (z,), (t,))[1]
    leaf = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(total(leaf), leaf, create_graph=True)
    (double,) = torch.autograd.grad(gradient, leaf, t)
    for found in (twice, forward, double):
        assert relative_errors(found.numpy(), expected).max() <= 1e-12


def test_gradients_to_the_second_order_in_torchs_own_check() -> None:
    z, y = problem()
    weight = torch.tensor(WEIGHTS, dtype=torch.float64).requires_grad_()

    def function(x: Tensor, w: Tensor) -> Tensor:
        return slt.log_cross_entropy(x, y, LOG_SPECS["all that it takes"], sample_weight=w)

    assert torch.autograd.gradcheck(function, (z.requires_grad_(), weight), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, (z, weight))


@pytest.mark.parametrize("s", [-745.0, -40.0, -5.0, -4.0, -1e-3, 0.0, 1e-3, 3.0, 40.0, 1e4])
def test_the_curvature_of_log_softplus_does_not_cancel(s: float) -> None:
    import mpmath

    x = torch.tensor(s, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(logs.log_softplus(x), x, create_graph=True)
    (bend,) = torch.autograd.grad(slope, x)
    with mpmath.workdps(800):
        power = mpmath.exp(mpmath.mpf(s))
        loss, sigmoid = mpmath.log1p(power), power / (1 + power)
        expected = float(sigmoid / loss * (1 - sigmoid - sigmoid / loss))
    assert bend.item() == pytest.approx(expected, rel=1e-13)


def test_what_does_not_count() -> None:
    z, y = problem()
    z[0], z[3] = torch.nan, torch.inf
    y[0] = -100
    weight = torch.tensor([1.0, 1.0, 1.0, 0.0, 1.0])
    kept = [1, 2, 4]
    for reduction in REDUCTIONS[:2]:
        value, gradient = value_and_gradient(
            slt.log_cross_entropy, z, y, reduction=reduction, sample_weight=weight
        )
        alone = value_and_gradient(slt.log_cross_entropy, z[kept], y[kept], reduction=reduction)
        torch.testing.assert_close(value, alone[0])
        torch.testing.assert_close(gradient[kept], alone[1])
        assert not gradient[[0, 3]].any()
    value, gradient = value_and_gradient(slt.log_cross_entropy, z, y, reduction="none", sample_weight=weight)
    assert value[[0, 3]].tolist() == [-np.inf, -np.inf]
    assert not gradient[[0, 3]].any()


@pytest.mark.parametrize("empty", ["nan", "zero"])
@pytest.mark.parametrize("rows", [0, 3])
def test_no_row_counts(rows: int, empty: Any) -> None:
    z, y = torch.ones(rows, 4), torch.full((rows,), -100)
    value, gradient = value_and_gradient(slt.log_cross_entropy, z, y, empty=empty)
    assert value.isnan() if empty == "nan" else value == 0
    assert not gradient.any()
    assert slt.log_cross_entropy(z, y, reduction="sum") == -np.inf
    assert slt.log_cross_entropy(z, y, reduction="none").tolist() == [-np.inf] * rows


def test_rows_without_other_classes() -> None:
    z = torch.tensor([[1.0, -np.inf], [2.0, -np.inf]])
    y = torch.tensor([0, 0])
    for logits in (z, z[:, :1]):
        value, gradient = value_and_gradient(slt.log_cross_entropy, logits, y)
        assert value == -np.inf
        assert not gradient.any()
    mixed = torch.tensor([[1.0, -np.inf], [2.0, 0.0]])
    value, gradient = value_and_gradient(slt.log_cross_entropy, mixed, y)
    assert value.item() == pytest.approx(exact.log_cross_entropy(mixed.numpy(), [0, 0]), rel=1e-6)
    assert not gradient[0].any()
    np.testing.assert_allclose(gradient[1], [-0.939, 0.939], rtol=1e-3)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_an_impossible_target(reduction: Reduction) -> None:
    z, y = torch.tensor([[-np.inf, 0.0, 1.0], [0.0, 1.0, 2.0]]), torch.tensor([0, 0])
    value, gradient = value_and_gradient(slt.log_cross_entropy, z, y, reduction=reduction)
    assert value.reshape(-1)[0] == np.inf
    assert gradient[0].isnan().any()


@pytest.mark.parametrize(
    "row", [[np.nan, 0.0, 1.0], [0.0, np.nan, 1.0], [np.inf, 0.0, 1.0], [0.0, np.inf, 1.0], [-np.inf] * 3]
)
def test_rows_that_are_no_distribution(row: list[float]) -> None:
    z, y = torch.tensor([row, [0.0, 1.0, 2.0]]), torch.tensor([0, 0])
    assert slt.log_cross_entropy(z, y).isnan()
    assert slt.log_cross_entropy(z, y, reduction="none").isnan().tolist() == [True, False]


def test_half_precision_is_rounded_once() -> None:
    """What a loss scale multiplies is not rounded before."""
    z, y = problem()
    for dtype in (torch.float16, torch.bfloat16):
        narrow = z.to(dtype)
        leaf = narrow.clone().requires_grad_()
        value = slt.log_cross_entropy(leaf, y)
        (value * 1024.0).backward()
        assert value.dtype == torch.float32
        assert leaf.grad is not None
        _, wide = value_and_gradient(slt.log_cross_entropy, narrow.double(), y)
        exacts = (wide * 1024.0).to(dtype)
        close = torch.isclose(leaf.grad, exacts, rtol=float(torch.finfo(dtype).eps), atol=0.0)
        assert close.all()
        assert (leaf.grad == exacts).double().mean() > 0.9


@pytest.mark.parametrize(
    "name", ["smoothing", "smoothing per class", "prior", "gate", "focal", "z-loss", "poly", "everything"]
)
def test_what_is_refused(name: str) -> None:
    z, y = problem()
    for call in (
        lambda: slt.log_cross_entropy(z, y, INDEX_SPECS[name]),
        lambda: slt.LogCrossEntropyLoss(INDEX_SPECS[name]),
    ):
        with pytest.raises(
            ValueError, match=r"takes class indices and the fields temperature, scale.*; got "
        ):
            call()


def test_distributions_are_refused_with_the_same_message() -> None:
    z, _ = problem()
    with pytest.raises(
        ValueError, match=r"takes class indices and the fields .*; got a distribution per row"
    ):
        slt.log_cross_entropy(z, torch.softmax(z, 1))


def test_other_errors() -> None:
    z, y = problem()
    with pytest.raises(IndexError, match="label 9 at row 1"):
        slt.log_cross_entropy(z, torch.tensor([0, 9, 0, 0, 0]))
    with pytest.raises(ValueError, match="reduction must be"):
        slt.log_cross_entropy(z, y, reduction="log_mean")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="spec must be a LossSpec"):
        slt.log_cross_entropy(z, y, "plain")  # type: ignore[arg-type]


def test_other_dimensions_and_labels() -> None:
    images = torch.randn(2, K, 3, 4, dtype=torch.float64)
    labels = torch.randint(0, K, (2, 3, 4)).to(torch.uint8)
    flat = images.movedim(1, -1).reshape(-1, K)
    value = slt.log_cross_entropy(images, labels, dim=1)
    torch.testing.assert_close(value, slt.log_cross_entropy(flat, labels.reshape(-1).long()))
    rows = slt.log_cross_entropy(images, labels, dim=1, reduction="none")
    assert rows.shape == (2, 3, 4)
    torch.testing.assert_close(torch.logsumexp(rows.reshape(-1), 0) - np.log(24), value)
    torch.testing.assert_close(slt.log_cross_entropy(flat[0], labels.reshape(-1)[0]), rows.reshape(-1)[0])


def test_the_module() -> None:
    z, y = problem()
    spec = LOG_SPECS["all that it takes"]
    module = slt.LogCrossEntropyLoss(spec, reduction="sum")
    assert torch.equal(module(z, y), slt.log_cross_entropy(z, y, spec, reduction="sum"))
    again = slt.LogCrossEntropyLoss(reduction="sum")
    again.load_state_dict(module.state_dict())
    assert again.spec == spec
    with pytest.raises(RuntimeError, match="written by LogCrossEntropyLoss"):
        slt.SoftmaxLoss().load_state_dict(module.state_dict())
    assert repr(slt.LogCrossEntropyLoss(ignore_index=3)) == "LogCrossEntropyLoss(LossSpec(), ignore_index=3)"


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_on_the_cpu_it_has_the_numpy_packages_bits(reduction: Reduction) -> None:
    z, y = problem()
    spec, weight = LOG_SPECS["all that it takes"], torch.tensor(WEIGHTS)
    for logits in (z, z.float()):
        value, gradient = value_and_gradient(
            slt.log_cross_entropy, logits, y, spec, reduction=reduction, sample_weight=weight
        )
        expected, g = sl.log_cross_entropy_grad(
            logits.numpy(), y.numpy(), spec, reduction=reduction, sample_weight=weight.numpy()
        )
        assert np.array_equal(value.numpy(), expected)
        assert np.array_equal(gradient.numpy(), g)
        with torch.no_grad():
            found = slt.log_cross_entropy(logits, y, spec, reduction=reduction, sample_weight=weight)
        assert torch.equal(found, value)


def test_backward_twice_and_with_upstream_gradients() -> None:
    z, y = problem()
    leaf = z.clone().requires_grad_()
    value = slt.log_cross_entropy(leaf, y, reduction="none")
    factors = torch.tensor(WEIGHTS, dtype=torch.float64)
    (kept,) = torch.autograd.grad(value, leaf, factors, retain_graph=True)
    (again,) = torch.autograd.grad(value, leaf, factors)
    _, own = value_and_gradient(slt.log_cross_entropy, z, y, reduction="none")
    assert torch.equal(kept, again)
    torch.testing.assert_close(kept, own * factors[:, None])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_on_a_gpu(dtype: torch.dtype, reduction: Reduction) -> None:
    z, y = problem(dtype)
    spec, weight = LOG_SPECS["all that it takes"], torch.tensor(WEIGHTS)
    options: dict[str, Any] = {"reduction": reduction}
    value, gradient = value_and_gradient(
        slt.log_cross_entropy, z.cuda(), y.cuda(), spec, sample_weight=weight.cuda(), **options
    )
    expected, g = value_and_gradient(slt.log_cross_entropy, z, y, spec, sample_weight=weight, **options)
    torch.testing.assert_close(value.cpu(), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient.cpu(), g)
