"""The elementary functions, in ulp of float32 against float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from numpy.typing import ArrayLike

from softmax_lab.torch.triton import elementary


@triton.jit  # type: ignore[untyped-decorator]
def _apply(out, x, n, FUNCTION: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + i, mask=i < n, other=0.0)
    if FUNCTION == "exp":
        result = elementary.exp(value)
    if FUNCTION == "expm1":
        _, result = elementary.exp_and_expm1(value)
    if FUNCTION == "log1p":
        result = elementary.log1p(value)
    if FUNCTION == "sech2":
        result, _ = elementary.sech2_and_tanh(value)
    if FUNCTION == "tanh":
        _, result = elementary.sech2_and_tanh(value)
    if FUNCTION == "cube root of the eighth power":
        result = elementary.power(value, tl.zeros_like(value) + 8.0 / 3.0)
    tl.store(out + i, result, mask=i < n)


def apply(function: str, x: ArrayLike) -> np.ndarray[Any, Any]:
    given = torch.from_numpy(np.asarray(x, dtype=np.float32))
    out = torch.empty_like(given)
    _apply[(-(-len(given) // 65536),)](out, given, len(given), FUNCTION=function, BLOCK=65536)
    return out.numpy()


def ulps(result: np.ndarray[Any, Any], exact: np.ndarray[Any, Any]) -> float:
    unit = np.spacing(np.maximum(np.abs(exact), 2.0**-126).astype(np.float32)).astype(np.float64)
    return float(np.max(np.abs(result.astype(np.float64) - exact) / unit))


RNG = np.random.default_rng(0)
WIDE = (10.0 ** RNG.uniform(-30, 30, 200_000)).astype(np.float32)
NEGATIVE = -np.concatenate([np.linspace(0, 103.9, 400_001), 10.0 ** RNG.uniform(-20, 2.01, 200_000)]).astype(
    np.float32
)
BOTH = np.concatenate([NEGATIVE, -NEGATIVE])


@pytest.mark.parametrize(
    ("function", "exact", "x", "bar"),
    [
        ("exp", np.exp, NEGATIVE, 1.0),
        ("expm1", np.expm1, NEGATIVE[NEGATIVE > -0.34], 1.0),
        ("log1p", np.log1p, WIDE, 1.0),
        ("log1p", np.log1p, np.linspace(0, 8, 400_001, dtype=np.float32), 1.0),
        ("tanh", np.tanh, BOTH, 2.5),
        ("sech2", lambda x: 1 / np.cosh(x) ** 2, BOTH[np.abs(BOTH) < 43], 4.0),
        (
            "cube root of the eighth power",
            lambda x: x ** np.float64(np.float32(8 / 3)),
            WIDE[(WIDE < 1e14) & (WIDE > 1e-14)],
            0.51,
        ),
    ],
)
def test_errors(function: str, exact: Any, x: np.ndarray[Any, Any], bar: float) -> None:
    assert ulps(apply(function, x), exact(x.astype(np.float64))) < bar


def single(values: list[float]) -> np.ndarray[Any, Any]:
    return np.asarray(values, dtype=np.float32)


def test_the_ends() -> None:
    nothing = [np.nan, -np.inf, -105.0, -1e30, 0.0]
    np.testing.assert_array_equal(apply("exp", nothing), single([np.nan, 0.0, 0.0, 0.0, 1.0]))
    np.testing.assert_array_equal(
        apply("log1p", [np.nan, np.inf, 0.0, 1e-40]), single([np.nan, np.inf, 0.0, 1e-40])
    )
    np.testing.assert_array_equal(
        apply("tanh", [np.inf, -np.inf, 1e-30, 0.0]), single([1.0, -1.0, 1e-30, 0.0])
    )
    np.testing.assert_array_equal(
        apply("cube root of the eighth power", [np.nan, 0.0, 1.0]), single([np.nan, 0.0, 1.0])
    )
