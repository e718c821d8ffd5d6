"""What a run is."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.long_tail import LOSSES as KNOWN

__all__ = ["LOSSES", "SEEDS", "Config"]

#: in the order in which they are run, with the settings that the package gives them
LOSSES = ("plain", "logit_adjusted", "gradient_balanced", "balanced_softmax", "vs", "ldam_drw")
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Config:
    """One run."""

    loss: str
    seed: int
    epochs: int = 200
    rho: float = 100.0
    batch: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 2e-4
    warm_up: int = 5  # epochs

    def __post_init__(self) -> None:
        if self.loss not in KNOWN:
            raise ValueError(f"loss must be one of {', '.join(KNOWN)}; got {self.loss!r}")

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0."""
        warm = min(1.0, (epoch + 1) / self.warm_up)
        return self.learning_rate * warm * 0.01 ** sum(epoch >= share * self.epochs for share in (0.8, 0.9))

    @property
    def evaluated(self) -> list[int]:
        """The numbers of epochs after which the test images are looked at: about 20, the last among them."""
        every = max(1, self.epochs // 20)
        return sorted({*range(every, self.epochs, every), self.epochs})
