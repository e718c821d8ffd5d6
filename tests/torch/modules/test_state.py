"""The state of the losses is tensors, and the same numbers after every way to save, move and load it."""

from __future__ import annotations

import copy
import io
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import softmax_lab as sl
import softmax_lab.torch as slt
from softmax_lab import LossSpec
from softmax_lab.torch.modules import state as states
from softmax_lab.torch.modules.passes import FirstPasses
from tests.limits import HANG
from tests.specs import INDEX_SPECS, K
from tests.torch.modules import ddp_ranks

ROOT = Path(__file__).resolve().parents[3]
COUNTS = np.array([500, 120, 40, 12, 9, 1])
Z = 2 * torch.randn(7, K, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 3, 4, 5, 0])
WEIGHTS = np.linspace(0.1, 2.0, K)


def deferred() -> nn.Module:
    module = slt.DeferredReweighting(sl.losses.ldam(COUNTS), WEIGHTS, start=1)
    module.step()
    return module


def trained(module: nn.Module) -> nn.Module:
    """Return the module after two batches, and with a tau of its own."""
    module(Z, Y)
    module(Z, (Y + 1) % K)
    if isinstance(module, slt.GradientBalancedLoss):
        module.observe(2 * Z, Y)
    return module


#: a module with something to save, and a fresh one to load it
LOSSES: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    **{name: (lambda s=spec: slt.SoftmaxLoss(s), slt.SoftmaxLoss) for name, spec in INDEX_SPECS.items()},  # type: ignore[misc]
    "deferred": (deferred, lambda: slt.DeferredReweighting(LossSpec(), np.ones(K), start=9)),
    "seesaw": (lambda: trained(slt.SeesawLoss(K, p=0.7, q=1.3, min_score=0.1)), lambda: slt.SeesawLoss(K)),
    "balanced, given": (
        lambda: trained(slt.GradientBalancedLoss(COUNTS, eps=0.05, rate=0.3)),
        lambda: slt.GradientBalancedLoss(np.ones(K)),
    ),
    "balanced, gathered": (
        lambda: trained(slt.GradientBalancedLoss(K, eps=0.05, rate=0.3)),
        lambda: slt.GradientBalancedLoss(K),
    ),
}
FEW = ("everything", "deferred", "seesaw", "balanced, given", "balanced, gathered")


def same(found: nn.Module, expected: nn.Module) -> None:
    """Compare states and two further steps of training, to the bit."""
    state = expected.state_dict()
    assert found.state_dict().keys() == state.keys()
    for name, value in found.state_dict().items():
        assert torch.equal(value, state[name]), name
    for module in (found, expected):
        module.train()
    for start in range(2):
        y = (Y + start) % K
        assert torch.equal(found(Z, y), expected(Z, y))


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


@pytest.mark.parametrize("name", LOSSES)
def test_the_state_is_tensors_and_comes_back_to_the_bit(name: str) -> None:
    make, fresh = LOSSES[name]
    module, again = make(), fresh()
    assert all(isinstance(value, Tensor) for value in module.state_dict().values())
    again.load_state_dict(through_a_file(module.state_dict()), strict=True)
    same(again, module)


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize(
    "change", [nn.Module.half, nn.Module.bfloat16, lambda m: m.to(torch.float16), lambda m: m.share_memory()]
)
def test_no_cast_rounds_the_state(name: str, change: Callable[[nn.Module], Any]) -> None:
    make, fresh = LOSSES[name]
    module, expected = make(), make()
    model = nn.Sequential(nn.Linear(2, K), module)
    change(model)
    again = fresh()
    again.load_state_dict(
        {key[2:]: value for key, value in model.state_dict().items() if key.startswith("1.")}
    )
    same(again, expected)


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_and_pickles_train_on_alike(name: str, copied: Callable[[nn.Module], nn.Module]) -> None:
    module = LOSSES[name][0]()
    same(copied(module), module)


@pytest.mark.parametrize("make", [slt.SeesawLoss, slt.GradientBalancedLoss])
def test_a_copy_belongs_to_the_same_group_of_processes(make: Callable[..., nn.Module]) -> None:
    class Group:
        def __reduce__(self) -> Any:
            raise TypeError("a group cannot be pickled")

    group = Group()
    passes = copy.deepcopy(make(K, group=group))._passes
    assert isinstance(passes, FirstPasses)
    assert passes.group is group


def averaged(state: dict[str, Tensor], other: dict[str, Tensor], decay: float) -> dict[str, Tensor]:
    return {n: decay * v + (1 - decay) * other[n] if v.is_floating_point() else v for n, v in state.items()}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("decay", [0.3, 0.999, 0.9999])
def test_an_average_of_equal_states_is_that_state(name: str, decay: float) -> None:
    make, fresh = LOSSES[name]
    module, again = make(), fresh()
    ema = state = module.state_dict()
    for _ in range(200):
        ema = averaged(ema, state, decay)
    again.load_state_dict(ema)
    same(again, module)


def test_a_loop_that_averages_in_place_leaves_the_copy_as_it_is() -> None:
    module = LOSSES["everything"][0]()
    ema = copy.deepcopy(module)
    for value, new in zip(ema.state_dict().values(), module.state_dict().values(), strict=True):
        value.mul_(0.9).add_(new, alpha=0.1)
    same(ema, module)
    model = nn.Sequential(nn.Linear(2, K), module)
    swa = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9), use_buffers=True
    )
    for _ in range(3):
        swa.update_parameters(model)
    same(list(swa.module.children())[1], module)


def test_an_average_of_different_states_is_the_average_of_their_settings() -> None:
    first, second = (
        slt.GradientBalancedLoss(COUNTS, tau=tau, eps=eps) for tau, eps in ((0.7, 0.1), (1.6, 0.2))
    )
    module = slt.GradientBalancedLoss(COUNTS)
    module.load_state_dict(averaged(first.state_dict(), second.state_dict(), 0.25))
    assert module.tau == pytest.approx(0.25 * 0.7 + 0.75 * 1.6, rel=1e-9)
    assert module._settings["eps"] == pytest.approx(0.175, rel=1e-9)
    states = [slt.SoftmaxLoss(LossSpec(bias=bias)).state_dict() for bias in ([0.1, -3.0], [0.7, -1.0])]
    loss = slt.SoftmaxLoss()
    loss.load_state_dict(averaged(states[0], states[1], 0.5))
    np.testing.assert_allclose(np.asarray(loss.spec.bias), np.array([0.4, -2.0]), rtol=1e-9)


@pytest.mark.parametrize(
    "value", [1 / 3, 1.0, 5e-324, -2.5e-310, 1.7976931348623157e308, -np.pi, 0.0, 2.0**53 - 1]
)
def test_every_number_survives(value: float) -> None:
    state = states.State("SoftmaxLoss", 0, (), (LossSpec(bias=value),))
    assert states.unpacked(torch.from_numpy(states.packed(state))) == state


def test_a_module_made_on_meta_takes_the_state_over() -> None:
    for name in FEW:
        make, fresh = LOSSES[name]
        with torch.device("meta"):
            empty = fresh()
        module = make()
        empty.to("meta").load_state_dict(copy.deepcopy(module.state_dict()), assign=True)
        assert not any(buffer.is_meta for buffer in empty.buffers())
        empty.to("cpu")
        same(empty, module)


def test_entries_that_come_one_by_one_are_taken_in_any_order() -> None:
    for name in FEW:
        make, fresh = LOSSES[name]
        for order in (1, -1):
            module, again = make(), fresh().to("meta")
            for key, value in list(copy.deepcopy(module.state_dict()).items())[::order]:
                again.load_state_dict({key: value}, strict=False, assign=True)
            again.to("cpu")
            same(again, module)


WRONG: list[tuple[Callable[[], nn.Module], Callable[[], nn.Module], str]] = [
    (
        slt.SoftmaxLoss,
        deferred,
        "written by DeferredReweighting for 6 classes; it cannot be loaded into SoftmaxLoss$",
    ),
    (
        lambda: slt.SeesawLoss(K),
        lambda: slt.GradientBalancedLoss(K),
        "written by GradientBalancedLoss for 6 classes.* into SeesawLoss for 6",
    ),
    (
        lambda: slt.SeesawLoss(3),
        lambda: slt.SeesawLoss(K),
        "written by SeesawLoss for 6 classes.* into SeesawLoss for 3 classes",
    ),
    (
        lambda: slt.GradientBalancedLoss(3),
        lambda: slt.GradientBalancedLoss(K),
        "GradientBalancedLoss for 6 classes.* for 3 classes",
    ),
    (
        lambda: slt.GradientBalancedLoss(K),
        lambda: slt.SoftmaxLoss(LossSpec(margin=WEIGHTS)),
        "SoftmaxLoss for 6 .*GradientBalancedLoss for 6",
    ),
    (
        lambda: slt.SoftmaxLoss(sl.losses.balanced_softmax([9, 1])),
        lambda: slt.SoftmaxLoss(LossSpec(margin=WEIGHTS)),
        "written by SoftmaxLoss for 6 classes; it cannot be loaded into SoftmaxLoss for 2 classes",
    ),
]


@pytest.mark.parametrize(("into", "of", "message"), WRONG)
def test_what_another_module_wrote_is_one_error_that_names_both(into: Any, of: Any, message: str) -> None:
    module, before = into(), into().state_dict()
    with pytest.raises(RuntimeError, match=message) as error:
        module.load_state_dict(of().state_dict(), strict=False)
    assert str(error.value).count("\n\t") == 1
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


def damaged(change: Callable[[Tensor], Any]) -> Any:
    return change(slt.SoftmaxLoss(INDEX_SPECS["everything"]).state_dict()["_extra_state"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.half(), "must be a float64 vector, kept in that type; got torch.float16"),
        (lambda v: v.numpy(), "got ndarray"),
        (lambda v: v[:-2], "state"),
        (lambda v: v * torch.nan, "finite vector"),
        (
            lambda v: torch.cat([v.view(2, -1), torch.zeros(2, 1, dtype=torch.float64)], 1).reshape(-1),
            "entries; got",
        ),
        (lambda v: v.index_put((torch.tensor([0]),), torch.tensor(3.0, dtype=torch.float64)), "format 3"),
        (
            lambda v: v.index_put((torch.tensor([1]),), torch.tensor(0.5, dtype=torch.float64)),
            "0.5 where a whole number",
        ),
        (
            lambda v: v.index_put((torch.tensor([1]),), torch.tensor(99.0, dtype=torch.float64)),
            "later version",
        ),
        (
            lambda v: v.index_put((torch.tensor([7]),), torch.tensor(-1.0, dtype=torch.float64)),
            "temperature must be finite and > 0",
        ),
    ],
)
def test_a_damaged_state_says_what_is_wrong(change: Callable[[Tensor], Any], message: str) -> None:
    module = slt.SoftmaxLoss(LossSpec(gamma=1.0))
    with pytest.raises(RuntimeError, match=message):
        module.load_state_dict({"_extra_state": damaged(change)})
    assert module.spec == LossSpec(gamma=1.0)


def as_0_1(spec: LossSpec) -> dict[str, Any]:
    """Return the fields as version 0.1.0 wrote them."""
    values = {name: getattr(spec, name) for name in spec.__dataclass_fields__}
    return {
        name: torch.tensor(value) if isinstance(value, np.ndarray) else value
        for name, value in values.items()
    }


def saved_by_0_1(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state dict with the versions of modules that torch wrote then."""
    found = nn.Module().state_dict()
    found.update(through_a_file(state))
    found._metadata = {"": {"version": 1}, "loss": {"version": 1}}  # type: ignore[attr-defined]
    return found


def test_states_of_version_0_1_are_read() -> None:
    for spec in INDEX_SPECS.values():
        plain = slt.SoftmaxLoss()
        plain.load_state_dict(saved_by_0_1({"_extra_state": as_0_1(spec)}))
        assert plain.spec == spec
    phases = {
        "first": as_0_1(LossSpec(gamma=1.0)),
        "second": as_0_1(LossSpec(gamma=1.0, class_weight=WEIGHTS)),
        "start": 2,
        "epoch": 1,
    }
    later = slt.DeferredReweighting(LossSpec(), np.ones(K), start=9)
    later.load_state_dict(saved_by_0_1({"_extra_state": phases}))
    later.step()
    assert later.spec == LossSpec(gamma=1.0, class_weight=WEIGHTS)
    settings = {
        "tau": 0.9,
        "gathers": True,
        "rate": 0.3,
        "max_tau": 2.0,
        "strength": 0.5,
        "gate": 2.0,
        "eps": 0.1,
        "power": 1.0,
    }
    balanced = slt.GradientBalancedLoss(K)
    balanced.load_state_dict(saved_by_0_1({"counts": torch.tensor(COUNTS), "_extra_state": settings}))
    assert balanced.spec == sl.losses.gradient_balanced(
        COUNTS, 0.9, strength=0.5, gate=2.0, eps=0.1, power=1.0
    )
    seesaw = slt.SeesawLoss(K)
    seesaw.load_state_dict(
        saved_by_0_1({"counts": torch.tensor(COUNTS), "loss._extra_state": as_0_1(LossSpec())})
    )
    assert seesaw.counts.tolist() == COUNTS.tolist()
    with pytest.raises(
        RuntimeError,
        match="written by DeferredReweighting for 6 classes; it cannot be loaded into SoftmaxLoss",
    ):
        slt.SoftmaxLoss().load_state_dict({"_extra_state": phases})
    with pytest.raises(RuntimeError, match="got a dict of a"):
        slt.SoftmaxLoss().load_state_dict({"_extra_state": {"a": 1}})
    with pytest.raises(RuntimeError, match="Missing key"):
        slt.SeesawLoss(K).load_state_dict({"counts": torch.tensor(COUNTS)})


def test_counts_that_come_alone_are_used() -> None:
    module = slt.GradientBalancedLoss(np.ones(K))
    module.load_state_dict({"counts": torch.tensor(COUNTS)}, strict=False)
    assert module.spec == sl.losses.gradient_balanced(COUNTS)
    assert torch.equal(module(Z, Y), slt.cross_entropy(Z, Y, sl.losses.gradient_balanced(COUNTS)))


@pytest.mark.parametrize("name", INDEX_SPECS)
def test_a_spec_in_a_checkpoint_loads_with_the_safe_loader(name: str) -> None:
    assert through_a_file({"spec": INDEX_SPECS[name], "step": 3})["spec"] == INDEX_SPECS[name]


def test_a_tampered_spec_in_a_checkpoint_is_checked() -> None:
    class Tampered:
        def __init__(self, values: dict[str, Any]) -> None:
            self.values = values

        def __reduce__(self) -> Any:
            return sl.spec._from_mapping, (self.values,)

    for values, error, message in (
        ({"temperature": -1.0}, ValueError, "temperature must be"),
        ({"margin": ((2,), np.array([-1.0, 0.0]).tobytes())}, ValueError, "margin must be"),
        ({"margin": ((3,), b"12345678")}, ValueError, "reshape"),
        ({"colour": 1.0}, TypeError, "colour"),
    ):
        with pytest.raises(error, match=message):
            through_a_file({"spec": Tampered(values)})


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_distributed_checkpoints_hold_the_state(tmp_path: Any) -> None:
    dcp = pytest.importorskip("torch.distributed.checkpoint")
    from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict

    for name in FEW:
        module = nn.Sequential(nn.Linear(2, K), LOSSES[name][0]())
        folder = tmp_path / name.replace(", ", "-")
        dcp.save({"model": get_model_state_dict(module)}, checkpoint_id=folder, no_dist=True)
        again = copy.deepcopy(module)
        if name != "everything":  # loading writes into tensors of the saved sizes
            again[1] = (
                LOSSES[name][1]()
                if name != "deferred"
                else slt.DeferredReweighting(sl.losses.ldam(COUNTS[::-1] + 1), WEIGHTS, 9)
            )
        state = {"model": get_model_state_dict(again)}
        dcp.load(state, checkpoint_id=folder, no_dist=True)
        set_model_state_dict(again, state["model"])
        same(again[1], module[1])


def _send(module: nn.Module, queue: Any) -> None:
    queue.put({name: value.numpy() for name, value in module.state_dict().items()})


@pytest.mark.long
def test_the_state_goes_to_another_process() -> None:
    module = LOSSES["balanced, gathered"][0]()
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_send, args=(module, queue))
    process.start()
    found = queue.get(timeout=HANG)
    process.join()
    for name, value in module.state_dict().items():
        assert np.array_equal(found[name], value.numpy())


def test_a_monitor_saves_tensors_and_goes_on() -> None:
    def run(monitor: slt.GradientMonitor, steps: range) -> slt.GradientMonitor:
        for step in steps:
            z = torch.roll(Z, step, 0).clone().requires_grad_()
            monitor.update(z, Y)
        return monitor

    def make() -> slt.GradientMonitor:
        return slt.GradientMonitor(accumulation=2, momentum=0.5)

    for cut in (0, 1, 3):
        first = run(make(), range(cut))
        state = first.state_dict()
        assert all(isinstance(value, Tensor) for value in state.values())
        again = make()
        again.load_state_dict(through_a_file(state))
        whole = run(make(), range(6))
        found = run(again, range(cut, 6))
        for name, values in whole.latest.items():
            np.testing.assert_array_equal(found.latest[name], values)
        assert found.frame().equals(whole.frame())
    old = {
        "step": 1,
        "batches": 2,
        "averaged": 0.5,
        "sizes": (K, 0),
        "window": torch.zeros(72),
        "average": torch.ones(72),
    }
    monitor = make()
    monitor.load_state_dict({**old, "steps": [0], "history": torch.ones(1, 9, K)})
    assert (monitor.step, monitor._averaged, len(monitor.frame())) == (1, 0.5, K)


@pytest.mark.slow
def test_inside_of_ddp_two_processes_count_as_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.torch.modules.ddp_ranks", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen([*command, str(rank)], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    for process in ranks:
        _, errors = process.communicate(timeout=HANG)
        assert process.returncode == 0, errors
    expected = ddp_ranks.run(slice(None))
    for rank in range(2):
        found = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
