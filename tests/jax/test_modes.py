"""Every function gives the same numbers however it is asked: eager, compiled, mapped, sharded, or scanned."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import softmax_lab as sl
import softmax_lab.jax as slj
from tests.specs import INDEX_SPECS, K

from .problems import N, problem, with_64_bits

# the gate holds the row's weight constant, which a difference of gradients does not
SPEC = replace(INDEX_SPECS["everything"], gate=0.0)
_, LABELS, WEIGHTS = problem()
LABELS = np.abs(LABELS) % K
_LAYER = np.random.default_rng(5).standard_normal((K, K)).astype(np.float32)

#: functions of rows (N, K), one value a row
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "softmax": lambda z, y: slj.softmax(z, temperature=0.7),
    "log_softmax": lambda z, y: slj.log_softmax(z),
    "logsumexp": lambda z, y: slj.logsumexp(z),
    "plain": lambda z, y: slj.cross_entropy(z, y, reduction="none"),
    "everything": lambda z, y: slj.cross_entropy(z, y, SPEC, reduction="none"),
    "log_cross_entropy": lambda z, y: slj.log_cross_entropy(z, y, reduction="none"),
    "linear_cross_entropy": lambda z, y: slj.linear_cross_entropy(
        z, _LAYER.astype(z.dtype), y, reduction="none", chunk_bytes=8 * K
    ),
}


def rows() -> Any:
    return jnp.asarray(problem(np.float32).logits)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_compiled_mapped_and_in_a_loop(name: str) -> None:
    function, z, y = FUNCTIONS[name], rows(), jnp.asarray(LABELS)
    eager = function(z, y)
    same: dict[str, Any] = {"rtol": 1e-6, "atol": 1e-7}
    np.testing.assert_allclose(jax.jit(function)(z, y), eager, **same)
    one_by_one = jax.vmap(lambda row, label: function(row[None], label[None])[0])(z, y)
    np.testing.assert_allclose(one_by_one, eager, **same)
    np.testing.assert_allclose(
        jax.lax.map(lambda pair: function(pair[0][None], pair[1][None])[0], (z, y)), eager, **same
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_both_modes_agree_on_the_jacobian_and_the_hessian(name: str) -> None:
    with with_64_bits():
        z, y = jnp.asarray(problem().logits[:2]), jnp.asarray(LABELS[:2])

        def total(x: Any) -> Any:
            values = FUNCTIONS[name](x, y)
            return jnp.sum(jnp.cos(jnp.arange(values.size)) * values.reshape(-1))

        np.testing.assert_allclose(jax.jacfwd(total)(z), jax.grad(total)(z), rtol=1e-10, atol=1e-12)
        forward_over_reverse, reverse_over_forward = jax.hessian(total)(z), jax.jacrev(jax.jacfwd(total))(z)
        np.testing.assert_allclose(forward_over_reverse, reverse_over_forward, rtol=1e-9, atol=1e-11)
        step = 1e-5 * jnp.ones_like(z).at[0, 1].set(-2.0)
        change = (jax.grad(total)(z + step) - jax.grad(total)(z - step)) / 2
        product = jnp.einsum("abcd,cd->ab", forward_over_reverse, step)
        np.testing.assert_allclose(product, change, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_there_is_no_callback(name: str) -> None:
    """Nor anything else that leaves the device, in value and gradient."""

    def total(z: Any) -> Any:
        return FUNCTIONS[name](z, LABELS).sum()

    text = jax.jit(jax.value_and_grad(total)).lower(rows()).as_text()
    assert "custom_call" not in text, text
    assert "callback" not in text


def test_donated_logits_give_the_same() -> None:
    def step(z: Any) -> Any:
        return z - jax.grad(slj.cross_entropy)(z, LABELS)

    expected = jax.jit(step)(rows())
    np.testing.assert_array_equal(jax.jit(step, donate_argnums=0)(rows()), expected)


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
from functools import partial
from jax.sharding import Mesh, PartitionSpec as P
import softmax_lab as sl, softmax_lab.jax as slj
shard_map = jax.shard_map if hasattr(jax, "shard_map") else jax.experimental.shard_map.shard_map
mesh = Mesh(np.array(jax.devices()), ("rows",))
assert len(jax.devices()) == 2
rng = np.random.default_rng(0)
z, y = rng.normal(size=(8, 50)).astype(np.float32), rng.integers(0, 50, 8)
layer = rng.normal(size=(50, 50)).astype(np.float32)
losses = {
    "plain": lambda z, y: slj.cross_entropy(z, y, reduction="sum"),
    "focal": lambda z, y: slj.cross_entropy(z, y, sl.losses.focal(), reduction="sum"),
    "linear": lambda z, y: slj.linear_cross_entropy(z, layer, y, reduction="sum", chunk_bytes=400),
}
for name, loss in losses.items():
    @jax.jit
    @partial(shard_map, mesh=mesh, in_specs=(P("rows"), P("rows")), out_specs=P())
    def over_shards(z, y):
        return jax.lax.psum(loss(z, y), "rows")
    found = jax.value_and_grad(over_shards)(z, y)
    expected = jax.value_and_grad(loss)(z, y)
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    print(name)
"""


@pytest.mark.long
def test_rows_are_sharded_over_devices() -> None:
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    import os

    result = subprocess.run(
        [sys.executable, "-c", SHARDED],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.split() == ["plain", "focal", "linear"], result.stderr


def test_a_model_in_flax_form_is_trained() -> None:
    """A loss of parameters, with the balancing loss, which needs no state."""
    rng = np.random.default_rng(6)
    x, y = rng.standard_normal((64, 4)).astype(np.float32), rng.integers(0, 3, 64)
    spec = sl.losses.gradient_balanced(np.bincount(y, minlength=3))

    @jax.jit
    def step(params: Any, spec: sl.LossSpec) -> Any:
        value, gradient = jax.value_and_grad(
            lambda p: slj.cross_entropy(x @ p["kernel"] + p["bias"], y, spec)
        )(params)
        return value, jax.tree.map(lambda p, g: p - 0.5 * g, params, gradient)

    params = {"kernel": jnp.zeros((4, 3)), "bias": jnp.zeros(3)}
    values = []
    for _ in range(20):
        value, params = step(params, spec)
        values.append(float(value))
    assert values[-1] < values[0]
    expected = sl.cross_entropy(np.zeros((64, 3)), y, spec)
    np.testing.assert_allclose(values[0], expected, rtol=1e-5)
    assert N < 64
