"""What every rank checks of the class-parallel losses.

``test_parallel`` starts it by ``torchrun``, all cases in one launch.

Each rank writes ``rank<r>.json``: what went wrong in a case (nothing: an empty text), by ``<ranks>: <case>``.
Groups of 1 to all ranks are made in one launch; the first ranks of the launch are in each.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast
from unittest import mock

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

import softmax_lab as sl
from softmax_lab import _dispatch
from softmax_lab.torch import linear as linear_module
from softmax_lab.torch import parallel
from tests.limits import HANG
from tests.logs import LOG_SPECS
from tests.specs import INDEX_SPECS, SOFT_SPECS, K

#: classes by rank, all uneven, and one rank without any
SIZES = {1: (6,), 2: (4, 2), 3: (1, 3, 2), 4: (2, 0, 3, 1)}
REDUCTIONS = ("mean", "sum", "none")
ROWS, WIDTH = 11, 4
SHORT = timedelta(seconds=3)


class Place(NamedTuple):
    """A rank's part in a case."""

    group: dist.ProcessGroup
    rank: int
    world: int

    @property
    def columns(self) -> slice:
        first = sum(SIZES[self.world][: self.rank])
        return slice(first, first + SIZES[self.world][self.rank])


class Problem(NamedTuple):
    """Whole arrays, the same on every rank: hidden @ weight.T + bias are the logits."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor
    target: Tensor
    sample_weight: Tensor
    upstream: Tensor

    @property
    def logits(self) -> Tensor:
        return self.hidden @ self.weight.T + self.bias


def problem(*, soft: bool = False, seed: int = 0) -> Problem:
    """Random rows, two of them ignored."""
    rng = np.random.default_rng(seed)
    hidden, weight, bias = (
        torch.from_numpy(2.0 * rng.standard_normal(shape)) for shape in ((ROWS, WIDTH), (K, WIDTH), (K,))
    )
    target = torch.from_numpy(rng.dirichlet(np.ones(K), ROWS) if soft else rng.integers(0, K, ROWS))
    if not soft:
        target[[2, 7]] = -100
    sample_weight, upstream = (
        torch.from_numpy(rng.uniform(0.5, 2.0, ROWS)),
        torch.from_numpy(rng.standard_normal(ROWS)),
    )
    return Problem(hidden, weight, bias, target, sample_weight, upstream)


def expected(given: Problem, spec: sl.LossSpec, reduction: Any) -> tuple[Any, Tensor]:
    """Return value and logits' gradient of the whole, unsharded loss in float64.

    The upstream gradient is in it.
    """
    log = reduction == "log_mean"
    whole: Any = sl.log_cross_entropy_grad if log else sl.cross_entropy_grad
    value, gradient = whole(
        given.logits.numpy(),
        given.target.numpy(),
        spec,
        reduction="mean" if log else reduction,
        sample_weight=given.sample_weight.numpy(),
    )
    upstream = given.upstream[:, None] if reduction == "none" else given.upstream[0]
    return value, torch.from_numpy(gradient) * upstream


def gradient_of(tensor: Tensor) -> Tensor:
    return cast(Tensor, tensor.grad)


def close(found: Tensor, wanted: Any, *, rtol: float = 1e-11, atol: float = 1e-13) -> None:
    np.testing.assert_allclose(found.detach().numpy(), np.asarray(wanted), rtol=rtol, atol=atol)


def check_logits(place: Place, given: Problem, spec: sl.LossSpec, reduction: Any, **more: Any) -> None:
    wanted, gradient = expected(given, spec, reduction)
    target = given.target[:, place.columns] if given.target.is_floating_point() else given.target
    local = given.logits[:, place.columns].contiguous().requires_grad_()
    value = parallel.cross_entropy(
        local, target, spec, group=place.group, reduction=reduction, sample_weight=given.sample_weight, **more
    )
    value.backward(given.upstream if reduction == "none" else given.upstream[0])
    close(value, wanted)
    close(gradient_of(local), gradient[:, place.columns])


def check_linear(place: Place, given: Problem, spec: sl.LossSpec, reduction: Any, **more: Any) -> None:
    wanted, gradient = expected(given, spec, reduction)
    target = given.target[:, place.columns] if given.target.is_floating_point() else given.target
    hidden, weight, bias = (
        t.clone().requires_grad_()
        for t in (given.hidden, given.weight[place.columns], given.bias[place.columns])
    )
    value = parallel.linear_cross_entropy(
        hidden,
        weight,
        target,
        spec,
        local_bias=bias,
        group=place.group,
        reduction=reduction,
        sample_weight=given.sample_weight,
        chunk_bytes=5 * 8 * max(SIZES[place.world]),
        **more,
    )
    value.backward(given.upstream if reduction == "none" else given.upstream[0])
    close(value, wanted)
    close(gradient_of(hidden), gradient @ given.weight)
    close(gradient_of(weight), (gradient.T @ given.hidden)[place.columns])
    close(gradient_of(bias), gradient.sum(0)[place.columns])


def family(index: int, spec: sl.LossSpec, *, soft: bool) -> Callable[[Place], None]:
    """A value a row and a mean; the linear form takes the reductions in turn, a collective being dear."""

    def case(place: Place) -> None:
        for reduction in ("none", "mean"):
            check_logits(place, problem(soft=soft), spec, reduction)
        check_linear(place, problem(soft=soft, seed=1), spec, REDUCTIONS[(index + place.world) % 3])

    return case


def reductions(place: Place) -> None:
    for reduction in REDUCTIONS:
        check_logits(place, problem(), INDEX_SPECS["everything"], reduction)
        check_linear(place, problem(), INDEX_SPECS["everything"], reduction)


def given_sizes(place: Place) -> None:
    """The ranks need not be asked for sizes that are known."""
    check_logits(place, problem(), sl.LossSpec(smoothing=0.1), "sum", sizes=SIZES[place.world])
    check_linear(place, problem(), sl.LossSpec(smoothing=0.1), "none", sizes=SIZES[place.world])


def confident(place: Place) -> None:
    """Whichever rank holds the target, its gradient is minus the sum of the others and not p_y - 1."""
    for label in range(K):
        logits = np.zeros((1, K))
        logits[0, label] = 45.0
        wanted, gradient = sl.cross_entropy_grad(logits, [label])
        assert 0 < wanted < 1e-18
        local = torch.from_numpy(logits[:, place.columns].copy()).requires_grad_()
        value = parallel.cross_entropy(local, torch.tensor([label]), group=place.group)
        value.backward()
        close(value, wanted, atol=0)
        close(gradient_of(local), gradient[:, place.columns], atol=0)


def singular(place: Place) -> None:
    """NaN and infinities in one rank's columns mean the same as in a whole row."""
    inf = np.inf
    rows = np.array(
        [
            [0, 1, 2, 3, 4, 5],
            [np.nan, 0, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, inf],
            [-inf] * 6,
            [-inf, -inf, 0, 1, 2, 3],
            [0, 0, 0, 0, -inf, -inf],
        ]
    )
    target = np.array([5, 3, 3, 3, 3, 0])
    for spec in (sl.LossSpec(), sl.LossSpec(smoothing=0.1)):
        wanted, gradient = sl.cross_entropy_grad(rows, target, spec, reduction="none")
        local = torch.from_numpy(rows[:, place.columns].copy()).requires_grad_()
        value = parallel.cross_entropy(
            local, torch.from_numpy(target), spec, group=place.group, reduction="none"
        )
        value.sum().backward()
        close(value, wanted)
        # where the value is not, the convention for the gradient is the row's own
        finite = np.isfinite(wanted)
        close(gradient_of(local)[finite], gradient[finite][:, place.columns])
        assert bool(torch.isnan(gradient_of(local)[1:4]).all())


def ignored_nan(place: Place) -> None:
    """A row that does not count may hold anything; no row at all is NaN, or 0 where that is asked for."""
    local = torch.full(
        (2, SIZES[place.world][place.rank]), torch.nan, dtype=torch.float64, requires_grad=True
    )
    none = torch.tensor([-100, -100])
    assert bool(torch.isnan(parallel.cross_entropy(local, none, group=place.group)))
    value = parallel.cross_entropy(local, none, group=place.group, empty="zero")
    value.backward()
    assert value == 0
    assert not gradient_of(local).any()


def no_rows(place: Place) -> None:
    local = torch.zeros((0, SIZES[place.world][place.rank]), requires_grad=True)
    value = parallel.cross_entropy(
        local, torch.zeros(0, dtype=torch.int64), group=place.group, reduction="sum"
    )
    value.backward()
    assert value == 0


def half_precision(place: Place) -> None:
    """The value is of the rounded logits, the gradient rounded once."""
    given = problem()
    for dtype in (torch.float16, torch.bfloat16):
        logits = given.logits.to(dtype)
        wanted, gradient = sl.cross_entropy_grad(logits.double().numpy(), given.target.numpy())
        local = logits[:, place.columns].contiguous().requires_grad_()
        value = parallel.cross_entropy(local, given.target, group=place.group)
        value.backward()
        assert value.dtype == torch.float32
        close(value, wanted, rtol=1e-6)
        assert gradient_of(local).dtype == dtype
        close(gradient_of(local).double(), gradient[:, place.columns], rtol=torch.finfo(dtype).eps, atol=1e-7)


def collectives(place: Place) -> None:
    """The calls and their lengths are those of the module's table."""
    n, live = ROWS, ROWS - 2
    agreed = [("SUM", 6 * place.world)]
    given, soft = problem(), problem(soft=True)
    smooth = sl.LossSpec(smoothing=0.1, z_loss=1e-3, gamma=1.0)
    local = given.logits[:, place.columns].contiguous().requires_grad_()
    for spec, target, sums in (
        (sl.LossSpec(), given.target, 2),
        (smooth, given.target, 3),
        (sl.LossSpec(), soft.target[:, place.columns], 6),
    ):
        forward = [("MAX", n), ("SUM", sums * n)]
        with counted() as calls:
            value = parallel.cross_entropy(local, target, spec, group=place.group)
        assert calls == agreed + forward, calls
        with counted() as calls:
            parallel.cross_entropy(local, target, spec, group=place.group, sizes=SIZES[place.world])
        assert calls == forward, calls
        with counted() as calls:
            value.backward()
        assert calls == [], calls
    hidden, weight = (
        given.hidden.clone().requires_grad_(),
        given.weight[place.columns].clone().requires_grad_(),
    )
    rows = -(-live // 3)  # three chunks of the rows that count
    chunks = [("MAX", rows), ("SUM", 2 * rows)] * 3
    loss = partial(
        parallel.linear_cross_entropy, chunk_bytes=rows * 8 * max(SIZES[place.world]), group=place.group
    )
    with counted() as calls:
        value = loss(hidden, weight, given.target)
    assert calls == [*agreed, *chunks, ("SUM", n * WIDTH)], calls
    with counted() as calls:
        value.backward()
    assert calls == [], calls
    with counted() as calls:
        values = loss(hidden, weight, given.target, reduction="none")
    assert calls == [*agreed, *chunks], calls
    with counted() as calls:
        values.sum().backward()
    assert calls == [*chunks, ("SUM", n * WIDTH)], calls
    with counted() as calls:  # a hidden layer that is not trained is not summed
        loss(hidden.detach(), weight, given.target)
    assert calls == [*agreed, *chunks], calls


@contextmanager
def counted() -> Iterator[list[tuple[str, int]]]:
    """Record operation and length of every collective."""
    calls: list[tuple[str, int]] = []
    reduce = dist.all_reduce

    def recorded(tensor: Tensor, op: Any = dist.ReduceOp.SUM, **more: Any) -> Any:
        calls.append(("MAX" if op == dist.ReduceOp.MAX else "SUM", tensor.numel()))
        return reduce(tensor, op=op, **more)

    with mock.patch.object(dist, "all_reduce", recorded):
        yield calls


def no_gathered_logits(place: Place) -> None:
    """Nothing but all-reduces is called, so no rank can have seen another's logits."""
    names = [
        name
        for name in dir(dist)
        if name.startswith(("all_gather", "all_to_all", "gather", "broadcast", "reduce_", "scatter"))
    ]
    with mock.patch.multiple(
        dist, **{name: mock.DEFAULT for name in names if callable(getattr(dist, name))}
    ) as replaced:
        check_logits(place, problem(), INDEX_SPECS["everything"], "mean")
        check_linear(place, problem(), INDEX_SPECS["everything"], "mean")
    assert not any(fake.called for fake in replaced.values())


def raises(error: type[Exception], words: str, call: Callable[[], Any]) -> None:
    with pytest.raises(error) as found:
        call()
    assert words in str(found.value)


def bad_labels(place: Place) -> None:
    """A label that no shard holds is an error on every rank, also where only one of them was given it."""
    given = problem()
    local, weight = given.logits[:, place.columns].contiguous(), given.weight[place.columns]
    for bad in (K, -1):
        for owners in (range(place.world), (place.world - 1,)):
            target = given.target.clone()
            if place.rank in owners:
                target[4] = bad
            words = f"label {bad} on rank {owners[0]} is outside [0, {K})"
            raises(IndexError, words, partial(parallel.cross_entropy, local, target, group=place.group))
            raises(
                IndexError,
                words,
                partial(parallel.linear_cross_entropy, given.hidden, weight, target, group=place.group),
            )
    target = torch.full_like(given.target, K)
    raises(
        IndexError,
        f"label {K} at row 0",
        lambda: parallel.cross_entropy(local, target, group=place.group, sizes=SIZES[place.world]),
    )


def different_arguments(place: Place) -> None:
    """What differs between ranks is an error on all of them."""
    if place.world == 1:
        return
    given, own = problem(), place.rank == 0
    local = given.logits[:, place.columns].contiguous()
    rows = ROWS - own
    raises(
        ValueError,
        "number of rows",
        lambda: parallel.cross_entropy(local[:rows], given.target[:rows], group=place.group),
    )
    swapped = given.target.flip(0) if own else given.target
    raises(ValueError, "target", lambda: parallel.cross_entropy(local, swapped, group=place.group))
    reduction: Any = "sum" if own else "mean"
    raises(
        ValueError,
        "reduction",
        lambda: parallel.cross_entropy(local, given.target, group=place.group, reduction=reduction),
    )
    wrong = [K // place.world + 7] * place.world
    raises(
        ValueError,
        "sizes must hold",
        lambda: parallel.cross_entropy(local, given.target, group=place.group, sizes=wrong),
    )
    spec = sl.LossSpec(class_weight=np.ones(K + 1))
    raises(
        ValueError,
        f"made for {K + 1} classes",
        lambda: parallel.cross_entropy(local, given.target, spec, group=place.group),
    )


def same_as_one_process(place: Place) -> None:
    """Many classes and several blocks of rows: float32 beside the same loss on one process."""
    classes, rows = 5000, 64
    rng = np.random.default_rng(3)
    hidden, weight = (
        torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
        for shape in ((rows, 16), (classes, 16))
    )
    target = torch.from_numpy(rng.integers(0, classes, rows))
    spec = sl.LossSpec(smoothing=0.1, z_loss=1e-4, bias=rng.standard_normal(classes))
    whole_hidden, whole_weight = (t.clone().requires_grad_() for t in (hidden, weight))
    one = linear_module.linear_cross_entropy(whole_hidden, whole_weight, target, spec)
    one.backward()
    first, last = classes * place.rank // place.world, classes * (place.rank + 1) // place.world
    own_hidden, own_weight = hidden.clone().requires_grad_(), weight[first:last].clone().requires_grad_()
    value = parallel.linear_cross_entropy(own_hidden, own_weight, target, spec, group=place.group)
    value.backward()
    close(value, one.detach(), rtol=3e-7)
    for found, wanted in (
        (own_hidden.grad, whole_hidden.grad),
        (own_weight.grad, gradient_of(whole_weight)[first:last]),
    ):
        assert found is not None
        assert wanted is not None
        close(found, wanted, rtol=1e-4, atol=1e-6 * float(wanted.abs().max()))


def compiled_loops_on_some(place: Place) -> None:
    """Ranks with the compiled loops and ranks without understand each other."""
    with mock.patch.object(_dispatch, "kernels", LOOPS if place.rank % 2 == 0 else lambda: None):
        for name in ("plain", "everything"):
            check_logits(place, problem(), INDEX_SPECS[name], "mean")
            check_linear(place, problem(seed=1), INDEX_SPECS[name], "none")


#: the loops, where they are not put aside
LOOPS = _dispatch.kernels


def log_family(spec: sl.LossSpec) -> Callable[[Place], None]:
    """The log of the mean loss: J, and the gradients of logits, hidden rows, weight and bias."""

    def case(place: Place) -> None:
        check_logits(place, problem(), spec, "log_mean")
        check_linear(place, problem(seed=1), spec, "log_mean")

    return case


def log_confident(place: Place) -> None:
    """Whichever rank holds the target, the gap may be any: where the mean loss underflows too."""
    for label in range(K):
        logits = np.stack([np.linspace(0.0, 1.0, K), np.linspace(1.0, 0.0, K), np.zeros(K)])
        logits[:, label] = [1000.0, 1001.0, 1e4]
        labels = [label] * 3
        wanted, gradient = sl.log_cross_entropy_grad(logits, labels)
        assert wanted < -900
        local = torch.from_numpy(logits[:, place.columns].copy()).requires_grad_()
        value = parallel.cross_entropy(local, torch.tensor(labels), group=place.group, reduction="log_mean")
        value.backward()
        close(value, wanted)
        close(gradient_of(local), gradient[:, place.columns])


def log_singular(place: Place) -> None:
    """NaN, infinities, rows alone and rows that do not count mean the same as in a whole row."""
    inf = np.inf
    base = np.array([[0.0, 1, 2, 3, 4, 5], [5.0, 4, 3, 2, 1, 0]])
    for row, label in (
        ([np.nan, 0, 0, 0, 0, 0], 3),
        ([0, 0, 0, 0, 0, inf], 3),
        ([0, 0, 0, inf, 0, 0], 3),
        ([-inf] * 6, 3),
        ([-inf, -inf, -inf, -inf, -inf, 2.0], 5),
        ([0, 0, 0, 0, -inf, -inf], 5),
        ([-inf, -inf, 0, 1, 2, 3], 0),
        ([-inf, -inf, 0, 1, 2, 3], 3),
        ([np.nan] * 6, -100),
    ):
        rows, target = np.vstack([base, [row]]), np.array([5, 3, label])
        wanted, gradient = sl.log_cross_entropy_grad(rows, target)
        local = torch.from_numpy(rows[:, place.columns].copy()).requires_grad_()
        value = parallel.cross_entropy(
            local, torch.from_numpy(target), group=place.group, reduction="log_mean"
        )
        value.backward()
        np.testing.assert_allclose(value.detach().numpy(), wanted, rtol=1e-11)
        close(gradient_of(local), gradient[:, place.columns])


def log_of_nothing(place: Place) -> None:
    local = torch.full(
        (2, SIZES[place.world][place.rank]), torch.nan, dtype=torch.float64, requires_grad=True
    )
    none = torch.tensor([-100, -100])
    loss = partial(parallel.cross_entropy, group=place.group, reduction="log_mean")
    assert bool(torch.isnan(loss(local, none)))
    value = loss(local, none, empty="zero")
    value.backward()
    assert value == 0
    assert not gradient_of(local).any()
    assert bool(torch.isnan(loss(local[:0], none[:0])))


def log_half_precision(place: Place) -> None:
    """The value is of the rounded logits, the gradient rounded once, after the upstream gradient."""
    given = problem()
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        logits = given.logits.to(dtype)
        wanted, gradient = sl.log_cross_entropy_grad(logits.double().numpy(), given.target.numpy())
        local = logits[:, place.columns].contiguous().requires_grad_()
        value = parallel.cross_entropy(local, given.target, group=place.group, reduction="log_mean")
        (1024.0 * value).backward()
        assert value.dtype == torch.float32
        close(value, wanted, rtol=1e-6)
        assert gradient_of(local).dtype == dtype
        close(
            gradient_of(local).double(),
            1024.0 * gradient[:, place.columns],
            rtol=max(torch.finfo(dtype).eps, 1e-6),
            atol=1e-6,
        )


def log_errors(place: Place) -> None:
    """What the log of the mean loss does not take is refused with its one message."""
    given, soft = problem(), problem(soft=True)
    local, weight = given.logits[:, place.columns].contiguous(), given.weight[place.columns]
    words = "the log of the mean loss takes class indices and the fields temperature"
    loss = partial(parallel.cross_entropy, local, group=place.group, reduction="log_mean")
    raises(ValueError, words, lambda: loss(given.target, sl.LossSpec(gamma=2.0)))
    raises(ValueError, words, lambda: loss(soft.target[:, place.columns]))
    linear = partial(parallel.linear_cross_entropy, given.hidden, weight, group=place.group)
    raises(ValueError, words, lambda: linear(given.target, sl.LossSpec(z_loss=0.1), reduction="log_mean"))


def log_collectives(place: Place) -> None:
    """The calls are those of the other losses: two all-reduces, and none in the backward pass."""
    given = problem()
    local = given.logits[:, place.columns].contiguous().requires_grad_()
    with counted() as calls:
        value = parallel.cross_entropy(
            local, given.target, group=place.group, sizes=SIZES[place.world], reduction="log_mean"
        )
    assert calls == [("MAX", ROWS), ("SUM", 2 * ROWS)], calls
    with counted() as calls:
        value.backward()
    assert calls == [], calls


CASES: dict[str, Callable[[Place], None]] = {
    **{f"log of the mean: {name}": log_family(spec) for name, spec in LOG_SPECS.items()},
    **{f"family: {name}": family(i, spec, soft=False) for i, (name, spec) in enumerate(INDEX_SPECS.items())},
    **{
        f"distributions: {name}": family(i, spec, soft=True)
        for i, (name, spec) in enumerate(SOFT_SPECS.items())
    },
    **{
        case.__name__: case
        for case in (
            reductions,
            given_sizes,
            confident,
            singular,
            ignored_nan,
            no_rows,
            half_precision,
            collectives,
            no_gathered_logits,
            bad_labels,
            different_arguments,
            same_as_one_process,
            compiled_loops_on_some,
            log_confident,
            log_singular,
            log_of_nothing,
            log_half_precision,
            log_errors,
            log_collectives,
        )
    },
}


def run_cases(rank: int, world: int) -> dict[str, str]:
    """Run every case in groups of 1 to all ranks, up to the first that fails.

    The ranks may be out of step from there on.
    """
    groups = {ranks: dist.new_group(range(ranks)) for ranks in range(1, world + 1)}
    found: dict[str, str] = {}
    for ranks, name in ((ranks, name) for ranks in groups for name in CASES if rank < ranks):
        try:
            CASES[name](Place(groups[ranks], rank, ranks))
        except Exception:
            return found | {f"{ranks}: {name}": traceback.format_exc()}
        found[f"{ranks}: {name}"] = ""
    return found


def lost_ranks(rank: int, world: int, folder: Path) -> dict[str, str]:
    """The last rank comes when the others have given it up, then dies.

    The others must see an error, and not wait for as long as a hang.
    """
    late, dying = (dist.new_group(range(world), timeout=SHORT) for _ in range(2))
    given, last = problem(), world - 1

    def lost(group: dist.ProcessGroup) -> str:
        start = time.monotonic()
        try:
            parallel.linear_cross_entropy(given.hidden, given.weight, given.target, group=group)
        except RuntimeError:
            seconds = time.monotonic() - start
            return "" if seconds < HANG / 2 else f"an error after {seconds:.1f} s"
        return "no error"

    if rank == last:
        while len(list(folder.glob("gave-up-*"))) < last:
            time.sleep(0.05)
        with suppress(RuntimeError):
            parallel.linear_cross_entropy(given.hidden, given.weight, given.target, group=late)
        os._exit(0)  # as a process that is killed: without a word to the others
    found = {"late": lost(late)}
    (folder / f"gave-up-{rank}").touch()
    return found | {"dead": lost(dying)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--lost", action="store_true", help="only what happens when a rank is lost")
    options = parser.parse_args()
    torch.set_num_threads(1)
    _dispatch.kernels = lambda: None  # type: ignore[assignment]  # expected values from the reference: no rank has to load or compile anything
    dist.init_process_group("gloo", timeout=timedelta(seconds=HANG))
    rank, world = dist.get_rank(), dist.get_world_size()
    found = lost_ranks(rank, world, options.out) if options.lost else run_cases(rank, world)
    (options.out / f"rank{rank}.json").write_text(json.dumps(found), encoding="utf-8")
    if any(found.values()):
        raise SystemExit("\n".join(found.values()))
    if not options.lost:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
