"""How the task is set: the prime, the share of pairs to train on, the network, and how long."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BETAS", "EPS", "PROTOCOLS", "Protocol"]

BETAS = (0.9, 0.99)
EPS = 1e-30  # Adam's usual 1e-8 hides small gradients from the step


@dataclass(frozen=True)
class Protocol:
    """A multilayer perceptron p -> width -> width -> p in full batches by AdamW.

    ``share`` of all p^2 pairs is trained on. ``rates`` are tried on ``tuning_seeds``; the ``final_seeds`` see
    the chosen one alone.
    """

    name: str
    p: int
    share: float
    width: int
    steps: int
    rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    tuning_seeds: tuple[int, ...] = (100, 101, 102)
    final_seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    @property
    def evaluations(self) -> list[int]:
        """The steps after which a model is looked at: dense at first, about 35, the last step among them."""
        unit = max(1, self.steps // 160)
        places = [*range(1, 10), *range(10, 20, 2), *range(20, 40, 4), *range(40, 161, 8)]
        return sorted({*(unit * place for place in places if unit * place < self.steps), self.steps})


PROTOCOLS = {
    # a small one for a control that a processor can run: the same share, and a quarter of the pairs
    "p31": Protocol("p31", 31, 0.8, 64, 3_000),
    "p59": Protocol("p59", 59, 0.8, 128, 8_000),
    # the prime, the width and the length of Prieto et al. (2025), who train on 40, 60 and 70 %
    "p113": Protocol("p113", 113, 0.4, 200, 20_000),
}
