"""The fields as tensors, and the ends of their domains in plain torch against the CPU's loops."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

import softmax_lab as sl
import softmax_lab.torch as slt
from softmax_lab import LossSpec
from softmax_lab.torch._base.options import Options
from softmax_lab.torch._base.tensors import loss_dtype
from softmax_lab.torch._formula import losses
from softmax_lab.torch._formula.fields import (
    SpecTensors,
    extreme,
    on_device,
    only,
    pack,
    shard,
    spec_tensors,
    unpack,
)
from tests.limits import HANG
from tests.specs import INDEX_SPECS

LARGEST = float(np.finfo(np.float64).max)
Z = torch.tensor([[2.0, 1.0, 0.5], [-3.0, 4.0, 1e-3]], dtype=torch.float64)
Y = torch.tensor([0, 1])
TANGENT = torch.tensor([[1.0, -2.0, 0.5], [0.25, 1.0, 3.0]], dtype=torch.float64)

SPECS = {
    f"{name}={end:g}": LossSpec(**{name: end})
    for name, ends in {
        "temperature": (5e-324, 1e-308, 1e-50, 1e50, LARGEST),
        "scale": (5e-324, 1e-50, 1e50, LARGEST),
        "softcap": (5e-324, 1e-308, 1e-50, 1e50, LARGEST),
        "margin": (5e-324, LARGEST),
        "smoothing": (5e-324, 1.0),
        "class_weight": (5e-324, 1e-50, 1e50, LARGEST),
        "z_loss": (5e-324,),
        "gamma": (5e-324,),
    }.items()
    for end in ends
}


def close(computed: torch.Tensor, expected: Any, dtype: torch.dtype) -> None:
    torch.testing.assert_close(
        computed,
        torch.as_tensor(np.asarray(expected)).to(computed.dtype),
        rtol=1e-13 if dtype == torch.float64 else 1e-5,
        atol=1e-300,
    )


@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", SPECS)
def test_plain_torch_at_the_ends(name: str, dtype: torch.dtype, reduction: str) -> None:
    spec, z, tangent = SPECS[name], Z.to(dtype), TANGENT.to(dtype)
    arrays = z.numpy(), Y.numpy()
    value, gradient = sl.cross_entropy_grad(*arrays, spec, reduction=reduction)  # type: ignore[arg-type]
    product = sl.cross_entropy_hvp(*arrays, tangent.numpy(), spec, reduction=reduction)  # type: ignore[arg-type]
    fields, options = spec_tensors(spec, torch.device("cpu"), loss_dtype(dtype)), Options(reduction)
    computed = losses.loss_and_gradient(z, Y, fields, None, options)
    close(computed[0], value, dtype)
    close(computed[1], gradient, dtype)
    close(losses.hvp(z, Y, tangent, fields, None, options), product, dtype)
    if reduction == "mean" and 1 / spec.temperature < np.inf:
        close(torch.func.grad(lambda x: slt.cross_entropy(x, Y, spec))(z), gradient, dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("temperature", [5e-324, 1e-309, 1e-50, 1e50, LARGEST])
def test_maps_and_their_derivatives_at_the_ends(temperature: float, dtype: torch.dtype) -> None:
    for name in ("softmax", "log_softmax"):
        z = Z.to(dtype, copy=True).requires_grad_()
        function = getattr(slt, name)
        result = function(z, temperature=temperature)
        close(result.detach(), getattr(sl, name)(z.detach().numpy(), temperature=temperature), dtype)
        close(
            torch.func.vmap(lambda row, f=function: f(row, temperature=temperature))(z.detach()),
            result.detach(),
            dtype,
        )
        result[:, 0].sum().backward()
        assert z.grad is not None
        sharp = temperature < 1
        # of a sharp row nothing moves but the logarithm of an unlikely class, by 1/T
        if name == "softmax" and sharp:
            assert not z.grad.any()
        assert not torch.isnan(z.grad).any()


def test_a_derivative_in_plain_torch_refuses_a_temperature_whose_reciprocal_is_infinite() -> None:
    with pytest.raises(ValueError, match=r"temperature must be at least 5\.6e-309 .*got 1e-310"):
        torch.func.grad(lambda x: slt.cross_entropy(x, Y, LossSpec(temperature=1e-310)))(Z)


# ---- what follows from the table of fields ----


def entries(fields: SpecTensors) -> dict[str, Any]:
    return {n: v.tolist() if isinstance(v, torch.Tensor) else v for n, v in fields._asdict().items()}


@pytest.mark.parametrize("name", INDEX_SPECS)
def test_packed_fields_come_back(name: str) -> None:
    fields = on_device(INDEX_SPECS[name], torch.device("cpu"))
    numbers, *arrays = pack(fields)
    assert numbers is not None
    assert entries(unpack(numbers, *arrays)) == entries(fields)


def test_a_shard_cuts_what_is_read_by_column() -> None:
    whole = on_device(INDEX_SPECS["everything"], torch.device("cpu"))
    part = shard(whole, 1, 3)
    expected = {name: entries(whole)[name][1:3] for name in ("scale", "bias", "prior")}
    assert entries(part) == entries(whole) | expected
    matrix = on_device(INDEX_SPECS["bias matrix"], torch.device("cpu"))
    assert torch.equal(shard(matrix, 1, 3).bias, matrix.bias[:, 1:3])


def test_only_the_parts_that_are_asked_for_are_kept() -> None:
    whole = on_device(INDEX_SPECS["everything"], torch.device("cpu"))
    kept = ("temperature", "scale", "bias", "margin", "softcap")
    assert entries(only(whole, "logits")) == entries(SpecTensors()) | {n: entries(whole)[n] for n in kept}


@pytest.mark.parametrize(
    ("field", "value", "is_extreme"),
    [
        ("temperature", 1e-20, True),
        ("class_weight", 1e20, True),
        ("class_weight", 0.0, False),
        ("softcap", 1e20, True),
        ("margin", 1e-20, False),
        ("margin", 1e20, True),
        ("gamma", 1e20, True),
        ("smoothing", 1e-20, False),
        ("bias", -1e20, True),
    ],
)
def test_numbers_that_float32_would_lose(field: str, value: float, is_extreme: bool) -> None:
    assert extreme(SpecTensors(**{field: value})) is is_extreme


NEW_FIELD = """
from softmax_lab import spec
spec.FIELDS["extra"] = spec.Field("x", 0.0, "value", "factor")
spec.LossSpec.extra = 0.0
import torch
import softmax_lab.torch as slt
from softmax_lab.torch._formula import fields
given = fields.SpecTensors(extra=2.5, softcap=3.0)
assert fields.unpack(*fields.pack(given)) == given
assert fields.only(given, "logits") == fields.SpecTensors(softcap=3.0)
assert fields.extreme(fields.SpecTensors(extra=1e-20))
assert fields.numpy_spec(given).extra == 2.5
z, y = torch.randn(3, 4, requires_grad=True), torch.tensor([0, 1, 2])
(gradient,) = torch.autograd.grad(slt.cross_entropy(z, y), z, create_graph=True)
gradient.sum().backward()
assert torch.allclose(torch.func.grad(lambda z: slt.cross_entropy(z, y))(z.detach()), gradient.detach())
print("ok")
"""


def test_a_new_number_needs_no_edit_but_its_place_in_the_formula() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NEW_FIELD], capture_output=True, text=True, timeout=HANG, check=False
    )
    assert done.stdout == "ok\n", done.stderr
