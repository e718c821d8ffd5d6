"""The loops' sources and constants are found, and the exponential is as the chapter tells it."""

from __future__ import annotations

import re

import numpy as np
import pytest

from experiments import speed


@pytest.mark.parametrize("name", speed.LISTINGS)
def test_every_listing_is_the_source_of_its_function(name: str) -> None:
    text = speed.listing(name)
    assert text.startswith("```python\n")
    assert text.endswith("\n```")
    assert re.search(rf"^def {speed.LISTINGS[name][1]}\(", text, re.MULTILINE)


@pytest.mark.parametrize("name", speed.CONSTANTS)
def test_every_constant_is_found(name: str) -> None:
    assert np.all(np.asarray(speed.constant(name)) != 0)


def test_reduction_is_the_nearest_integer_and_the_rest() -> None:
    d = -np.linspace(0, 103, 5001)
    steps = speed.reduction(d)
    assert (steps["n"] == np.rint(d / np.log(2))).all()
    assert (steps["r"].abs() <= np.log(2) / 2 + 1e-12).all()
    np.testing.assert_allclose(steps["n"] * np.log(2) + steps["r"], d, atol=1e-13)
    assert steps["error"].abs().max() < 2 * speed.polynomial_error()


def test_polynomial_error_is_that_of_the_compiled_exponential() -> None:
    assert 2.0**-34 < speed.polynomial_error() < 2.0**-33
