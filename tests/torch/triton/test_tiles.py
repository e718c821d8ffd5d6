"""The places of a tile, the transform of its logits, and the online normaliser."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

import softmax_lab as sl
from softmax_lab.torch._formula.rows import transformed
from softmax_lab.torch.triton.arguments import Targets, field, matrix, spec_argument
from softmax_lab.torch.triton.tiles import (
    load,
    nothing_yet,
    online,
    part_at,
    rows_of,
    rows_with,
    slopes,
    store,
    tile_at,
    totals,
)

from ...specs import INDEX_SPECS, K
from .cases import fields, rows


@triton.jit  # type: ignore[untyped-decorator]
def _read(peaks, ties, below, logits, temperature, n, k, ROWS: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    places, so_far = rows_of(n, k, ROWS), nothing_yet(ROWS, BLOCK)
    for start in range(0, k, BLOCK):
        u = load(logits, places, tile_at(start, places, BLOCK), -float("inf"))
        so_far = online(u, so_far, temperature, True)
    found, rest = totals(so_far)
    tl.store(peaks + places.index, so_far.peak, mask=places.inside)
    tl.store(ties + places.index, found, mask=places.inside)
    tl.store(below + places.index, rest, mask=places.inside)


@triton.jit  # type: ignore[untyped-decorator]
def _transform(out, steepness, logits, targets, spec, n, k, ROWS: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    places = rows_with(targets, spec, n, k, ROWS)
    tile = tile_at(0, places, BLOCK)
    part = part_at(logits, targets, places, tile, spec)
    slope, _bend = slopes(part.z, tile, spec)
    store(out, places, tile, part.u)
    store(steepness, places, tile, slope)


@pytest.mark.parametrize("block", [2, 4, 16])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_online_normaliser_counts_what_is_largest_and_sums_the_others(
    block: int, temperature: float
) -> None:
    z = torch.randn(5, 11, generator=torch.Generator().manual_seed(0)) * 4
    z[1, 3] = z[1, 9] = 30.0
    z[2, :6] = -torch.inf
    z[3] = 1.5
    peaks, ties, below = torch.empty(3, 5)
    _read[(2,)](peaks, ties, below, matrix(z), field(temperature, 1.0), 5, 11, ROWS=4, BLOCK=block)
    wide = z.double().numpy()
    top = wide.max(1, keepdims=True)
    e = np.where(wide == top, 0.0, np.exp((wide - top) / temperature))
    assert torch.equal(peaks, z.max(1).values)
    assert ties.tolist() == (wide == top).sum(1).tolist()
    np.testing.assert_allclose(below.numpy(), e.sum(1), rtol=4e-7)


def transform(z: Tensor, label: Tensor, spec: sl.LossSpec) -> tuple[Tensor, Tensor]:
    out = torch.full((len(z), K + 2), 7.0)
    steepness = out.clone()
    targets = Targets(label, 1, -100, tl.constexpr(False))
    given: Any = matrix(out), matrix(steepness), matrix(z), targets, spec_argument(fields(spec))
    _transform[(len(z),)](*given, len(z), K, ROWS=1, BLOCK=8)
    return out, steepness


@pytest.mark.parametrize("name", INDEX_SPECS)
def test_a_tile_is_transformed_as_the_closed_form_does_it(name: str) -> None:
    z, label = rows().nan_to_num(neginf=0.3), torch.tensor([0, 2, 5, 4, 3, 1, 5])
    u, slope = transform(z, label, INDEX_SPECS[name])
    expected = transformed(z.double(), fields(INDEX_SPECS[name], torch.float64), label)
    temperature = INDEX_SPECS[name].temperature
    torch.testing.assert_close(u[:, :K].double() / temperature, expected.u, rtol=1e-5, atol=1e-5)
    wide = torch.as_tensor(expected.slope, dtype=torch.float64).expand(7, K)
    torch.testing.assert_close(slope[:, :K].double(), wide, rtol=1e-5, atol=1e-7)


def test_nothing_is_written_beyond_the_last_class() -> None:
    for written in transform(rows(), torch.zeros(7, dtype=torch.long), sl.LossSpec()):
        assert bool((written[:, K:] == 7.0).all())


@pytest.mark.parametrize("name", INDEX_SPECS)
def test_what_is_impossible_stays_impossible(name: str) -> None:
    z = rows().nan_to_num(neginf=0.3)
    z[:, 1] = -torch.inf
    u, _ = transform(z, torch.zeros(7, dtype=torch.long), INDEX_SPECS[name])
    assert bool((u[:, 1] == -torch.inf).all())
    assert bool(torch.isfinite(u[:, 2:K]).all())
