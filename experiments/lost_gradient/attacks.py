"""How robust does a network look to an attack that raises a loss? It depends on the loss's gradient.

PGD (Madry et al. 2018) takes steps along the sign of the gradient by the image. Logits that are scaled up, or
that defensive distillation has made large, leave float32's cross-entropy without a correct sign: the network
looks robust, and is not (Carlini and Wagner 2017, "Towards Evaluating the Robustness of Neural Networks";
Croce and Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", who propose DLR).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from experiments.modular_addition.losses import LOSSES

from .networks import SEEDS, Recipe, Rows, digits, distilled, gaps, plain
from .store import Table

__all__ = ["EPSILON", "OBJECTIVES", "SCALES", "TABLE", "TEMPERATURES", "gradient", "jobs", "pgd", "work"]

TABLE = Table(
    "attacks",
    ("network", "seed", "epsilon", "steps"),
    ("factor", "objective"),
    ("clean", "robust", "wrong_sign", "zero_rows", "gap"),
)
SCALES = (1, 2, 4, 8, 16, 32, 64)
TEMPERATURES = (10, 30, 100)
EPSILON, STEPS = 0.1, 20  # of pixels in [0, 1]

Objective = Callable[[Tensor, Tensor], Tensor]


def of_rows(name: str) -> Objective:
    """Return a loss of the registry, a value a row (N,), of logits (N, K) and labels (N,)."""

    def rows(logits: Tensor, labels: Tensor) -> Tensor:
        # a row is a model with one row: the log of the mean is then the log of the row's loss
        return LOSSES[name].loss(logits[:, None], labels[:, None])

    return rows


def carlini_wagner(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the largest other logit less z_y."""
    return -gaps(logits, labels)


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the difference of logits ratio: (max of the others - z_y) / (largest - third largest)."""
    ranked = logits.sort(-1, descending=True).values
    return carlini_wagner(logits, labels) / (ranked[:, 0] - ranked[:, 2] + 1e-12)


#: what an attack raises: losses of the registry, whose gradients all have one sign, and two others
CROSS_ENTROPIES = ("torch", "torch_float64", "mended", "exact", "log_mean")
OBJECTIVES: dict[str, Objective] = {
    **{name: of_rows(name) for name in CROSS_ENTROPIES},
    "carlini_wagner": carlini_wagner,
    "dlr": dlr,
}


class Scaled(nn.Module):
    """A network with its logits times a factor."""

    def __init__(self, network: nn.Module, factor: float) -> None:
        super().__init__()
        self.network, self.factor = network, factor

    def forward(self, images: Tensor) -> Tensor:
        """Return the scaled logits."""
        logits: Tensor = self.network(images)
        return self.factor * logits


def gradient(network: nn.Module, objective: Objective, images: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient (N, 64) of each row's own value by its image."""
    own = images.detach().requires_grad_()
    (found,) = torch.autograd.grad(objective(network(own), labels).sum(), own)
    return found


def pgd(
    network: nn.Module,
    objective: Objective,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    steps: int,
    seed: int = 0,
) -> Tensor:
    """Return images (N, 64) in [0, 1], no pixel farther than epsilon, after steps of 2.5 epsilon / steps.

    The start is drawn evenly from what is allowed.
    """
    random = torch.Generator().manual_seed(seed)
    low, high = (images - epsilon).clamp_min(0.0), (images + epsilon).clamp_max(1.0)
    found = low + (high - low) * torch.rand(images.shape, generator=random)
    for _ in range(steps):
        sign = gradient(network, objective, found, labels).sign()
        found = (found + 2.5 * epsilon / steps * sign).clamp(low, high)
    return found


def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share of rows whose largest logit is the label's."""
    with torch.no_grad():
        return float((network(images).argmax(-1) == labels).double().mean())


def true_sign(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the sign of the cross-entropy's gradient by the images (N, 64): its log's, all in float64."""
    network.double()
    sign = gradient(network, OBJECTIVES["log_mean"], images.double(), labels).sign().float()
    network.float()
    return sign


def measure(
    network: nn.Module, data: Rows, seed: int, *, epsilon: float = EPSILON, steps: int = STEPS
) -> Iterator[dict[str, Any]]:
    """Yield a row an objective: accuracy on the test rows before and after the attack, and its gradients.

    ``wrong_sign`` is the share of the entries of the test rows' gradients that have not the sign of the
    cross-entropy's, 0 among them, and ``zero_rows`` that of the rows without any gradient. For the two
    objectives that are not the cross-entropy the first is left out.
    """
    images, labels = data.test_images, data.test_labels
    truth = true_sign(network, images, labels)
    with torch.no_grad():
        gap = float(gaps(network(images).double(), labels).median())
    clean = accuracy(network, images, labels)
    for name, objective in OBJECTIVES.items():
        sign = gradient(network, objective, images, labels).sign()
        wrong = float((sign != truth).double().mean()) if name in CROSS_ENTROPIES else float("nan")
        attacked = pgd(network, objective, images, labels, epsilon=epsilon, steps=steps, seed=seed)
        yield {
            "objective": name,
            "clean": clean,
            "robust": accuracy(network, attacked, labels),
            "wrong_sign": wrong,
            "zero_rows": float((sign == 0).all(-1).double().mean()),
            "gap": gap,
        }


def jobs() -> list[dict[str, Any]]:
    """Return the jobs: of each seed the network with scaled logits, and the distilled ones."""
    return [
        {"network": network, "seed": seed, "epsilon": EPSILON, "steps": STEPS}
        for seed in SEEDS
        for network in ("scaled", "distilled")
    ]


def work(job: Mapping[str, Any], recipe: Recipe | None = None) -> Iterator[dict[str, Any]]:
    """Run a job: train, and attack at each factor (the scale, or the temperature of the distillation)."""
    seed, data, recipe = job["seed"], digits(job["seed"]), recipe or Recipe()
    if job["network"] == "scaled":
        trained = plain(data, recipe, seed)
        networks = {factor: Scaled(trained, float(factor)) for factor in SCALES}
    else:
        networks = {
            factor: Scaled(distilled(data, recipe, seed, float(factor)), 1.0) for factor in TEMPERATURES
        }
    for factor, network in networks.items():
        for row in measure(network, data, seed, epsilon=job["epsilon"], steps=job["steps"]):
            yield {"factor": factor, **row}
