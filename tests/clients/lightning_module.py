"""A Lightning module with a balancing loss among its members, and the same program on one process or on two.

``python -m tests.clients.lightning_module FOLDER`` under torchrun trains on two processes, saves, resumes,
and writes ``rank<r>.pt``.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import softmax_lab as sl
import softmax_lab.torch as slt

lightning = pytest.importorskip("lightning", reason="needs lightning")
environments = pytest.importorskip("lightning.pytorch.plugins.environments", reason="needs lightning")
LightningModule: Any = lightning.LightningModule

K, D, ROWS, BATCH = 4, 3, 48, 8


class Classifier(LightningModule):  # type: ignore[misc]
    """A linear layer and a loss that gathers its counts; every epoch ends with a look at held-out rows."""

    def __init__(self, eps: float = 0.05) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(D, K, dtype=torch.float64)
        self.loss = slt.GradientBalancedLoss(K, eps=eps)

    def training_step(self, rows: list[Tensor], _: int) -> Tensor:
        hidden, target = rows
        value: Tensor = self.loss(self.layer(hidden), target)
        return value

    def on_train_epoch_end(self) -> None:
        hidden, target = data(1)
        self.loss.observe(self.layer(hidden), target)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


class WithSpec(LightningModule):  # type: ignore[misc]
    """A spec is among the hyperparameters that its checkpoint holds."""

    def __init__(self, spec: sl.LossSpec) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer, self.loss = torch.nn.Linear(D, K, dtype=torch.float64), slt.SoftmaxLoss(spec)

    def training_step(self, rows: list[Tensor], _: int) -> Tensor:
        hidden, target = rows
        value: Tensor = self.loss(self.layer(hidden), target)
        return value

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def data(seed: int) -> tuple[Tensor, Tensor]:
    """Return hidden rows and long-tailed labels."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(ROWS, D, generator=generator, dtype=torch.float64)
    return hidden, torch.multinomial(
        torch.tensor([0.6, 0.25, 0.1, 0.05]), ROWS, replacement=True, generator=generator
    )


def loader(ranks: int, rank: int) -> DataLoader[tuple[Tensor, ...]]:
    """Return batches of ``BATCH`` rows over all processes, the same whatever their number."""
    dataset = TensorDataset(*data(0))
    sampler: DistributedSampler[tuple[Tensor, ...]] = DistributedSampler(dataset, ranks, rank, shuffle=False)
    return DataLoader(dataset, BATCH // ranks, sampler=sampler)


def fit(
    module: Any, folder: Path, epochs: int, *, ranks: int = 1, rank: int = 0, checkpoint: Path | None = None
) -> Any:
    """Train up to an epoch, from the start or from a checkpoint; return the trainer."""
    trainer = lightning.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        devices=ranks,
        strategy="ddp" if ranks > 1 else "auto",
        plugins=[environments.TorchElasticEnvironment()] if ranks > 1 else None,
        max_epochs=epochs,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader(ranks, rank), ckpt_path=checkpoint, weights_only=True if checkpoint else None)
    return trainer


def seeded() -> Classifier:
    """Return the module, the same at every call."""
    torch.manual_seed(0)
    return Classifier()


def interrupted(folder: Path, **where: Any) -> tuple[Classifier, Classifier]:
    """Return what four epochs give, at one go and with a checkpoint after two."""
    whole, first, second = seeded(), seeded(), Classifier()
    fit(whole, folder, 4, **where)
    trainer = fit(first, folder, 2, **where)
    trainer.save_checkpoint(folder / "half-way.ckpt")
    fit(second, folder, 4, **where, checkpoint=folder / "half-way.ckpt")
    return whole, second


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    rank = int(os.environ["RANK"])
    whole, resumed = interrupted(folder, ranks=int(os.environ["WORLD_SIZE"]), rank=rank)
    torch.save([module.state_dict() for module in (whole, resumed)], folder / f"rank{rank}.pt")


if __name__ == "__main__":
    main()
