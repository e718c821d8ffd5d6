"""Softmax, log-softmax and their derivatives against float64 and the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from softmax_lab import exact
from softmax_lab.audit.cases import HARD_ROWS, LONG_ROW
from softmax_lab.torch import triton as kernels
from softmax_lab.torch._formula import maps as formulas
from softmax_lab.torch.triton import plan as plans

from ...ulps import Record, dtype_of
from .cases import assert_close, rows

MAPS = ("softmax", "log_softmax")


@pytest.mark.parametrize("temperature", [1.0, 0.3])
@pytest.mark.parametrize("name", MAPS)
def test_value_and_derivative(name: str, temperature: float, each_plan: str) -> None:
    z, upstream = rows(), torch.randn(7, 6, generator=torch.Generator().manual_seed(3))
    result = getattr(kernels, name)(z, -1, temperature)
    expected = getattr(formulas, name)(z.double(), -1, temperature)
    assert_close(result, expected)
    pulled = getattr(kernels, f"{name}_vjp")(result, upstream, -1, temperature)
    assert_close(pulled, getattr(formulas, f"{name}_vjp")(expected, upstream.double(), -1, temperature))


@pytest.mark.parametrize("name", MAPS)
def test_a_confident_row_keeps_its_gradient(name: str, each_plan: str) -> None:
    """What is pulled back through (40, 0) is of the size of 4e-18, and not 0."""
    z, upstream = torch.tensor([[0.0, 40.0, -3.0]]), torch.tensor([[1.0, 2.0, 5.0]])
    if name == "log_softmax":
        upstream = torch.tensor([[0.0, 2.0, 0.0]])
    pulled = getattr(kernels, f"{name}_vjp")(getattr(kernels, name)(z, -1, 1.0), upstream, -1, 1.0)
    expected = getattr(formulas, f"{name}_vjp")(
        getattr(formulas, name)(z.double(), -1, 1.0), upstream.double(), -1, 1.0
    )
    assert expected[0, 1] != 0
    torch.testing.assert_close(pulled, expected.float(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("case", [*HARD_ROWS, LONG_ROW], ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", MAPS)
def test_ulps_against_the_oracle(name: str, dtype: str, case: Any, record_ulp: Record) -> None:
    array = case.make(dtype_of(dtype))
    result = getattr(kernels, name)(torch.from_numpy(array), -1, 1.0).numpy()
    for row, found in zip(array.astype(np.float64), result, strict=True):
        error = float(exact.ulp_error(found, getattr(exact, name)(row), dtype=dtype_of(dtype)).max())
        record_ulp(f"GPU kernel, {name}", dtype, case.name, error)
        assert error < (3.0 if dtype == "float32" else 0.51)


@pytest.mark.parametrize("name", MAPS)
def test_which_kernel_runs(name: str, launched: list[tuple[str, bool]]) -> None:
    beyond = plans.SEGMENT * plans.MOST_SEGMENTS + 1
    for k in (3, plans.ALONE, plans.ALONE + 1, beyond):
        z = torch.randn(1, k)
        result = getattr(kernels, name)(z, -1, 1.0)
        assert_close(result, getattr(formulas, name)(z.double(), -1, 1.0))
        getattr(kernels, f"{name}_vjp")(result, z, -1, 1.0)
    vjp = f"{name}_vjp_kernel"
    alone, together = ("whole_kernel", True), ("shared_kernel", True)
    assert launched[:6] == [alone, (vjp, True), alone, (vjp, True), together, (vjp, False)]
    assert launched[6:] == [("map_kernel", False), (vjp, False)]


def test_rows_without_anything_finite(each_plan: str) -> None:
    z = torch.tensor(
        [[-torch.inf] * 5, [torch.nan, 0, 0, 0, 0], [0, torch.inf, 0, 0, 0], [-torch.inf] * 4 + [0]]
    )
    for name in MAPS:
        result = getattr(kernels, name)(z, -1, 1.0)
        assert torch.isnan(result).all(1).tolist() == [True, True, True, False]
    assert kernels.softmax(z, -1, 1.0)[3].tolist() == [0, 0, 0, 0, 1]
    assert kernels.softmax(torch.zeros(0, 5), -1, 1.0).shape == (0, 5)
