"""Transformers: a GPT-2 trained by hand and by its Trainer.

This package's losses stand in place of torch's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import softmax_lab.torch as slt
from tests.clients import gpt2
from tests.clients.losses import LOSSES, D, K, assert_restored

transformers = pytest.importorskip("transformers", reason="needs transformers")
PretrainedConfig: Any = transformers.PretrainedConfig
PreTrainedModel: Any = transformers.PreTrainedModel

STEPS = 20


@pytest.fixture(scope="module")
def torch_losses() -> list[float]:
    return gpt2.train(gpt2.TORCH, STEPS)


@pytest.mark.parametrize("name", gpt2.OURS)
def test_a_training_has_the_losses_of_torch(name: str, torch_losses: list[float]) -> None:
    # float32: a rounding of the gradients, 6e-8, that twenty steps of AdamW carry on
    assert gpt2.train(gpt2.OURS[name], STEPS) == pytest.approx(torch_losses, rel=1e-4)
    assert torch_losses[-1] < torch_losses[0] - 0.5


def test_the_models_own_loss_takes_the_drop_in_in_place_of_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    ids, labels = gpt2.batch(0)
    expected = gpt2.tiny_gpt2()(input_ids=ids, labels=labels).loss
    calls = []

    def counted(*args: Any, **kwargs: Any) -> Tensor:
        calls.append(args)
        return slt.functional.cross_entropy(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", counted)
    found = gpt2.tiny_gpt2()(input_ids=ids, labels=labels).loss
    assert len(calls) == 1
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_what_the_drop_in_leaves_to_torch_does_not_come_back_to_it_when_it_stands_in_torchs_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    functional = torch.nn.functional
    for name in ("cross_entropy", "softmax", "log_softmax"):
        monkeypatch.setattr(functional, name, getattr(slt.functional, name))
    nothing = torch.zeros(0, 4)  # has no kernel
    assert torch.isnan(functional.cross_entropy(nothing, torch.zeros(0, dtype=torch.int64)))
    assert functional.softmax(nothing, dim=1).shape == functional.log_softmax(nothing, dim=1).shape == (0, 4)
    with pytest.raises(RuntimeError, match="not implemented for 'Long'"):
        functional.softmax(torch.zeros(2, 4, dtype=torch.int64), dim=1)


# ---- the Trainer ----


def _dataset() -> list[dict[str, Tensor]]:
    rows = (gpt2.batch(step) for step in range(4))
    return [{"input_ids": i, "labels": y} for ids, labels in rows for i, y in zip(ids, labels, strict=True)]


def _trained(
    folder: Path, compute_loss_func: Callable[..., Tensor] | None, **options: Any
) -> tuple[list[float], list[float]]:
    """Return the losses and the gradients' norms of a few steps of two micro-batches each."""
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=6,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        **options,
    )
    trainer = transformers.Trainer(
        gpt2.tiny_gpt2(), arguments, train_dataset=_dataset(), compute_loss_func=compute_loss_func
    )
    trainer.train()
    steps = [entry for entry in trainer.state.log_history if "grad_norm" in entry]
    return [entry["loss"] for entry in steps], [float(entry["grad_norm"]) for entry in steps]


def _summed(cross_entropy: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the loss of all tokens over the number of those that the accumulated batch has.

    The Trainer asks for that.
    """

    def compute_loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor) -> Tensor:
        rows, target = outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
        return cross_entropy(rows, target, reduction="sum") / num_items_in_batch

    return compute_loss


#: bfloat16 keeps 8 bits: a gradient's rounding of 2^-9 moves the following steps by a little less
TOLERANCES = {"float32": 1e-4, "bfloat16": 2e-2}


@pytest.mark.parametrize("precision", TOLERANCES)
def test_the_trainer_accumulates_over_micro_batches_what_its_own_loss_does(
    tmp_path: Path, precision: str
) -> None:
    bf16 = precision == "bfloat16"
    losses, norms = _trained(tmp_path, None, bf16=bf16)
    assert len(losses) == 6
    for cross_entropy in (slt.functional.cross_entropy, slt.cross_entropy):
        found_losses, found_norms = _trained(tmp_path, _summed(cross_entropy), bf16=bf16)
        assert found_losses == pytest.approx(losses, rel=TOLERANCES[precision])
        assert found_norms == pytest.approx(norms, rel=TOLERANCES[precision])


# ---- save_pretrained ----


class Config(PretrainedConfig):  # type: ignore[misc]
    """Of a model with a loss among its members."""

    model_type = "with-a-loss"

    def __init__(self, loss: str = "SoftmaxLoss", **options: Any) -> None:
        self.loss = loss
        super().__init__(**options)


class Classifier(PreTrainedModel):  # type: ignore[misc]
    """A linear layer, and a fresh loss."""

    config_class = Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.layer, self.loss = torch.nn.Linear(D, K), LOSSES[config.loss].fresh()
        self.post_init()


@pytest.mark.parametrize("name", LOSSES)
def test_save_pretrained_keeps_a_loss(tmp_path: Path, name: str) -> None:
    model = Classifier(Config(loss=name))
    model.loss = LOSSES[name].used()
    model.save_pretrained(tmp_path)
    again, report = Classifier.from_pretrained(tmp_path, output_loading_info=True)
    assert {kind: found for kind, found in report.items() if found} == {}
    assert torch.equal(again.layer.weight, model.layer.weight)
    assert_restored(again.loss, model.loss)
