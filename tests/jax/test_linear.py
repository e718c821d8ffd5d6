"""The linear layer's loss: the same numbers as from whole logits, which never exist."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import softmax_lab as sl
import softmax_lab.jax as slj
from softmax_lab import LossSpec
from tests.specs import INDEX_SPECS, SOFT_SPECS, K

from .problems import N, problem, with_64_bits

D = 3
RNG = np.random.default_rng(0)
HIDDEN, WEIGHT, BIAS = RNG.standard_normal((N, D)), RNG.standard_normal((K, D)), RNG.standard_normal(K)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("rows", [1, 2, 100])
@pytest.mark.parametrize("name", ["plain", "everything", "smoothing"])
def test_it_is_the_loss_of_the_whole_logits(name: str, rows: int, reduction: Any) -> None:
    _, target, weights = problem()
    options: dict[str, Any] = {"reduction": reduction, "sample_weight": weights}
    spec = INDEX_SPECS[name]

    def chunked(h: Any, w: Any, b: Any) -> Any:
        return slj.linear_cross_entropy(h, w, target, spec, bias=b, chunk_bytes=8 * K * rows, **options)

    def whole(h: Any, w: Any, b: Any) -> Any:
        return slj.cross_entropy(h @ w.T + b, target, spec, **options)

    with with_64_bits():
        arrays = [jnp.asarray(x) for x in (HIDDEN, WEIGHT, BIAS)]
        found, pull = jax.vjp(chunked, *arrays)
        expected, pull_whole = jax.vjp(whole, *arrays)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        for one, other in zip(pull(jnp.ones_like(found)), pull_whole(jnp.ones_like(found)), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-13)


def test_distributions_and_any_leading_shape() -> None:
    target = problem(soft=True).target
    spec = SOFT_SPECS["smoothing"]
    with with_64_bits():
        found = slj.linear_cross_entropy(
            HIDDEN[None], WEIGHT, target[None], spec, reduction="none", chunk_bytes=8 * K * 2
        )
    expected = sl.cross_entropy(HIDDEN @ WEIGHT.T, target, spec, reduction="none")
    np.testing.assert_allclose(found, expected[None], rtol=1e-12)


def test_no_rows() -> None:
    value = slj.linear_cross_entropy(
        np.zeros((0, D), np.float32), WEIGHT.astype(np.float32), np.zeros(0, int)
    )
    assert np.isnan(value)


def test_the_weights_gradient_in_half_precision_is_rounded_once() -> None:
    h, w = (jnp.asarray(x, jnp.bfloat16) for x in (np.repeat(HIDDEN, 40, 0), WEIGHT))
    y = np.tile(np.arange(N) % K, 40)

    def loss(weight: Any, step: int) -> Any:
        return slj.linear_cross_entropy(h, weight, y, chunk_bytes=4 * K * step)

    found = jax.grad(loss)(w, 1)
    assert found.dtype == jnp.bfloat16
    wide = jax.grad(lambda weight: slj.cross_entropy(h.astype(jnp.float32) @ weight.T, y))(
        w.astype(jnp.float32)
    )
    # one rounding of bfloat16, beside float32's sums in another order
    np.testing.assert_allclose(np.asarray(found, np.float32), np.asarray(wide), rtol=2.0**-8, atol=1e-6)


def test_the_logits_never_exist() -> None:
    """The compiled program's memory for temporaries is a fraction of the logits'."""
    rows, classes, width = 512, 4096, 8
    h, w = jnp.zeros((rows, width)), jnp.zeros((classes, width))
    y = jnp.zeros(rows, jnp.int32)

    def step(loss: Any) -> int:
        compiled = jax.jit(jax.value_and_grad(loss, argnums=(0, 1))).lower(h, w, y).compile()
        return int(compiled.memory_analysis().temp_size_in_bytes)  # type: ignore[union-attr]

    chunked = step(lambda a, b, t: slj.linear_cross_entropy(a, b, t, chunk_bytes=4 * classes * 8))
    whole = step(lambda a, b, t: slj.cross_entropy(a @ b.T, t))
    logits = 4 * rows * classes
    assert whole >= logits
    assert chunked < logits / 4


@pytest.mark.parametrize(
    ("error", "words", "arguments", "options"),
    [
        (ValueError, r"hidden must have shape \(\.\.\., D\)", (HIDDEN, WEIGHT.T, np.zeros(N, int)), {}),
        (
            TypeError,
            "weight must have hidden's dtype",
            (HIDDEN, WEIGHT.astype(np.float32), np.zeros(N, int)),
            {},
        ),
        (ValueError, "bias must have shape", (HIDDEN, WEIGHT, np.zeros(N, int)), {"bias": HIDDEN[0]}),
        (IndexError, "label 6", (HIDDEN, WEIGHT, np.full(N, K)), {}),
        (ValueError, "chunk_bytes must be >= 1", (HIDDEN, WEIGHT, np.zeros(N, int)), {"chunk_bytes": 0}),
        (ValueError, "spec is made for 2", (HIDDEN, WEIGHT, np.zeros(N, int), LossSpec(bias=[0.0, 1.0])), {}),
    ],
)
def test_bad_input_is_refused(error: type[Exception], words: str, arguments: Any, options: Any) -> None:
    with pytest.raises(error, match=words):
        slj.linear_cross_entropy(*arguments, **options)
