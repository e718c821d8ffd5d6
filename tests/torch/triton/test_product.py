"""The Hessian-vector product against the closed form and against differences of gradients."""

from __future__ import annotations

import pytest
import torch

import softmax_lab as sl
from softmax_lab.torch import triton as kernels
from softmax_lab.torch._base.options import Options
from softmax_lab.torch._formula import losses

from ...specs import INDEX_SPECS, SOFT_SPECS, K
from .cases import LABELS, assert_close, fields, rows

TANGENT = torch.randn(7, K, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("name", INDEX_SPECS)
def test_every_field(name: str, each_plan: str, launched: list[tuple[str, bool]]) -> None:
    spec, z = INDEX_SPECS[name], rows().nan_to_num(neginf=0.2)
    product = kernels.hvp(z, LABELS, TANGENT, fields(spec), None, Options())
    expected = losses.hvp(z.double(), LABELS, TANGENT.double(), fields(spec, torch.float64), None, Options())
    assert_close(product, expected, steps=64)
    assert launched[-1] == ("product_kernel", each_plan != "parts")


@pytest.mark.parametrize("name", SOFT_SPECS)
def test_target_distributions(name: str, each_plan: str) -> None:
    spec, z = SOFT_SPECS[name], rows().nan_to_num(neginf=0.2)
    target = torch.rand(7, K, generator=torch.Generator().manual_seed(6))
    product = kernels.hvp(z, target, TANGENT, fields(spec), None, Options(reduction="sum"))
    expected = losses.hvp(
        z.double(),
        target.double(),
        TANGENT.double(),
        fields(spec, torch.float64),
        None,
        Options(reduction="sum"),
    )
    assert_close(product, expected, steps=64)


def test_differences_of_gradients(each_plan: str) -> None:
    z, step = rows().nan_to_num(neginf=0.2), 2.0**-6
    there, back = (
        kernels.loss_and_gradient(z + sign * step * TANGENT, LABELS, fields(sl.LossSpec()), None, Options())[
            1
        ]
        for sign in (1, -1)
    )
    product = kernels.hvp(z, LABELS, TANGENT, fields(sl.LossSpec()), None, Options())
    torch.testing.assert_close(product, (there - back) / (2 * step), rtol=2e-2, atol=2e-5)


def test_a_confident_row_keeps_its_curvature(each_plan: str) -> None:
    z, y, t = torch.tensor([[0.0, 40.0, 0.0]]), torch.tensor([1]), torch.tensor([[1.0, 2.0, 4.0]])
    product = kernels.hvp(z, y, t, fields(sl.LossSpec()), None, Options())
    expected = losses.hvp(z.double(), y, t.double(), fields(sl.LossSpec(), torch.float64), None, Options())
    torch.testing.assert_close(product, expected.float(), rtol=1e-5, atol=0)
