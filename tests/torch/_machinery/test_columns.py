"""A rank's columns by the compiled loops beside plain torch, on one process that plays all ranks in turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

import softmax_lab as sl
from softmax_lab import LossSpec, _dispatch
from softmax_lab.torch._machinery import columns, shards
from softmax_lab.torch._machinery.agreement import Shard
from tests.specs import INDEX_SPECS, K

pytest.importorskip("numba", reason="the compiled loops need Numba")

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
SPREADS = [(K,), (1, 3, 2), (2, 0, 4)]


class Together:
    """What ranks say to each other, where each is asked twice: to hear what it says, and to be answered."""

    def __init__(self) -> None:
        self.said: list[list[Tensor]] = []  # by rank, in the order of the calls
        self.rank = 0
        self.answers: list[Tensor] = []

    def say(self, tensor: Tensor, combine: Any) -> Tensor:
        mine = self.said[self.rank]
        mine.append(tensor.clone())
        step = len(mine) - 1
        if step < len(self.answers):
            return tensor.copy_(self.answers[step])
        if all(len(words) > step for words in self.said):
            self.answers.append(combine(torch.stack([words[step] for words in self.said])))
        raise WaitingError


class WaitingError(Exception):
    """A rank waits for the others."""


def ranks(sizes: tuple[int, ...], together: Together) -> list[Shard]:
    """Return the shards of all ranks, which speak through ``together``."""

    class Spoken(Shard):
        def max(self, tensor: Tensor) -> Tensor:
            return together.say(tensor, lambda words: words.amax(0))

        def sum(self, tensor: Tensor) -> Tensor:
            return together.say(tensor, lambda words: words.sum(0))

    ends = np.cumsum((0, *sizes)).tolist()
    return [Spoken(None, sizes, *ends[i : i + 2]) for i in range(len(sizes))]


def by_all(z: Tensor, label: Tensor, spec: LossSpec, sizes: tuple[int, ...], loops: list[bool]) -> Any:
    """Return each row's value as every rank finds it, and the gradient of all columns.

    The ranks in ``loops`` have the compiled loops, the others plain torch.
    """
    together = Together()
    own = ranks(sizes, together)
    together.said = [[] for _ in own]
    values: list[Tensor] = []
    parts: list[Tensor] = []
    for _ in range(3):  # to the first word, to the second, to the end
        values, parts = [], []
        for rank, shard in enumerate(own):
            together.rank, together.said[rank] = rank, []
            columns_of_rank = z[:, shard.first : shard.last].clone()
            with has_loops(loops[rank]):
                try:
                    value, _ = shards.kernel(shard, spec, columns_of_rank, label, True)
                except WaitingError:
                    continue
            values.append(value)
            parts.append(columns_of_rank)
    return values, torch.cat(parts, 1)


def has_loops(there: bool) -> Any:
    return mock.patch.object(_dispatch, "kernels", _dispatch.kernels if there else lambda: None)


def rows(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Ordinary rows, confident ones right and wrong, and some with -inf."""
    rng = np.random.default_rng(0)
    z, y = rng.normal(0, 3, (12, K)), rng.integers(0, K, 12)
    z[0, y[0]] += 30.0
    z[1, (y[1] + 1) % K] += 30.0
    z[2, (y[2] + 1) % K] = -np.inf
    z[3, np.arange(K) != y[3]] = -np.inf
    return torch.from_numpy(z).to(dtype), torch.from_numpy(y)


def mixtures(ranks: int) -> Iterator[list[bool]]:
    yield [True] * ranks
    if ranks > 1:
        yield [rank % 2 == 0 for rank in range(ranks)]


@pytest.mark.parametrize("sizes", SPREADS, ids=str)
@pytest.mark.parametrize("name", INDEX_SPECS)
def test_the_loops_find_what_plain_torch_finds(name: str, sizes: tuple[int, ...]) -> None:
    """On every rank or on some: what they say to each other means the same."""
    spec = INDEX_SPECS[name]
    z, label = rows(torch.float64)
    [wanted, *_], gradient = by_all(z, label, spec, sizes, [False] * len(sizes))
    whole, whole_gradient = sl.cross_entropy_grad(z.numpy(), label.numpy(), spec, reduction="none")
    finite = np.isfinite(whole)
    np.testing.assert_allclose(wanted, whole, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(gradient[finite], whole_gradient[finite], rtol=1e-11, atol=1e-13)
    for loops in mixtures(len(sizes)):
        values, found = by_all(z, label, spec, sizes, loops)
        for value in values:  # bit for bit the same on every rank
            np.testing.assert_array_equal(value, values[0])
        np.testing.assert_allclose(values[0], wanted, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(found[finite], gradient[finite], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", ["plain", "bias", "everything"])
def test_every_type_of_logits(name: str, dtype: torch.dtype) -> None:
    """The value is that of the rounded logits; the gradient is rounded once."""
    spec, sizes = INDEX_SPECS[name], (1, 3, 2)
    z, label = rows(dtype)
    [wanted, *_], gradient = by_all(z.double(), label, spec, sizes, [False] * 3)
    [value, *_], found = by_all(z, label, spec, sizes, [True] * 3)
    assert found.dtype == dtype
    np.testing.assert_allclose(value, wanted, rtol=1e-7 if dtype != torch.float64 else 1e-11)
    defined = torch.isfinite(wanted)
    form = torch.finfo(dtype)
    np.testing.assert_allclose(
        found[defined].double(), gradient[defined], rtol=max(form.eps, 1e-11), atol=max(form.tiny, 1e-13)
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_ranks_of_many_columns(dtype: torch.dtype) -> None:
    """Several chunks a row, and one that is not full; the target in any of them."""
    rng, sizes = np.random.default_rng(1), (5000, 20, 2100)
    classes = sum(sizes)
    spec = LossSpec(smoothing=0.1, z_loss=1e-3, gamma=1.5, bias=rng.normal(size=classes))
    z = torch.from_numpy(rng.normal(0, 3, (8, classes))).to(dtype)
    label = torch.tensor([0, 2047, 2048, 4999, 5000, 5019, 5020, classes - 1])
    [wanted, *_], gradient = by_all(z.double(), label, spec, sizes, [False] * 3)
    for loops in mixtures(3):
        [value, *_], found = by_all(z, label, spec, sizes, loops)
        bar = 1e-11 if dtype == torch.float64 else 3e-7
        np.testing.assert_allclose(value, wanted, rtol=bar)
        np.testing.assert_allclose(found.double(), gradient, rtol=bar, atol=bar * 1e-2)


def test_which_rows_the_loops_take(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    real = _dispatch.run

    def run(path: Any, name: str, *arguments: Any) -> None:
        calls.append(name)
        real(path, name, *arguments)

    monkeypatch.setattr(_dispatch, "run", run)
    z, label = rows(torch.float32)
    both = ["part_sums", "cross_entropy_gradient"]
    cases: list[tuple[LossSpec, Tensor, list[str]]] = [
        (LossSpec(), label, both),
        (INDEX_SPECS["everything"], label, both),
        (LossSpec(), torch.full((12, K), 1 / K), []),  # distributions
        (INDEX_SPECS["bias matrix"], label, []),
        (LossSpec(temperature=1e-200), label, []),  # the end of a domain
    ]
    for spec, target, wanted in cases:
        calls.clear()
        by_all(z, target, spec, (K,), [True])
        assert calls == [name for name in wanted for _ in range(3 if name == "part_sums" else 1)]


def test_a_label_of_another_rank_and_one_that_does_not_count() -> None:
    z, label = rows(torch.float64)
    own, live = Shard(None, (2, 3, 1), 2, 5), torch.arange(12) != 4
    part = columns.part_of(own, LossSpec(), z[:, 2:5], label, live)
    assert part is not None
    here = (label >= 2) & (label < 5) & live
    assert bool(here.any())
    assert bool((~here & live).any())
    peak, e = z[:, 2:5].amax(1), torch.exp(z[:, 2:5] - z[:, 2:5].amax(1, keepdim=True))
    target = torch.where(here, label - 2, 0)
    others = torch.where(torch.isnan(e), 0.0, e).sum(1) - torch.where(
        here, e.gather(1, target[:, None])[:, 0], 0
    )
    some = live & torch.isfinite(peak)
    np.testing.assert_array_equal(part.peak[some], peak[some])
    np.testing.assert_allclose(part.others[some], others[some], atol=1e-15)
    np.testing.assert_array_equal(part.at_label[here], z[:, 2:5].gather(1, target[:, None])[here, 0])
    assert not part.peak[4]
    assert not part.others[4]
