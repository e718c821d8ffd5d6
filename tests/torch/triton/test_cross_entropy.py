"""The loss kernel against the closed form in float64, the oracle, and the loops of the processor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import softmax_lab as sl
from softmax_lab import exact
from softmax_lab.audit.cases import HARD_ROWS, labelled
from softmax_lab.torch import triton as kernels
from softmax_lab.torch._base.options import Options
from softmax_lab.torch._formula import family as family_of_rows
from softmax_lab.torch._formula import losses
from softmax_lab.torch.triton import plain
from softmax_lab.torch.triton import plan as plans

from ...specs import INDEX_SPECS, SOFT_SPECS, K
from ...ulps import Record, dtype_of
from .cases import LABELS, assert_close, fields, rounded_once, rows


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", INDEX_SPECS)
def test_every_field(name: str, reduction: str, each_plan: str) -> None:
    spec, options = INDEX_SPECS[name], Options(reduction=reduction)
    z, weights = rows(), torch.rand(7, generator=torch.Generator().manual_seed(1))
    if np.any(spec.smoothing):  # -inf would make the loss infinite
        z[4, 1] = 0.1
    value, gradient = kernels.loss_and_gradient(z, LABELS, fields(spec), weights, options)
    expected = losses.loss_and_gradient(z.double(), LABELS, fields(spec, torch.float64), weights, options)
    assert_close(value, expected[0])
    assert_close(gradient, expected[1])
    assert torch.equal(kernels.loss(z, LABELS, fields(spec), weights, options), value)


@pytest.mark.parametrize("name", SOFT_SPECS)
def test_target_distributions(name: str, each_plan: str) -> None:
    spec, z = SOFT_SPECS[name], rows().nan_to_num(neginf=0.3)
    target = torch.rand(7, K, generator=torch.Generator().manual_seed(2))
    target[0], target[3] = torch.eye(K)[2], 0.0
    value, gradient = kernels.loss_and_gradient(z, target, fields(spec), None, Options())
    expected = losses.loss_and_gradient(
        z.double(), target.double(), fields(spec, torch.float64), None, Options()
    )
    assert_close(value, expected[0])
    assert_close(gradient, expected[1])


def test_a_class_without_mass_may_be_impossible(each_plan: str) -> None:
    z, target = torch.tensor([[0.0, -torch.inf, 1.0]]), torch.tensor([[0.5, 0.0, 0.5]])
    value, gradient = kernels.loss_and_gradient(z, target, fields(sl.LossSpec()), None, Options())
    assert value.item() == pytest.approx(float(sl.cross_entropy(z.numpy(), target.numpy())), rel=1e-6)
    assert gradient[0, 1] == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_rounded_once(dtype: torch.dtype, each_plan: str) -> None:
    z = rows(dtype)
    value, gradient = kernels.loss_and_gradient(
        z, LABELS, fields(sl.LossSpec()), None, Options(reduction="none")
    )
    wide_value, wide_gradient = kernels.loss_and_gradient(
        z.float(), LABELS, fields(sl.LossSpec()), None, Options(reduction="none")
    )
    assert gradient.dtype == dtype
    assert value.dtype == torch.float32
    assert torch.equal(value, wide_value)
    assert rounded_once(gradient, wide_gradient)


@pytest.mark.parametrize("case", HARD_ROWS, ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_ulps_against_the_oracle(case: Any, dtype: str, record_ulp: Record) -> None:
    """Four ulp, the audit's limit: an exponential, a sum, a quotient and a product are rounded in float32."""
    array, labels = labelled(case.make(dtype_of(dtype)))
    z = torch.from_numpy(array.astype(np.float32)).to(getattr(torch, dtype))
    values, gradients = kernels.loss_and_gradient(
        z, torch.from_numpy(labels), fields(sl.LossSpec()), None, Options(reduction="none")
    )
    for row, label, value, gradient in zip(array.astype(np.float64), labels, values, gradients, strict=True):
        errors = {
            "value": (value, [exact.cross_entropy(row, int(label))], "float32"),
            "gradient": (gradient.float(), exact.cross_entropy_grad(row, int(label)), dtype),
        }
        for name, (found, expected, unit) in errors.items():
            error = float(exact.ulp_error(found.numpy(), expected, dtype=dtype_of(unit)).max())
            record_ulp(f"GPU kernel, {name}", unit, case.name, error)
            assert error < 4.0


@settings(max_examples=25)
@given(
    st.lists(st.lists(st.floats(-50, 50, width=32), min_size=7, max_size=7), min_size=1, max_size=4),
    st.data(),
)
def test_properties(values: list[list[float]], data: st.DataObject) -> None:
    z = torch.tensor(values)
    y = torch.tensor(data.draw(st.lists(st.integers(0, 6), min_size=len(z), max_size=len(z))))
    order = torch.tensor(data.draw(st.permutations(range(7))))
    plain, options = fields(sl.LossSpec()), Options(reduction="none")
    value, gradient = kernels.loss_and_gradient(z, y, plain, None, options)
    assert float(gradient.double().sum(1).abs().max()) < 1e-6  # adds up to zero
    again, permuted = kernels.loss_and_gradient(z[:, order], torch.argsort(order)[y], plain, None, options)
    torch.testing.assert_close(permuted, gradient[:, order], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(again, value, rtol=1e-5, atol=1e-6)
    exactly = (z * 8).round() / 8  # so that the shift is exact
    assert torch.equal(
        kernels.loss_and_gradient(exactly + 64, y, plain, None, options)[1],
        kernels.loss_and_gradient(exactly, y, plain, None, options)[1],
    )
    one_by_one = [
        kernels.loss_and_gradient(z[i : i + 1], y[i : i + 1], plain, None, options) for i in range(len(z))
    ]
    assert torch.equal(torch.cat([v for v, _ in one_by_one]), value)
    assert torch.equal(torch.cat([g for _, g in one_by_one]), gradient)


@pytest.mark.parametrize("k", [1, 2, 3, 257, 1000])
def test_agrees_with_the_loops_of_the_processor(k: int, launched: list[tuple[str, bool]]) -> None:
    rng = np.random.default_rng(k)
    z, y = rng.normal(size=(9, k)).astype(np.float32), rng.integers(k, size=9)
    value, gradient = kernels.loss_and_gradient(
        torch.from_numpy(z), torch.from_numpy(y), fields(sl.LossSpec()), None, Options()
    )
    expected, expected_gradient = sl.cross_entropy_grad(z, y)
    assert value.item() == pytest.approx(float(expected), rel=1e-6)
    np.testing.assert_allclose(gradient.numpy(), expected_gradient, rtol=2e-6, atol=1e-9)
    assert launched == [("whole_kernel", True)]


@pytest.mark.parametrize("kernel", ["shared_kernel", "loss_kernel"])
def test_a_long_row_is_shared_or_read_in_parts(
    kernel: str, launched: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernel == "loss_kernel":
        monkeypatch.setattr(plain, "held", lambda num_classes: None)
    k = plans.WHOLE + plans.PART + 3
    z = np.random.default_rng(0).normal(size=(2, k)).astype(np.float32) * 4
    y = np.array([k - 1, 7])
    value, gradient = kernels.loss_and_gradient(
        torch.from_numpy(z), torch.from_numpy(y), fields(sl.LossSpec()), None, Options()
    )
    expected, expected_gradient = sl.cross_entropy_grad(z, y)
    assert value.item() == pytest.approx(float(expected), rel=1e-6)
    np.testing.assert_allclose(gradient.numpy(), expected_gradient, rtol=2e-6, atol=1e-12)
    assert launched == [(kernel, kernel == "shared_kernel")]


def test_rows_that_are_not_finite_are_nan_and_no_other(each_plan: str) -> None:
    z = torch.zeros(5, 6)
    z[1, 2], z[2, 0], z[3] = torch.nan, torch.inf, -torch.inf
    values, gradient = kernels.loss_and_gradient(
        z, torch.full((5,), 4), fields(sl.LossSpec()), None, Options(reduction="none")
    )
    assert torch.isnan(values).tolist() == [False, True, True, True, False]
    assert torch.isnan(gradient).all(1).tolist() == [False, True, True, True, False]
    assert not torch.isnan(gradient[[0, 4]]).any()


def test_ignored_rows_and_empty_means() -> None:
    z, ignored = torch.full((3, 5), torch.nan), torch.full((3,), -100)
    value, gradient = kernels.loss_and_gradient(z, ignored, fields(sl.LossSpec()), None, Options())
    assert torch.isnan(value)
    assert torch.equal(gradient, torch.zeros(3, 5))
    assert kernels.loss(z, ignored, fields(sl.LossSpec()), None, Options(empty="zero")) == 0
    none = torch.zeros(0, 5)
    value, gradient = kernels.loss_and_gradient(
        none, torch.zeros(0, dtype=torch.long), fields(sl.LossSpec()), None, Options(empty="zero")
    )
    assert value == 0
    assert gradient.shape == (0, 5)


def test_a_label_out_of_range_is_an_assertion() -> None:
    for label in (5, -1):
        with pytest.raises(Exception, match="out of range"):
            kernels.loss(torch.zeros(2, 5), torch.tensor([0, label]), fields(sl.LossSpec()), None, Options())


def test_any_strides_and_dimensions(each_plan: str) -> None:
    z, y = torch.randn(2, 5, 3), torch.tensor([[0, 4, 2], [1, 1, 3]])
    value, gradient = kernels.loss_and_gradient(z, y, fields(sl.LossSpec()), None, Options(dim=1))
    expected, expected_gradient = losses.loss_and_gradient(
        z.double(), y, fields(sl.LossSpec(), torch.float64), None, Options(dim=1)
    )
    assert_close(value, expected)
    assert_close(gradient, expected_gradient)
    assert gradient.is_contiguous()
    wide = torch.randn(4, 10)
    assert torch.equal(
        kernels.loss(wide[:, :5], y.reshape(-1)[:4], fields(sl.LossSpec()), None, Options()),
        kernels.loss(wide[:, :5].contiguous(), y.reshape(-1)[:4], fields(sl.LossSpec()), None, Options()),
    )
    one = torch.randn(1, 5).expand(3, 5)
    alike = kernels.loss(one, torch.tensor([1, 1, 1]), fields(sl.LossSpec()), None, Options(reduction="none"))
    assert alike[0] == alike[1] == alike[2]


def test_what_a_row_has_one_of_may_lie_anywhere_in_memory() -> None:
    """A column of a table of labels, one weight for all rows, the upstream gradient of a sum."""
    z, spec, options = rows(), fields(sl.LossSpec()), Options(reduction="none")
    table = torch.stack([LABELS, torch.full_like(LABELS, 4)], 1)
    weights = torch.tensor([0.5, *[9.0] * 6])
    for target, weight in ((table[:, 0], None), (LABELS, weights[0].expand(7)), (LABELS, weights.flip(0))):
        dense = None if weight is None else weight.clone(memory_format=torch.contiguous_format)
        found = kernels.loss_and_gradient(z, target, spec, weight, options)
        expected = kernels.loss_and_gradient(z, LABELS, spec, dense, options)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        tangent = z.nan_to_num(neginf=0.3)
        assert torch.equal(
            kernels.hvp(z, target, tangent, spec, weight, options),
            kernels.hvp(z, LABELS, tangent, spec, dense, options),
        )
    _, kept = kernels.loss_and_kept(z, LABELS, spec, None, options)
    found_gradient, expected_gradient = (
        kernels.gradient(z, kept, upstream, LABELS, spec, None, options)
        for upstream in (weights[0].expand(7), torch.full((7,), 0.5))
    )
    assert torch.equal(found_gradient, expected_gradient)


def test_offsets_beyond_two_to_the_31() -> None:
    """Two rows of a view, 2^31 entries apart: the memory between them is never touched."""
    memory = torch.empty(2**31 + 8, dtype=torch.float16)
    z = memory.as_strided((2, 8), (2**31, 1))
    z.copy_(torch.randn(2, 8))
    values = kernels.loss(z, torch.tensor([3, 3]), fields(sl.LossSpec()), None, Options(reduction="none"))
    assert torch.equal(
        values,
        kernels.loss(z.clone(), torch.tensor([3, 3]), fields(sl.LossSpec()), None, Options(reduction="none")),
    )


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("name", [*INDEX_SPECS, *(f"{name}, distributions" for name in SOFT_SPECS)])
def test_the_gradient_from_what_was_kept(name: str, reduction: str, each_plan: str) -> None:
    """The upstream gradient comes before the rounding: in half precision, and over the logits."""
    spec, options = INDEX_SPECS[name.removesuffix(", distributions")], Options(reduction=reduction)
    z = rows().nan_to_num(neginf=0.3)
    target = (
        torch.rand(7, K, generator=torch.Generator().manual_seed(2))
        if name.endswith("distributions")
        else LABELS
    )
    upstream = torch.linspace(-3.0, 700.0, 7) if reduction == "none" else torch.tensor(21845.3)
    weights = torch.rand(7, generator=torch.Generator().manual_seed(1))
    value, kept = kernels.loss_and_kept(z, target, fields(spec), weights, options)
    gradient = kernels.gradient(z, kept, upstream, target, fields(spec), weights, options)
    wide = target.double() if target.is_floating_point() else target
    expected = losses.loss_and_gradient(z.double(), wide, fields(spec, torch.float64), weights, options)
    assert_close(value, expected[0])
    assert_close(gradient, expected[1] * (upstream[:, None] if upstream.ndim else upstream))


def test_a_loss_scale_is_no_second_rounding(each_plan: str) -> None:
    """In float16: the interpreter cuts float32 to bfloat16, where a card rounds."""
    dtype = torch.float16
    z, labels = (
        (3 * torch.randn(16, 40, generator=torch.Generator().manual_seed(0))).to(dtype),
        torch.arange(16) * 2,
    )
    scale = torch.tensor(65536 / 3)
    _, kept = kernels.loss_and_kept(z, labels, fields(sl.LossSpec()), None, Options())
    gradient = kernels.gradient(z, kept, scale, labels, fields(sl.LossSpec()), None, Options())
    expected = (
        losses.loss_and_gradient(z.double(), labels, fields(sl.LossSpec(), torch.float64), None, Options())[1]
        * scale.double()
    )
    unit = 0.51 * torch.finfo(dtype).eps * expected.abs().clamp_min(torch.finfo(dtype).smallest_normal)
    assert bool(((gradient.double() - expected).abs() <= unit).all())


def test_over_the_logits_is_the_same_gradient(each_plan: str) -> None:
    z = rows()
    spec, upstream = fields(sl.LossSpec()), torch.tensor(1.0)
    _, kept = kernels.loss_and_kept(z, LABELS, spec, None, Options())
    expected, own = kernels.gradient(z, kept, upstream, LABELS, spec, None, Options()), z.clone()
    assert kernels.gradient(own, kept, upstream, LABELS, spec, None, Options(), out=own) is own
    assert torch.equal(own, expected)
    assert_close(expected, kernels.loss_and_gradient(z, LABELS, spec, None, Options())[1].double())


def test_rows_in_place_have_their_weights(each_plan: str) -> None:
    _, weights = kernels.rows_in_place(rows(), LABELS.clamp(min=0), fields(INDEX_SPECS["gate"]), False)
    _, expected = family_of_rows.value(
        rows().double(), LABELS.clamp(min=0), fields(INDEX_SPECS["gate"], torch.float64)
    )
    assert_close(weights, expected)


@pytest.mark.parametrize("share", [torch.inf, -torch.inf, -0.5, torch.nan])
@pytest.mark.parametrize("place", [0, 2])
def test_shares_of_any_sign_and_infinite_ones_give_the_formula(
    share: float, place: int, each_plan: str
) -> None:
    z = rows()[[0, 1, 5]]
    target = torch.full((3, K), 1.0 / K)
    target[0, z[0].argmax() if place else 0] = share
    options = Options(reduction="none", signed=True)
    value, gradient = kernels.loss_and_gradient(z, target, fields(sl.LossSpec()), None, options)
    expected = losses.loss_and_gradient(
        z.double(), target.double(), fields(sl.LossSpec(), torch.float64), None, options
    )
    torch.testing.assert_close(value.double(), expected[0], rtol=1e-5, atol=1e-5, equal_nan=True)
    torch.testing.assert_close(gradient.double(), expected[1], rtol=1e-5, atol=1e-5, equal_nan=True)
