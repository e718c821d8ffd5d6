"""Files and averages of a model that has the losses among its members.

safetensors, accelerate, EMA, distributed checkpoints.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.optim import swa_utils

import softmax_lab.torch as slt
from tests.clients.losses import LOGITS, LOSSES, TARGET, D, K, Model, assert_restored, spec_of


def _hidden(step: int) -> Tensor:
    return torch.randn(len(TARGET), D, generator=torch.Generator().manual_seed(step))


def test_the_state_is_tensors_only() -> None:
    state = Model(used=True).state_dict()
    assert {name: type(value) for name, value in state.items() if not isinstance(value, Tensor)} == {}


def test_no_two_entries_of_the_state_share_memory() -> None:  # safetensors refuses those
    pointers = [value.data_ptr() for value in Model(used=True).state_dict().values() if value.numel()]
    assert len(set(pointers)) == len(pointers)


# ---- safetensors ----


@pytest.mark.parametrize("name", LOSSES)
def test_safetensors_saves_a_state(tmp_path: Path, name: str) -> None:
    safetensors = pytest.importorskip("safetensors.torch", reason="needs safetensors")
    used, fresh = LOSSES[name].used(), LOSSES[name].fresh()
    safetensors.save_file(used.state_dict(), tmp_path / "loss.safetensors")
    fresh.load_state_dict(safetensors.load_file(tmp_path / "loss.safetensors"))
    assert_restored(fresh, used)


def test_safetensors_saves_a_model(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch", reason="needs safetensors")
    used, fresh = Model(used=True), Model(used=False)
    safetensors.save_model(used, str(tmp_path / "model.safetensors"))
    assert safetensors.load_model(fresh, str(tmp_path / "model.safetensors")) == (set(), [])
    fresh.assert_restored(used)


def test_a_half_precision_file_keeps_the_numbers_of_a_loss(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch", reason="needs safetensors")
    used, fresh = Model(used=True).half(), Model(used=False).half()
    safetensors.save_model(used, str(tmp_path / "model.safetensors"))
    safetensors.load_model(fresh, str(tmp_path / "model.safetensors"))
    fresh.assert_restored(used)
    for name, case in LOSSES.items():
        assert spec_of(fresh.losses[name]) == spec_of(case.used())


# ---- accelerate ----


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "pickle"])
def test_accelerate_saves_and_loads_a_training(tmp_path: Path, safe: bool) -> None:
    accelerate = pytest.importorskip("accelerate", reason="needs accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    models = {used: Model(used=used) for used in (True, False)}
    optimizers = {
        used: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9) for used, model in models.items()
    }

    def step(used: bool, number: int) -> float:
        value = models[used](_hidden(number), TARGET)
        optimizers[used].zero_grad()
        accelerator.backward(value)
        optimizers[used].step()
        return value.item()

    try:
        models[True], optimizers[True] = accelerator.prepare(models[True], optimizers[True])
        step(True, 0)
        accelerator.save_state(str(tmp_path), safe_serialization=safe)
        expected = [step(True, number) for number in (1, 2, 3)]
        accelerator.free_memory()
        models[False], optimizers[False] = accelerator.prepare(models[False], optimizers[False])
        accelerator.load_state(str(tmp_path))
        assert [step(False, number) for number in (1, 2, 3)] == expected
        models[False].assert_restored(models[True])
    finally:
        accelerator.end_training()
        accelerate.state.AcceleratorState._reset_state(True)


# ---- averages ----


def _in_place(kept: Tensor, new: Tensor) -> None:
    kept.mul_(0.9).add_(new, alpha=0.1)


def _interpolated(kept: Tensor, new: Tensor) -> None:
    kept.lerp_(new, 0.1)


@pytest.mark.parametrize("update", [_in_place, _interpolated])
def test_an_average_of_the_state_leaves_a_loss_as_it_is(update: Any) -> None:
    model = Model(used=True)
    average = copy.deepcopy(model)
    kept = {name: value.clone() for name, value in average.state_dict().items()}
    for _ in range(3):
        for name, new in model.state_dict().items():
            update(kept[name], new) if new.is_floating_point() else kept[name].copy_(new)
    average.load_state_dict(kept)
    # an average of equal numbers, rounded thrice, is read as the number
    for name, loss in model.losses.items():
        assert_restored(average.losses[name], loss)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("use_buffers", [False, True])
def test_an_averaged_model_follows_the_state_of_a_loss(name: str, use_buffers: bool) -> None:
    class Classifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.loss = torch.nn.Linear(D, K), LOSSES[name].fresh()

        def forward(self, hidden: Tensor) -> Tensor:
            return self.loss(self.layer(hidden), TARGET)

    model = Classifier()
    averaged = swa_utils.AveragedModel(model, avg_fn=lambda kept, new, _: new, use_buffers=use_buffers)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(3):
        optimizer.zero_grad()
        model(_hidden(step)).backward()
        optimizer.step()
        averaged.update_parameters(model)
    model.eval()
    averaged.eval()
    assert spec_of(averaged.module.loss) == spec_of(model.loss)
    assert torch.equal(averaged(_hidden(9)), model(_hidden(9)))


# ---- distributed checkpoints ----


def test_a_distributed_checkpoint_keeps_a_model(tmp_path: Path) -> None:
    used, fresh = Model(used=True), Model(used=False)
    save({"model": used.state_dict()}, checkpoint_id=str(tmp_path / "checkpoint"), no_dist=True)
    state = {"model": fresh.state_dict()}
    load(state, checkpoint_id=str(tmp_path / "checkpoint"), no_dist=True)
    fresh.load_state_dict(state["model"])
    fresh.assert_restored(used)


def test_the_state_of_model_and_optimizer_together_goes_through_a_distributed_checkpoint(
    tmp_path: Path,
) -> None:
    used, fresh = Model(used=True), Model(used=False)
    optimizers = [torch.optim.AdamW(model.parameters()) for model in (used, fresh)]
    used(_hidden(0), TARGET).backward()
    optimizers[0].step()
    parts: list[dict[str, Any]] = [
        dict(zip(("model", "optimizer"), get_state_dict(*pair), strict=True))
        for pair in zip((used, fresh), optimizers, strict=True)
    ]
    save(parts[0], checkpoint_id=str(tmp_path / "checkpoint"), no_dist=True)
    load(parts[1], checkpoint_id=str(tmp_path / "checkpoint"), no_dist=True)
    set_state_dict(
        fresh, optimizers[1], model_state_dict=parts[1]["model"], optim_state_dict=parts[1]["optimizer"]
    )
    fresh.assert_restored(used)


# ---- what each of them takes for granted ----


def test_counts_that_others_write_into_the_buffer_change_the_loss() -> None:
    loss = slt.GradientBalancedLoss(K).eval()
    before = loss(LOGITS, TARGET)
    loss.counts.copy_(torch.tensor([90, 40, 9, 1]))
    assert torch.equal(loss(LOGITS, TARGET), slt.cross_entropy(LOGITS, TARGET, loss.spec))
    assert not torch.equal(loss(LOGITS, TARGET), before)
