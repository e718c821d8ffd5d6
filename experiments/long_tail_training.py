r"""One training run on long-tailed data: the rows, the network, the loss and what is measured (chapter 9).

A `Config` says all of it. For one seed every loss starts from the same weights and sees the same rows in the
same order, and what a larger rho trains on is a subset of what a smaller one does: differences between losses
are paired. Four protocols:

- ``mlp``: a layer of 256 units on fixed features: the pixels of digits; of CIFAR those of Coates and Ng
  (2011). It memorises its rows.
- ``convnet``, ``convnet_augmented``: three blocks of convolution, batch normalisation and pooling, on images
  as they are, or shifted and mirrored.
- ``resnet32``: the network of He et al. (2016) for 200 epochs, which wants a GPU.

Convolutions multiply in bfloat16 (the weights, the classifier, the loss and the optimiser stay in float32) on
every device.

The rows of the part ``tune`` are split off the *training* rows: hyper-parameters are chosen there, and the
test rows are seen by the part ``final`` alone.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import softmax_lab as sl
import softmax_lab.torch as slt
from experiments import calibration
from softmax_lab import data
from softmax_lab.data.cifar import cache_folder

__all__ = [
    "DATASETS",
    "LOSSES",
    "PROTOCOLS",
    "Config",
    "Problem",
    "Protocol",
    "coates_ng_features",
    "load",
    "make_loss",
    "make_network",
    "make_problem",
    "measure",
    "prepare",
    "run",
    "train",
]

Array = NDArray[Any]
Loss = nn.Module

DATASETS = ("digits", "cifar10", "cifar10-jpeg", "cifar100", "cifar100-jpeg")
DIGITS_TEST = 74  # rows of each class of the digits: what 100 training rows leave of the smallest class
HELD_OUT = 0.2  # share of each class's training rows that the part "tune" is measured on
STEERING = 0.1  # share that a loss with a controller holds out of its own training rows


# ---- what a run is ----


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
        text = json.dumps([asdict(self), asdict(self.how)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


# ---- losses ----


class Context(NamedTuple):
    """What a loss may know: the (noisy) training counts, and how long training takes."""

    counts: NDArray[np.int64]
    epochs: int


def _fixed(name: str) -> Callable[..., Loss]:
    """Return the maker of a registered loss."""
    factory, needs_counts = sl.losses.REGISTRY[name], name not in ("plain", "focal", "label_smoothing")
    return lambda context, **settings: slt.SoftmaxLoss(
        factory(*([context.counts] if needs_counts else []), **settings)
    )


def _weighted(context: Context, power: float = 1.0) -> Loss:
    """Weights (n_max / n)^power; a class without samples counts as one."""
    n = np.maximum(context.counts, 1)
    return slt.SoftmaxLoss(sl.losses.weighted((n.max() / n) ** power))


def _deferred(
    name: str, context: Context, beta: float = 0.9999, start: float = 0.8, **settings: float
) -> Loss:
    """A registered loss, and class-balanced weights after a share ``start`` of training."""
    spec = sl.losses.plain() if name == "plain" else sl.losses.REGISTRY[name](context.counts, **settings)
    weight = sl.losses.class_balanced(context.counts, beta).class_weight
    return slt.DeferredReweighting(spec, weight, start=round(start * context.epochs))


LOSSES: dict[str, Callable[..., Loss]] = {
    **{name: _fixed(name) for name in sl.losses.REGISTRY},
    "weighted": _weighted,
    "plain_drw": partial(_deferred, "plain"),
    "ldam_drw": partial(_deferred, "ldam"),
    "balanced_softmax_drw": partial(_deferred, "balanced_softmax"),
    "seesaw_online": lambda context, **settings: slt.SeesawLoss(len(context.counts), **settings),
    "gradient_balanced_smoothed": lambda context, eps=0.05, **settings: _fixed("gradient_balanced")(
        context, eps=eps, **settings
    ),
    "gradient_balanced_gathered": lambda context, **settings: slt.GradientBalancedLoss(
        len(context.counts), **settings
    ),
    "gradient_balanced_steered": lambda context, **settings: slt.GradientBalancedLoss(
        context.counts, **settings
    ),
}
COSINE = ("ldam", "ldam_drw")  # their margins are meant for logits in [-1, 1]
STEERED = ("gradient_balanced_steered",)  # observe held-out rows after each epoch


def make_loss(name: str, context: Context, settings: tuple[tuple[str, float], ...] = ()) -> Loss:
    """Return a loss by its name."""
    return LOSSES[name](context, **dict(settings))


# ---- rows ----


class Problem(NamedTuple):
    """Inputs and labels: to train on, to steer by (empty but for a loss with a controller), and to measure
    on.

    Inputs are uint8 images ``(N, H, W, C)`` or float features ``(N, D)``. ``rank`` is each class's place by
    frequency, 0 the most frequent.
    """

    train: tuple[Array, NDArray[np.int64]]
    steer: tuple[Array, NDArray[np.int64]]
    test: tuple[Array, NDArray[np.int64]]
    counts: NDArray[np.int64]
    rank: NDArray[np.int64]


class _Source(NamedTuple):
    """A whole set: rows to draw from, and where it has one, its own test set."""

    inputs: Array
    labels: NDArray[np.int64]
    test_inputs: Array | None
    test_labels: NDArray[np.int64] | None


@cache
def load(dataset: str, path: str | None) -> _Source:
    """Return the images of a set; ``path`` is CIFAR's archive or folder."""
    if dataset == "digits":
        images, labels = data.digits()
        return _Source(np.rint(images * 16).astype(np.uint8).reshape(-1, 8, 8, 1) * 15, labels, None, None)
    if path is None:
        raise ValueError(
            f"{dataset} is read from its binary archive or a folder of images: say where, with --data PATH"
        )
    found = (data.cifar100 if dataset.startswith("cifar100") else data.cifar10)(path, progress=False)
    if found.lossy != dataset.endswith("-jpeg"):
        kind = "JPEG files: call the set" if found.lossy else "lossless images: call the set"
        raise ValueError(
            f"{path} holds {kind} {dataset.split('-')[0]}{'-jpeg' if found.lossy else ''}; got dataset "
            f"{dataset}"
        )
    return _Source(found.train_images, found.train_labels, found.test_images, found.test_labels)


@cache
def _inputs(dataset: str, path: str | None, protocol: str) -> _Source:
    """Return a set as a protocol takes it in."""
    source = load(dataset, path)
    if PROTOCOLS[dataset.split("1")[0]][protocol].network != "mlp":
        return source
    if dataset == "digits":
        return source._replace(inputs=source.inputs.reshape(len(source.inputs), -1).astype(np.float32))
    assert source.test_inputs is not None
    train, test = _kept_features(source.inputs, source.test_inputs)
    return source._replace(inputs=train, test_inputs=test)


def prepare(config: Config, path: str | None) -> None:
    """Compute what runs share and find in the cache, before many processes look for it at once."""
    _inputs(config.dataset, path, config.protocol)


def make_problem(config: Config, path: str | None = None) -> Problem:
    """Draw the rows of a run. For one seed they do not depend on the loss, but for what a controller holds
    out.
    """
    source = _inputs(config.dataset, path, config.protocol)
    classes = int(source.labels.max()) + 1
    rng = np.random.default_rng([config.seed, 17])
    order = rng.permutation(classes) if config.permuted else np.arange(classes)
    digits = config.dataset == "digits"
    n_max = 100 if digits else None  # divides by 10 and by 100: the ratio of the counts is exactly rho
    drawn = data.long_tail(
        source.labels,
        config.rho,
        seed=config.seed,
        test_per_class=DIGITS_TEST if digits else 0,
        order=order,
        n_max=n_max,
    )
    rank = np.argsort(order)
    rows = drawn.train[rank[source.labels[drawn.train]] < classes - config.absent]
    test = (source.inputs, source.labels, drawn.test)
    if not digits:
        assert source.test_inputs is not None
        assert source.test_labels is not None
        test = (source.test_inputs, source.test_labels, np.arange(len(source.test_labels)))
    if config.part == "tune":
        rows, held = _split(rows, source.labels, HELD_OUT, config.seed)
        test = (source.inputs, source.labels, held)
    steer = rows[:0]
    if config.loss in STEERED:
        rows, steer = _split(rows, source.labels, STEERING, config.seed + 1)
    labels = _noisy(source.labels[rows], classes, config.noise, rng)
    return Problem(
        train=(source.inputs[rows], labels),
        steer=(source.inputs[steer], source.labels[steer]),
        test=(test[0][test[2]], test[1][test[2]]),
        counts=np.bincount(labels, minlength=classes),
        rank=rank,
    )


def _split(
    rows: NDArray[np.int64], labels: NDArray[np.int64], share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hold out a share of each class's rows: at least one of a class that has two or more, and never all."""
    kept, held = [], []
    for c in np.unique(labels[rows]):
        own = np.random.default_rng([seed, 23, int(c)]).permutation(rows[labels[rows] == c])
        cut = min(max(round(share * len(own)), 1), len(own) - 1)
        held.append(own[:cut])
        kept.append(own[cut:])
    return np.sort(np.concatenate(kept)), np.sort(np.concatenate(held))


def _noisy(
    labels: NDArray[np.int64], classes: int, share: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Give a share of the rows one of the other labels, each as likely."""
    wrong = rng.random(len(labels)) < share
    return np.where(wrong, (labels + rng.integers(1, classes, len(labels))) % classes, labels)


# ---- the features of Coates and Ng ----


def _kept_features(train: Array, test: Array) -> tuple[Array, Array]:
    """Return the features of both parts, from the cache where they are: files of their own, that processes
    can share.
    """
    key = hashlib.sha256(train.tobytes() + test.tobytes()).hexdigest()[:32]
    files = [cache_folder() / f"coates-ng-{key}-{part}.npy" for part in ("train", "test")]
    if not all(file.is_file() for file in files):
        centroids, whiten = _dictionary(torch.from_numpy(train))
        for file, images in zip(files, (train, test), strict=True):
            _write_array(file, coates_ng_features(images, centroids, whiten))
    kept, other = (np.load(file, mmap_mode="r") for file in files)
    return kept, other


def _write_array(file: Path, array: Array) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial_ = file.with_suffix(f".{os.getpid()}.partial")
    with partial_.open("wb") as target:
        np.save(target, array)
        target.flush()
        os.fsync(target.fileno())
    partial_.replace(file)


PATCH, CENTROIDS = 6, 400


def _patches(images: Tensor) -> Tensor:
    """Return normalised patches (N, L, D) of images (N, H, W, C)."""
    planes = images.permute(0, 3, 1, 2).float()
    patches = nn.functional.unfold(planes, PATCH).transpose(1, 2)
    centred: Tensor = patches - patches.mean(2, keepdim=True)
    return centred / (centred.var(2, keepdim=True) + 10.0).sqrt()


def _dictionary(
    images: Tensor, *, samples: int = 100_000, seed: int = 0
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Learn centroids (M, D) of whitened patches by ten rounds of k-means, and the whitening.

    Labels are not looked at.
    """
    random = torch.Generator().manual_seed(seed)
    chosen = images[torch.randperm(len(images), generator=random)[: max(samples // 100, 1)]]
    patches = torch.cat([_patches(part)[:, ::7] for part in chosen.split(100)]).flatten(0, 1)
    patches = patches[torch.randperm(len(patches), generator=random)[:samples]]
    mean = patches.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov(patches.T))
    whiten = vectors @ torch.diag((values.clamp(min=0.0) + 0.1).rsqrt()) @ vectors.T
    white = (patches - mean) @ whiten
    centroids = white[torch.randperm(len(white), generator=random)[:CENTROIDS]].clone()
    for _ in range(10):
        nearest = (white @ centroids.T - centroids.square().sum(1) / 2).argmax(1)
        total = torch.zeros_like(centroids).index_add_(0, nearest, white)
        count = torch.bincount(nearest, minlength=len(centroids))[:, None]
        centroids = torch.where(count > 0, total / count.clamp(min=1), centroids)
    return centroids, (mean, whiten)


@torch.no_grad()
def coates_ng_features(
    images: Array, centroids: Tensor, whitening: tuple[Tensor, Tensor], *, batch: int = 100
) -> Array:
    """Return features ``(N, 4 M)`` as float16: how much nearer than the mean each centroid is, summed over
    the quadrants.

    References
    ----------
    A. Coates, A. Y. Ng and H. Lee, "An analysis of single-layer networks in unsupervised feature learning",
    AISTATS 2011.
    """
    mean, whiten = whitening
    parts = []
    for part in torch.from_numpy(np.ascontiguousarray(images)).split(batch):
        white = (_patches(part) - mean) @ whiten
        distance = torch.cdist(white, centroids[None])  # (n, L, M)
        near = (distance.mean(2, keepdim=True) - distance).clamp(min=0.0)
        side = math.isqrt(near.shape[1])
        maps = near.transpose(1, 2).unflatten(2, (side, side))
        half = -(-side // 2)
        quadrants = [
            maps[:, :, rows, columns].sum((2, 3))
            for rows in (slice(half), slice(half, None))
            for columns in (slice(half), slice(half, None))
        ]
        parts.append(torch.cat(quadrants, 1).half())
    return np.asarray(torch.cat(parts).numpy())


# ---- networks ----


class CosineLinear(nn.Module):
    """Logits that are cosines, in [-1, 1]."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, inputs) / math.sqrt(inputs))

    def forward(self, hidden: Tensor) -> Tensor:
        return nn.functional.normalize(hidden) @ nn.functional.normalize(self.weight).T


class _Block(nn.Module):
    """Two convolutions and a shortcut without parameters: every other pixel, and zeros for the new
    channels.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stride = outputs // inputs
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, self.stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        body: Tensor = self.body(x)
        short = x[:, :, :: self.stride, :: self.stride]
        extra = body.shape[1] - x.shape[1]
        return torch.relu(body + nn.functional.pad(short, (0, 0, 0, 0, extra // 2, extra - extra // 2)))


def _convolutions(channels: int) -> tuple[list[nn.Module], int]:
    layers: list[nn.Module] = []
    for inputs, outputs in ((channels, 32), (32, 64), (64, 128)):
        # pooling first: the same numbers, and a quarter of them for the ReLU
        layers += [
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.MaxPool2d(2),
            nn.ReLU(),
        ]
    return [*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()], 128


def _resnet32(channels: int) -> tuple[list[nn.Module], int]:
    layers: list[nn.Module] = [
        nn.Conv2d(channels, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
    ]
    for inputs, outputs in ((16, 16), (16, 32), (32, 64)):
        layers += [_Block(inputs if i == 0 else outputs, outputs) for i in range(5)]
    return [*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()], 64


class Network(nn.Sequential):
    """Layers, of which the last gives the logits in float32.

    Those before it are in bfloat16 where the input is images.
    """

    def forward(self, x: Tensor) -> Tensor:
        *layers, classifier = self
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=x.ndim == 4):
            for layer in layers:
                x = layer(x)
        logits: Tensor = classifier(x.float())
        return logits


def make_network(name: str, inputs: int, classes: int, *, cosine: bool = False) -> Network:
    """Return a network; ``inputs`` is the number of features, or of colours. Draws from torch's global
    generator.
    """
    if name == "mlp":
        layers, width = [nn.Linear(inputs, 256), nn.ReLU()], 256
    else:
        layers, width = (_convolutions if name == "convnet" else _resnet32)(inputs)
    network = Network(*layers, CosineLinear(width, classes) if cosine else nn.Linear(width, classes))
    if name != "mlp":  # what convolutions want
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs
    return network


# ---- training ----


def _scaled(inputs: Array, like: Array) -> Tensor:
    """Return inputs as float32, each column or colour of mean 0 and deviation 1 over ``like``.

    Images (N, C, H, W), NHWC in memory.
    """
    axes = tuple(range(like.ndim - 1))
    wide = like.astype(np.float32)
    mean, deviation = wide.mean(axes), wide.std(axes)
    scaled = torch.from_numpy((inputs.astype(np.float32) - mean) / np.where(deviation > 0, deviation, 1.0))
    return scaled.permute(0, 3, 1, 2) if inputs.ndim == 4 else scaled


def _augmented(images: Tensor, random: torch.Generator, *, mirror: bool) -> Tensor:
    """Shift each image by up to an eighth of its side, and mirror half of them."""
    n, _, height, width = images.shape
    reach = height // 8
    padded = nn.functional.pad(images, (reach,) * 4)
    down, right = (
        torch.randint(0, 2 * reach + 1, (n, 1), generator=random).to(images.device) for _ in range(2)
    )
    rows, columns = (
        offset + torch.arange(side, device=images.device) for offset, side in ((down, height), (right, width))
    )
    first = torch.arange(n, device=images.device)[:, None, None]
    shifted = padded[first, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if not mirror:
        return shifted
    turned = torch.rand(n, generator=random).to(images.device) < 0.5
    return torch.where(turned[:, None, None, None], shifted.flip(3), shifted)


def _rate(how: Protocol, epochs: int, done: float) -> float:
    """Return the learning rate after ``done`` epochs."""
    warm = min(1.0, (done + 1.0) / (how.warm_up + 1.0))
    if how.decay_at:
        return how.learning_rate * warm * 0.01 ** sum(done >= share * epochs for share in how.decay_at)
    return how.learning_rate * warm * 0.5 * (1.0 + math.cos(math.pi * done / epochs))


def train(
    config: Config, problem: Problem, *, watch: Callable[[nn.Module, Loss], Any] | None = None
) -> tuple[nn.Module, Loss, Tensor]:
    """Train; return the network in evaluation mode, the loss, and the test inputs as the network takes them.

    ``watch`` is called once with network and loss before training, for example to attach a
    ``GradientMonitor``.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(config.seed)
    how, classes, (inputs, labels) = config.how, len(problem.counts), problem.train
    network = make_network(how.network, inputs.shape[-1], classes, cosine=config.loss in COSINE).to(device)
    loss = make_loss(config.loss, Context(problem.counts, config.length), config.settings).to(device)
    x, steer, test = (
        _scaled(part, inputs).to(device) for part in (inputs, problem.steer[0], problem.test[0])
    )
    y, steer_y = (torch.from_numpy(part).to(device) for part in (labels, problem.steer[1]))
    if watch is not None:
        watch(network, loss)
    forward = torch.compile(network) if device.type == "cuda" else network
    optimizer = torch.optim.SGD(
        network.parameters(), lr=how.learning_rate, momentum=0.9, nesterov=True, weight_decay=how.weight_decay
    )
    random = torch.Generator().manual_seed(config.seed)
    for epoch in range(config.length):
        network.train()
        for done, rows in _batches(len(y), how.batch, random):
            optimizer.param_groups[0]["lr"] = _rate(how, config.length, epoch + done)
            batch = x[rows.to(device)]
            batch = _augmented(batch, random, mirror=config.family == "cifar") if how.augment else batch
            optimizer.zero_grad(set_to_none=True)
            loss(forward(batch), y[rows.to(device)]).backward()
            optimizer.step()
        _after_epoch(network.eval(), loss, steer, steer_y)
    return network.eval(), loss, test


def _batches(rows: int, size: int, random: torch.Generator) -> Iterator[tuple[float, Tensor]]:
    """Yield the share of the epoch that is done and a batch.

    A last one of a single row, which cannot be normalised, is left out.
    """
    order = torch.randperm(rows, generator=random)
    for start in range(0, rows, size):
        if start == 0 or rows - start > 1:
            yield start / rows, order[start : start + size]


@torch.no_grad()
def _after_epoch(network: nn.Module, loss: Loss, steer: Tensor, steer_y: Tensor) -> None:
    if isinstance(loss, slt.DeferredReweighting):
        loss.step()
    if isinstance(loss, slt.GradientBalancedLoss) and len(steer):
        loss.observe(_outputs(network, steer), steer_y)


@torch.no_grad()
def _outputs(network: nn.Module, inputs: Tensor) -> Tensor:
    return torch.cat([network(part) for part in inputs.split(1000)])


# ---- measuring ----


def measure(
    logits: NDArray[np.float64], labels: NDArray[np.int64], rank: NDArray[np.int64]
) -> dict[str, float]:
    """Return the balanced accuracy, its means over the frequent, middle and rare classes, and the ECE, in
    percent; and the NLL.

    Classes without test rows do not count. A third of the classes, rounded down, are head and tail each.
    """
    classes = len(rank)
    count = np.bincount(labels, minlength=classes)
    hit = np.bincount(labels, weights=logits.argmax(axis=1) == labels, minlength=classes)
    recall = np.divide(hit, count, out=np.full(classes, np.nan), where=count > 0)[np.argsort(rank)]
    third = classes // 3
    parts = {
        "balanced_accuracy": recall,
        "head": recall[:third],
        "mid": recall[third : classes - third],
        "tail": recall[classes - third :],
    }
    confidence, correct = calibration.top_label(sl.softmax(logits), labels)
    return {
        **{
            name: 100 * float(np.mean(part[~np.isnan(part)])) if (~np.isnan(part)).any() else math.nan
            for name, part in parts.items()
        },
        "ece": 100 * calibration.expected_calibration_error(confidence, correct),
        "nll": float(sl.cross_entropy(logits, labels)),
    }


def run(config: Config, path: str | None = None) -> dict[str, float]:
    """Train once and return what `measure` does, and the seconds that it took."""
    start = time.perf_counter()
    problem = make_problem(config, path)
    network, loss, test = train(config, problem)
    spec = loss.loss.spec if isinstance(loss, slt.SeesawLoss) else loss.spec
    assert isinstance(spec, sl.LossSpec)
    # a temperature of the loss is part of the model; its prior, margins and scales are of training alone
    logits = _outputs(network, test).double().cpu().numpy() / spec.temperature
    return {**measure(logits, problem.test[1], problem.rank), "seconds": time.perf_counter() - start}
