r"""What a run is: the data set, the network, how it is trained, the loss and the seed.

A `Config` says all of it. There are four protocols:

- ``mlp``: a layer of 256 units on fixed features: the pixels of digits; of CIFAR those of Coates, Ng and Lee
  (2011). It memorises its rows.
- ``convnet``, ``convnet_augmented``: three blocks of convolution, batch normalisation and pooling, on images
  as they are, or shifted and mirrored.
- ``resnet32``: the network of He et al. (2016) for 200 epochs, which wants a GPU.

A loss's hyper-parameters are chosen by a rule, which a run carries. ``repeated splits`` is today's, in
`experiments.long_tail.grid`. Rows of ``two splits`` are older: four settings a loss, of which two splits of
the training rows chose, and on digits at rho = 100 no row of the rarest class had been held out.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from .losses import LOSSES

__all__ = ["DATASETS", "OLD_RULE", "PROTOCOLS", "RULE", "Config", "Protocol"]


RULE, OLD_RULE = "repeated splits", "two splits"
DATASETS = ("digits", "cifar10", "cifar10-jpeg", "cifar100", "cifar100-jpeg")


@dataclass(frozen=True)
class Protocol:
    """How a network is trained: SGD with Nesterov momentum 0.9."""

    network: str
    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    warm_up: int = 0  # epochs
    # shares of training after which the rate is a hundredth of before; none: along a cosine to 0
    decay_at: tuple[float, ...] = ()
    augment: bool = False


PROTOCOLS: dict[str, dict[str, Protocol]] = {
    "digits": {
        "mlp": Protocol("mlp", 200, 32, 0.05, 1e-4),
        "convnet": Protocol("convnet", 100, 32, 0.05, 5e-4),
        "convnet_augmented": Protocol("convnet", 100, 32, 0.05, 5e-4, augment=True),
    },
    "cifar": {
        "mlp": Protocol("mlp", 60, 128, 0.02, 5e-4),
        "convnet": Protocol("convnet", 20, 128, 0.05, 5e-4),
        "convnet_augmented": Protocol("convnet", 20, 128, 0.05, 5e-4, augment=True),
        "resnet32": Protocol("resnet32", 200, 128, 0.1, 2e-4, warm_up=5, decay_at=(0.8, 0.9), augment=True),
    },
}


@dataclass(frozen=True)
class Config:
    """One run. Equal configurations are the same run, and have the same key."""

    dataset: str = "digits"
    protocol: str = "mlp"
    rho: float = 100.0
    loss: str = "plain"
    seed: int = 0
    settings: tuple[tuple[str, float], ...] = ()  # of the loss, sorted by name
    part: str = "final"  # or "tune"
    noise: float = 0.0  # share of the training rows whose label is one of the others
    absent: int = 0  # of the rarest classes, how many have no training row
    permuted: bool = False  # which class is how frequent is drawn from the seed
    epochs: int = 0  # 0: the protocol's
    rule: str = RULE  # how its hyper-parameters are chosen

    def __post_init__(self) -> None:
        if self.dataset not in DATASETS:
            raise ValueError(f"dataset must be one of {', '.join(DATASETS)}; got {self.dataset!r}")
        if self.protocol not in PROTOCOLS[self.family]:
            raise ValueError(
                f"protocol of {self.dataset} must be one of {', '.join(PROTOCOLS[self.family])}; got "
                f"{self.protocol!r}"
            )
        if self.loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}; got {self.loss!r}")
        if self.part not in ("tune", "final"):
            raise ValueError(f"part must be 'tune' or 'final'; got {self.part!r}")
        if self.rule not in (RULE, OLD_RULE):
            raise ValueError(f"rule must be {RULE!r} or {OLD_RULE!r}; got {self.rule!r}")

    @property
    def family(self) -> str:
        return self.dataset.split("1")[0]

    @property
    def how(self) -> Protocol:
        return PROTOCOLS[self.family][self.protocol]

    @property
    def length(self) -> int:
        """Epochs."""
        return self.epochs or self.how.epochs

    @property
    def key(self) -> str:
        """A checksum of the configuration and of its protocol: a change of either is another run."""
        fields = asdict(self)
        if self.rule == OLD_RULE:  # its rows were stored before there was another
            del fields["rule"]
        text = json.dumps([fields, asdict(self.how)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
