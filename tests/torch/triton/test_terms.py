"""The numbers of a row, against what must hold between them whatever the member of the family."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

import softmax_lab as sl
from softmax_lab.torch.triton.arguments import spec_argument
from softmax_lab.torch.triton.terms import (
    Own,
    Sums,
    Tangent,
    product_terms,
    row_terms,
    soft_product_terms,
    soft_terms,
)

from .cases import fields

Q = torch.tensor([0.05, 0.2, 0.6, 0.15])
LABEL = 1
TANGENT = torch.tensor([0.5, -1.0, 2.0, 0.25])
SPECS = {
    "plain": sl.LossSpec(),
    "smoothing": sl.LossSpec(smoothing=0.3),
    "focal": sl.LossSpec(gamma=1.5),
    "focal and smoothing": sl.LossSpec(gamma=1.5, smoothing=0.3),
    "z-loss": sl.LossSpec(z_loss=0.1),
}


@triton.jit  # type: ignore[untyped-decorator]
def _terms(out, given, spec, SOFT: tl.constexpr):  # type: ignore[no-untyped-def]
    i = tl.arange(0, 1)
    sums = Sums(
        tl.load(given + i),
        tl.load(given + 1 + i),
        tl.load(given + 2 + i),
        tl.load(given + 3 + i),
        tl.load(given + 4 + i),
        tl.load(given + 5 + i),
        tl.load(given + 6 + i),
        tl.load(given + 7 + i),
        tl.load(given + 8 + i),
    )
    own = Own(tl.load(given + 9 + i), tl.load(given + 10 + i), tl.load(given + 11 + i))
    tangent = Tangent(tl.load(given + 12 + i), tl.load(given + 13 + i), tl.load(given + 14 + i))
    g = soft_terms(sums, own, spec) if SOFT else row_terms(sums, own, spec)
    h = soft_product_terms(sums, own, tangent, spec) if SOFT else product_terms(sums, own, tangent, spec)
    tl.store(out + i, g.value)
    tl.store(out + 1 + i, g.alpha)
    tl.store(out + 2 + i, g.beta)
    tl.store(out + 3 + i, g.at_target)
    tl.store(out + 4 + i, h.a)
    tl.store(out + 5 + i, h.b)
    tl.store(out + 6 + i, h.beta)
    tl.store(out + 7 + i, h.at_target)


def row(name: str, *, soft: bool) -> tuple[Tensor, Tensor, float]:
    """Return the gradient of a row whose logits are log Q, its product, and its value."""
    spec = SPECS[name]
    d = (Q / Q.max()).log().double()
    e, eps = d.exp(), float(spec.smoothing)  # type: ignore[arg-type]
    prior = torch.full((4,), 0.25, dtype=torch.float64)
    one_hot = torch.eye(4, dtype=torch.float64)[LABEL]
    s = (1 - eps) * one_hot + eps * prior if soft else prior
    t, q = TANGENT.double(), Q.double()
    tau = t - q @ t
    sums = [1.0, e.sum() - 1.0, Q.max().log(), d[LABEL], e[LABEL], s.sum(), s @ d, 1.0, 2.0]
    given = torch.tensor([*sums, 2.0, eps, 0.25, tau[LABEL], prior @ tau, q @ t], dtype=torch.float32)
    out = torch.empty(8)
    argument: Any = spec_argument(fields(spec))
    _terms[(1,)](out, given, argument, SOFT=soft)
    value, alpha, beta, at_target, a, b, spread, product_at_target = out.double()
    gradient, product = alpha * e - beta * s, e * (a * tau + b) - spread * s
    if not soft:
        gradient[LABEL], product[LABEL] = at_target, product_at_target
    return gradient, product, float(value)


def closed_form(name: str, z: Tensor) -> Tensor:
    spec = SPECS[name]
    log_q, eps = z.log_softmax(0), float(spec.smoothing)  # type: ignore[arg-type]
    cross = -(1 - eps) * log_q[LABEL] - eps * log_q.mean()
    return 2.0 * (1 - log_q[LABEL].exp()) ** spec.gamma * cross + spec.z_loss * z.logsumexp(0) ** 2


@pytest.mark.parametrize("name", SPECS)
def test_the_terms_are_those_of_the_formula_differentiated(name: str) -> None:
    gradient, product, value = row(name, soft=False)
    z = Q.double().log().requires_grad_()
    expected = closed_form(name, z)
    (first,) = torch.autograd.grad(expected, z, create_graph=True)
    (second,) = torch.autograd.grad(first @ TANGENT.double(), z)
    assert value == pytest.approx(float(expected.detach()), rel=1e-6)
    torch.testing.assert_close(gradient, first.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(product, second, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in SPECS if not SPECS[name].needs_class_index])
def test_a_distribution_with_one_class_has_the_terms_of_that_class(name: str) -> None:
    for soft, hard in zip(row(name, soft=True), row(name, soft=False), strict=True):
        torch.testing.assert_close(torch.as_tensor(soft), torch.as_tensor(hard), rtol=1e-5, atol=1e-6)
