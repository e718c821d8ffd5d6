"""Lightning with the gradient-balancing loss, which gathers its counts, and the monitor that watches it.

python examples/lightning_long_tail.py
"""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import softmax_lab as sl
import softmax_lab.torch as slt


class Classifier(lightning.LightningModule):  # type: ignore[misc]
    """Two layers and a loss, which is a member as they are: checkpoints hold its counts."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, num_classes))
        self.loss = slt.GradientBalancedLoss(num_classes)
        self.monitor: slt.GradientMonitor | None = None

    def on_fit_start(self) -> None:
        self.monitor = slt.GradientMonitor(self, every=1)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        images, labels = batch
        value: Tensor = self.loss(self.layers(images), labels)
        self.log("loss", value)
        return value

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(epochs: int = 20) -> tuple[list[float], Any]:
    """Return the accuracy of each class on balanced rows, and the monitor's frame."""
    lightning.seed_everything(0, verbose=False)
    images, labels = sl.data.digits()
    split = sl.data.long_tail(labels, rho=50.0, test_per_class=40)
    x, y = torch.from_numpy(images).float(), torch.from_numpy(labels)
    loader = DataLoader(TensorDataset(x[split.train], y[split.train]), batch_size=32, shuffle=True)

    module = Classifier()
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader)

    with torch.no_grad():
        right = (module.layers(x[split.test]).argmax(1) == y[split.test]).double()
    accuracy = [right[y[split.test] == c].mean().item() for c in range(10)]
    assert module.monitor is not None
    frame = module.monitor.frame()
    module.monitor.close()
    print("training rows", split.counts.tolist())
    print("accuracy     ", [round(each, 2) for each in accuracy])
    last = frame[frame["step"] == frame["step"].max()]
    print(
        "pull up / push down in the last step",
        (last["positive_mass"] / last["negative_mass"]).round(2).tolist(),
    )
    return accuracy, frame


if __name__ == "__main__":
    main()
