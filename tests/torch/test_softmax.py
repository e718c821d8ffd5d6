"""Softmax and log-softmax on tensors: the NumPy package's bits, derivatives of every kind, confident rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import softmax_lab as sl
import softmax_lab.torch as slt
from softmax_lab.torch._base.tensors import as_array
from softmax_lab.torch._formula import maps

NAMES = ("softmax", "log_softmax")
Z = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def both(name: str) -> tuple[Callable[..., Tensor], Callable[..., Any]]:
    return getattr(slt, name), getattr(sl, name)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_bits_are_those_of_the_numpy_package(name: str, dtype: torch.dtype, temperature: float) -> None:
    ours, numpy = both(name)
    for z, dim in ((Z.to(dtype), 1), (Z.to(dtype).t(), 0), (Z.to(dtype)[0], 0), (Z.to(dtype)[:, ::2], -1)):
        result = ours(z, dim, temperature=temperature)
        expected = numpy(as_array(z), axis=dim, temperature=temperature)
        assert result.dtype == dtype
        assert as_array(result).tobytes() == np.ascontiguousarray(expected).tobytes()
    assert torch.equal(ours(Z.to(dtype), dtype=torch.float64), ours(Z.to(dtype).double()))


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_derivatives(name: str, temperature: float) -> None:
    function = lambda z: both(name)[0](z, 0, temperature=temperature)  # noqa: E731
    z = Z.clone().requires_grad_()
    assert torch.autograd.gradcheck(function, (z,), check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(function, (z,), check_fwd_over_rev=True)
    jacobian = torch.autograd.functional.jacobian(function, Z)
    torch.testing.assert_close(torch.func.jacrev(function)(Z), jacobian)
    torch.testing.assert_close(torch.func.jacfwd(function)(Z), jacobian)
    torch.testing.assert_close(torch.func.vmap(both(name)[0])(Z), both(name)[0](Z))


def test_a_confident_row_keeps_its_derivative(name: str) -> None:
    z = torch.tensor([40.0, 0.0], dtype=torch.float64, requires_grad=True)
    both(name)[0](z)[0].backward()
    other = sl.softmax([40.0, 0.0])[1]
    assert z.grad is not None
    # p (1 - p) and 1 - p, with p = 1 to the last digit
    np.testing.assert_allclose(z.grad, [other, -other], rtol=1e-14)


def test_plain_torch_agrees(name: str) -> None:
    for z in (
        Z,
        torch.tensor(
            [[torch.inf, 0.0], [-torch.inf, -torch.inf], [torch.nan, 0.0], [40.0, 0.0]], dtype=torch.float64
        ),
    ):
        for temperature in (1.0, 0.3):
            plain = getattr(maps, name)(z, 1, temperature)
            np.testing.assert_allclose(plain, both(name)[1](z.numpy(), temperature=temperature), rtol=1e-13)


def test_a_temperature_so_low_that_the_quotient_overflows(name: str) -> None:
    z = torch.tensor([1e300, -1e300, 1e300], dtype=torch.float64)
    expected = both(name)[1](z.numpy(), temperature=1e-20)
    np.testing.assert_allclose(both(name)[0](z, temperature=1e-20), expected)
    np.testing.assert_allclose(getattr(maps, name)(z, 0, 1e-20), expected)


@pytest.mark.parametrize(
    ("args", "kwargs", "error", "message"),
    [
        ((np.zeros(3),), {}, TypeError, "input must be a torch.Tensor"),
        ((torch.zeros(3, dtype=torch.long),), {}, TypeError, "input must be float16"),
        ((torch.zeros(()),), {}, ValueError, "at least one dimension"),
        ((torch.zeros(3, 0),), {}, ValueError, "at least one class"),
        ((torch.zeros(3), 1), {}, ValueError, "dim must lie in"),
        ((torch.zeros(3),), {"temperature": 0.0}, ValueError, "temperature must be"),
    ],
)
def test_errors(name: str, args: Any, kwargs: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        both(name)[0](*args, **kwargs)


def test_a_row_with_an_infinity_has_no_gradient_on_the_plain_path(name: str) -> None:
    z = torch.tensor([[torch.inf, 0.0], [0.0, 1.0]], dtype=torch.float64)
    value, pullback = torch.func.vjp(both(name)[0], z)[:2]
    gradient = pullback(torch.ones_like(z))[0]
    assert value[0].isnan().all()
    assert gradient[0].isnan().all()
    assert gradient[1].isfinite().all()


def test_a_dimension_is_one_integer(name: str) -> None:
    assert torch.equal(both(name)[0](Z, np.int64(0)), both(name)[0](Z, 0))
    for dim in (1.0, None):
        with pytest.raises(TypeError, match=f"dim must be one integer; got {dim}"):
            both(name)[0](Z, dim)


@pytest.mark.parametrize("temperature", [1.0, 0.3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_an_exporter_finds_a_decomposition_into_torchs_own_operators(
    name: str, dtype: torch.dtype, temperature: float
) -> None:
    z = (Z * 3).to(dtype)
    operator = getattr(torch.ops.softmax_lab, name).default
    found = torch._decomp.decomposition_table[operator](z, torch.tensor(temperature, dtype=torch.float64), 1)
    assert found.dtype == dtype
    torch.testing.assert_close(found, both(name)[0](z, 1, temperature=temperature))
    huge = torch.tensor([[1e38, -1e38]])
    assert torch.equal(
        torch._decomp.decomposition_table[operator](huge, torch.tensor(1e-3).double(), 1)[0, 0],
        both(name)[0](huge)[0, 0],
    )
