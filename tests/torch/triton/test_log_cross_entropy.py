"""The kernels of the log of the mean loss: numbers of the oracle and of the formula, edges, and modes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import softmax_lab as sl
import softmax_lab.torch as slt
from softmax_lab.torch import triton as kernels
from softmax_lab.torch._base.options import Options
from softmax_lab.torch._formula import logs
from softmax_lab.torch.triton import log_cross_entropy as module

from ...logs import HARD, LOG_SPECS, VALUE_BARS, exact_gradient, in_type, relative_errors, value_errors
from ...specs import INDEX_SPECS, K
from .cases import LABELS, assert_close, fields, rounded_once, rows

Launched = list[tuple[str, bool]]
REDUCTIONS = ("mean", "sum", "none")
PLAIN = sl.LossSpec()


def by_kernels(
    z: Tensor,
    target: Tensor,
    spec: sl.LossSpec = PLAIN,
    weight: Tensor | None = None,
    upstream: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """Return the value, and the gradient times ``upstream``, by default 1."""
    given = Options(**options)
    value, kept, rho = kernels.log_loss(z, target, fields(spec), weight, given)
    above = torch.ones_like(value) if upstream is None else upstream
    return value, kernels.log_gradient(z, kept, rho, above, target, fields(spec), given)


def by_formula(
    z: Tensor,
    target: Tensor,
    spec: sl.LossSpec = PLAIN,
    weight: Tensor | None = None,
    upstream: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """The same by the formula in plain torch, in float64."""
    leaf = z.double().requires_grad_()
    value = logs.loss(leaf, target, fields(spec, torch.float64), weight, Options(**options))
    above = torch.ones_like(value) if upstream is None else upstream.double()
    (gradient,) = torch.autograd.grad(value, leaf, above)
    return value.detach(), gradient


@pytest.fixture(params=["whole", "parts"])
def each_cut(request: pytest.FixtureRequest) -> str:
    """Run a test with rows held at once, and again with rows that are read in parts."""
    if request.param == "parts":
        request.getfixturevalue("in_parts")
    return str(request.param)


@pytest.fixture
def many_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let four rows be all that a program sums, two at a time."""
    monkeypatch.setattr(module, "SUMMED", 4)
    monkeypatch.setattr(module, "AT_A_TIME", 2)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", LOG_SPECS)
def test_every_member_that_is_taken(name: str, reduction: str, each_cut: str, many_programs: None) -> None:
    z, spec = rows(), LOG_SPECS[name]
    weights = torch.rand(7, generator=torch.Generator().manual_seed(1))
    upstream = torch.linspace(-2.0, 3.0, 7) if reduction == "none" else torch.tensor(1.5)
    found = by_kernels(z, LABELS, spec, weights, upstream, reduction=reduction)
    expected = by_formula(z, LABELS, spec, weights, upstream, reduction=reduction)
    for value, wanted in zip(found, expected, strict=True):
        assert_close(value, wanted)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("case", HARD)
def test_the_oracles_numbers(case: str, reduction: Any) -> None:
    batch = in_type(HARD[case], np.float32)
    z, y = torch.tensor(batch.rows), torch.tensor(batch.labels)
    value, gradient = by_kernels(z, y, reduction=reduction)
    errors = value_errors(value.numpy(), batch, PLAIN, np.dtype(np.float32), reduction=reduction)
    assert errors.max() <= VALUE_BARS["float32"]
    expected = exact_gradient(case, "float32", reduction)
    # a share has the rounding error of a float32 sum over the other classes, whatever its logarithm
    assert relative_errors(gradient.numpy(), expected).max() <= 8 * np.finfo(np.float32).eps


@pytest.mark.parametrize("k", [1, 2, 3, 257, 1000])
def test_numbers_of_classes(k: int, launched: Launched) -> None:
    rng = np.random.default_rng(k)
    z, y = 30.0 * rng.normal(size=(9, k)).astype(np.float32), rng.integers(k, size=9)
    value, gradient = by_kernels(torch.from_numpy(z), torch.from_numpy(y))
    expected, expected_gradient = sl.log_cross_entropy_grad(z, y)
    assert value.item() == pytest.approx(float(expected), rel=1e-6)
    np.testing.assert_allclose(gradient.numpy(), expected_gradient, rtol=3e-6, atol=1e-9)
    assert launched == [("log_kernel", True), ("gradient_kernel", True)]


def test_a_long_row(in_parts: None, launched: Launched) -> None:
    rng = np.random.default_rng(0)
    z, y = 20.0 * rng.normal(size=(3, 50)).astype(np.float32), np.array([49, 0, 7])
    value, gradient = by_kernels(torch.from_numpy(z), torch.from_numpy(y))
    expected, expected_gradient = sl.log_cross_entropy_grad(z, y)
    assert value.item() == pytest.approx(float(expected), rel=1e-6)
    np.testing.assert_allclose(gradient.numpy(), expected_gradient, rtol=3e-6, atol=1e-9)
    assert launched == [("log_kernel", False), ("gradient_kernel", False)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_rounded_once(dtype: torch.dtype) -> None:
    z, upstream = rows(dtype), torch.tensor(65536.0 / 3)
    value, gradient = by_kernels(z, LABELS, upstream=upstream)
    wide_value, wide = by_kernels(z.float(), LABELS, upstream=upstream)
    assert value == wide_value
    assert value.dtype == torch.float32
    assert gradient.dtype == dtype
    assert rounded_once(gradient, wide)


def test_what_a_row_has_one_of_may_lie_anywhere_in_memory() -> None:
    """A column of a table of labels, one weight for all rows, the upstream gradient of a sum."""
    z, number = rows(), torch.tensor([0.5, *[9.0] * 6])
    table = torch.stack([LABELS, torch.full_like(LABELS, 4)], 1)
    whole = torch.full((7,), 0.5)
    for reduction in REDUCTIONS:
        above = whole if reduction == "none" else whole[0]
        expected = by_kernels(z, LABELS, weight=whole, upstream=above, reduction=reduction)
        strided = number[0].expand(7)
        found = by_kernels(
            z,
            table[:, 0],
            weight=strided,
            upstream=strided if reduction == "none" else number[0],
            reduction=reduction,
        )
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        turned = torch.stack([number, number], 1)[:, 0].flip(0)
        dense = turned.clone(memory_format=torch.contiguous_format)
        for one, other in zip(
            by_kernels(z, LABELS, weight=turned, reduction=reduction),
            by_kernels(z, LABELS, weight=dense, reduction=reduction),
            strict=True,
        ):
            assert torch.equal(one, other)


def test_any_strides_and_dimensions(each_cut: str) -> None:
    z = 9.0 * torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([[0, 4, 2], [1, 1, 3]])
    for reduction in REDUCTIONS:
        found = by_kernels(z, y, reduction=reduction, dim=1)
        for value, wanted in zip(found, by_formula(z, y, reduction=reduction, dim=1), strict=True):
            assert_close(value, wanted)
        assert found[1].is_contiguous()


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_rows_that_do_not_count(reduction: str, many_programs: None) -> None:
    """They may hold anything: ignored ones, and those of the weight 0."""
    z, weight = rows(), torch.ones(7)
    weight[5] = 0.0
    clean = by_kernels(z, LABELS, weight=weight, reduction=reduction)
    z[3], z[5] = torch.nan, torch.inf
    found = by_kernels(z, LABELS, weight=weight, reduction=reduction)
    assert torch.equal(found[0], clean[0])
    assert torch.equal(found[1], clean[1])
    assert not found[1][[3, 5]].any()
    if reduction == "none":
        assert found[0][[3, 5]].tolist() == [-torch.inf] * 2


@pytest.mark.parametrize("count", [0, 3])
def test_nothing_counts(count: int) -> None:
    z, y = torch.full((count, 5), torch.nan), torch.full((count,), -100)
    value, gradient = by_kernels(z, y)
    assert value.isnan()
    assert torch.equal(gradient, torch.zeros(count, 5))
    assert by_kernels(z, y, empty="zero")[0] == 0
    assert by_kernels(z, y, reduction="sum")[0] == -torch.inf
    assert by_kernels(z, y, reduction="none")[0].tolist() == [-torch.inf] * count


@pytest.mark.parametrize(
    ("row", "label"),
    [
        ([torch.nan, 0.0, 1.0], 0),
        ([torch.nan, 0.0, 1.0], 1),
        ([torch.inf, 0.0, 1.0], 0),
        ([torch.inf, 0.0, 1.0], 1),
        ([-torch.inf] * 3, 0),
        ([-torch.inf, 0.0, 1.0], 0),  # impossible
        ([0.0, -torch.inf, -torch.inf], 0),  # alone
        ([3.0, 0.0, -torch.inf], 0),
    ],
)
def test_rows_that_are_not_finite(row: list[float], label: int, each_cut: str, many_programs: None) -> None:
    """The numbers of the NumPy package: J, the rows' own values, and which gradients are no numbers."""
    z = torch.zeros(6, 3)
    z[:, 1] = 1.0
    z[4] = torch.tensor(row)
    y = torch.full((6,), label)
    for reduction in REDUCTIONS:
        value, gradient = by_kernels(z, y, reduction=reduction)
        options: Any = {"reduction": reduction}
        expected, wanted = sl.log_cross_entropy_grad(z.numpy(), y.numpy(), **options)
        np.testing.assert_allclose(value.numpy(), expected, rtol=1e-6)
        np.testing.assert_allclose(gradient.numpy(), wanted, rtol=1e-5, atol=1e-7)


def test_a_rows_numbers_do_not_depend_on_the_batch() -> None:
    z = rows()
    value, gradient = by_kernels(z, LABELS, reduction="none")
    for i in range(7):
        own = by_kernels(z[i : i + 1], LABELS[i : i + 1], reduction="none")
        assert torch.equal(own[0], value[i : i + 1])
        assert torch.equal(own[1], gradient[i : i + 1])


def test_a_label_out_of_range_is_an_assertion() -> None:
    for label in (5, -1):
        with pytest.raises(Exception, match="out of range"):
            by_kernels(torch.zeros(2, 5), torch.tensor([0, label]))


def test_rows_in_place() -> None:
    z, labels = rows(), LABELS.clamp(min=0)
    high, low = kernels.log_rows_in_place(z.clone(), labels, fields(INDEX_SPECS["class weight"]), False)
    value, gradient = by_formula(z, labels, reduction="none")
    assert high.dtype == low.dtype == torch.float64
    torch.testing.assert_close(high + low, value, rtol=1e-7, atol=1e-7)
    own = z.clone()
    kernels.log_rows_in_place(own, labels, fields(PLAIN), True)
    assert_close(own, gradient)


# ---- the public functions as a GPU's tensors go through them ----


def test_the_public_function(as_on_a_gpu: Launched) -> None:
    z, y = rows()[:, :K].nan_to_num(neginf=0.3).requires_grad_(), LABELS
    spec, weight = LOG_SPECS["all that it takes"], torch.linspace(0.5, 2.0, 7)
    value = slt.log_cross_entropy(z, y, spec, sample_weight=weight)
    value.backward()
    expected, gradient = by_formula(z.detach(), y, spec, weight)
    assert z.grad is not None
    assert_close(value.detach(), expected)
    assert_close(z.grad, gradient)
    assert [name for name, _ in as_on_a_gpu] == ["log_kernel", "gradient_kernel"]
    with torch.no_grad():
        assert slt.log_cross_entropy(z, y, spec, sample_weight=weight) == value
    module_ = slt.LogCrossEntropyLoss(spec)
    assert module_(z, y, weight) == value
    for dtype in (torch.uint8, torch.int32, torch.uint16):
        labels = y.clamp(min=0)
        assert slt.log_cross_entropy(z, labels.to(dtype)) == slt.log_cross_entropy(z, labels)


def test_other_derivatives_take_the_formula(as_on_a_gpu: Launched) -> None:
    z, y = rows().nan_to_num(neginf=0.3).requires_grad_(), LABELS
    wide = z.detach().double().requires_grad_()
    found, expected = (slt.log_cross_entropy(each, y) for each in (z, wide))
    (gradient,) = torch.autograd.grad(found, z, create_graph=True)
    (exact,) = torch.autograd.grad(expected, wide, create_graph=True)
    torch.testing.assert_close(gradient, exact.float(), rtol=1e-4, atol=1e-6)
    (second,) = torch.autograd.grad(gradient.square().sum(), z)
    (exact,) = torch.autograd.grad(exact.square().sum(), wide)
    torch.testing.assert_close(second, exact.float(), rtol=1e-4, atol=1e-6)
    for reduction in ("mean", "none"):
        value = slt.log_cross_entropy(z, y, reduction=reduction)
        upstream = torch.ones_like(value)
        (once,) = torch.autograd.grad(value, z, upstream, retain_graph=True)
        both = torch.stack([upstream, -2.0 * upstream])
        (many,) = torch.autograd.grad(value, z, both, is_grads_batched=True)
        torch.testing.assert_close(many, torch.stack([once, -2.0 * once]), rtol=1e-4, atol=1e-6)


def test_what_the_kernels_do_not_take(as_on_a_gpu: Launched) -> None:
    """float64 and fields at the ends of their domains have the formula in plain torch."""
    z, y = rows(), LABELS
    slt.log_cross_entropy(z.double(), y)
    slt.log_cross_entropy(z, y, sl.LossSpec(temperature=1e-20))
    assert as_on_a_gpu == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_a_linear_layer(dtype: torch.dtype, as_on_a_gpu: Launched) -> None:
    generator = torch.Generator().manual_seed(0)
    h, w = (torch.randn(n, 5, generator=generator).to(dtype).requires_grad_() for n in (7, K))
    y = torch.tensor([0, 1, 2, 3, 4, 5, -100])
    spec = INDEX_SPECS["class weight"]
    value = slt.linear_cross_entropy(h, w, y, spec, reduction="log_mean", chunk_bytes=100)
    logits = (h @ w.T).detach().double()
    expected, gradient = sl.log_cross_entropy_grad(logits.numpy(), y.numpy(), spec)
    assert value.item() == pytest.approx(float(expected), rel=1e-6)
    g, eps = torch.from_numpy(gradient), torch.finfo(dtype).eps
    for found, exact in zip(
        torch.autograd.grad(value, (h, w)), (g @ w.double(), g.T @ h.double()), strict=True
    ):
        bar = 2 * max(eps, 1e-6)
        torch.testing.assert_close(found.double(), exact, rtol=bar, atol=bar * float(exact.abs().max()))
    assert {name for name, _ in as_on_a_gpu} == {"log_kernel", "gradient_kernel"}
