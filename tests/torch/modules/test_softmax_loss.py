"""The modules of fixed and changing specs: state, and moves between devices and types."""

from __future__ import annotations

import copy
import io
import warnings

import pytest
import torch
from torch import Tensor

import softmax_lab.torch as slt
from softmax_lab import LossSpec
from tests.specs import INDEX_SPECS, K

Z = 2 * torch.randn(7, K, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 3, 4, 5, 0])


def reloaded(module: torch.nn.Module, fresh: torch.nn.Module) -> torch.nn.Module:
    """Save, load with the safe loader, and put into a fresh module."""
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    return fresh


@pytest.mark.parametrize("name", INDEX_SPECS)
def test_the_state_is_the_spec(name: str) -> None:
    module = slt.SoftmaxLoss(INDEX_SPECS[name])
    for again in (reloaded(module, slt.SoftmaxLoss()), copy.deepcopy(module)):
        assert isinstance(again, slt.SoftmaxLoss)
        assert again.spec == module.spec
        assert torch.equal(again(Z, Y), slt.cross_entropy(Z, Y, module.spec))


def test_it_has_no_parameters_and_a_moved_model_keeps_its_precision() -> None:
    module = slt.SoftmaxLoss(INDEX_SPECS["everything"])
    model = torch.nn.Sequential(torch.nn.Linear(2, K), module)
    assert list(module.parameters()) == []
    model.half()
    assert module.spec == INDEX_SPECS["everything"]
    assert torch.equal(module(Z, Y), slt.cross_entropy(Z, Y, INDEX_SPECS["everything"]))


def test_to_another_device() -> None:
    module = slt.SoftmaxLoss(INDEX_SPECS["bias"]).to("meta")
    assert isinstance(module._fields.bias, Tensor)
    assert module._fields.bias.device.type == "meta"
    assert module(Z.to("meta"), Y.to("meta")).shape == ()
    module.to_empty(device="cpu")
    assert torch.equal(module(Z, Y), slt.cross_entropy(Z, Y, INDEX_SPECS["bias"]))


def test_options_and_representation() -> None:
    module = slt.SoftmaxLoss(LossSpec(gamma=2.0), reduction="none", ignore_index=3, dim=0)
    assert repr(module) == "SoftmaxLoss(LossSpec(gamma=2.0), reduction='none', ignore_index=3, dim=0)"
    value = module(Z.t(), Y, sample_weight=torch.ones(len(Y)))
    assert torch.equal(value, slt.cross_entropy(Z, Y, LossSpec(gamma=2.0), reduction="none", ignore_index=3))
    with pytest.raises(TypeError, match="spec must be a LossSpec"):
        module.spec = None  # type: ignore[assignment]
    with pytest.raises(ValueError, match="reduction must be one of"):
        slt.SoftmaxLoss(reduction="median")  # type: ignore[arg-type]


def test_made_inside_a_compiled_function_it_warns_of_nothing() -> None:
    torch.compiler.reset()
    spec = INDEX_SPECS["everything"]
    made_inside = torch.compile(lambda z, y: slt.SoftmaxLoss(spec)(z, y), backend="eager")
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        found = made_inside(Z, Y)
    assert not [warning for warning in heard if "copy construct" in str(warning.message)]
    torch.testing.assert_close(found, slt.SoftmaxLoss(spec)(Z, Y))
