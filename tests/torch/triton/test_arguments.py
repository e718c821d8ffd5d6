"""A spec, matrices and weights as a kernel takes them."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch

import softmax_lab as sl
from softmax_lab.spec import FIELDS
from softmax_lab.torch._base.options import Options
from softmax_lab.torch.triton import (
    arguments,
    cross_entropy,
    elementary,
    maps,
    product,
    rescale,
    terms,
    tiles,
)

from ...specs import INDEX_SPECS, K
from .cases import LABELS, fields, rows

MODULES = (cross_entropy, elementary, maps, product, rescale, terms, tiles)
FUNCTIONS: dict[str, Any] = {
    f"{module.__name__.rpartition('.')[2]}.{name}": value.fn
    for module in MODULES
    for name, value in vars(module).items()
    if hasattr(value, "fn") and value.fn.__module__ == module.__name__
}


def test_every_field_of_the_table_is_an_argument_under_its_name() -> None:
    argument = arguments.spec_argument(fields(INDEX_SPECS["everything"]))
    assert set(argument._fields) == set(FIELDS)
    assert all(isinstance(field, arguments.Field) for field in argument)
    assert all(field.MODE.value != 0 for field in argument)


@pytest.mark.parametrize("name", FIELDS)
def test_a_neutral_field_is_compiled_away(name: str) -> None:
    field = getattr(arguments.spec_argument(fields(sl.LossSpec())), name)
    assert field == arguments.Field(FIELDS[name].neutral, None, field.MODE)
    assert field.MODE.value == 0


@pytest.mark.parametrize(
    ("given", "mode"),
    [(0.25, 1), (np.full(K, 0.25), 2), (np.full((K, K), 0.25), 3)],
    ids=["number", "K", "K x K"],
)
def test_a_number_and_an_array_have_modes_of_their_own(given: Any, mode: int) -> None:
    field = arguments.spec_argument(fields(sl.LossSpec(bias=given))).bias
    assert field.MODE.value == mode
    if mode == 1:
        assert (field.number, field.array) == (given, None)
    else:
        assert field.number is None
        assert torch.equal(field.array, torch.full(given.shape, 0.25))


def test_a_prior_given_by_hand_sums_to_one() -> None:
    spec = fields(INDEX_SPECS["prior"])
    assert spec.prior is not None
    prepared = arguments.prepare(rows(), LABELS, spec._replace(prior=3.0 * spec.prior), None, Options())
    torch.testing.assert_close(prepared.spec.prior, spec.prior)


def test_targets_say_what_they_are() -> None:
    distributions = torch.full((7, K), 1.0 / K)
    for target, soft in ((LABELS, False), (distributions, True)):
        targets = arguments.prepare(rows(), target, fields(sl.LossSpec()), None, Options()).targets(-100)
        assert targets.SOFT.value is soft
        assert targets.stride == target.stride(0)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_kernel_has_more_than_fourteen_arguments_and_no_helper_more_than_eight(name: str) -> None:
    """A helper with more gives the reason in its docstring."""
    function = FUNCTIONS[name]
    count = len(inspect.signature(function).parameters)
    if name.endswith("_kernel"):
        assert count <= 14
    else:
        assert count <= 8 or "arguments:" in (function.__doc__ or "")
