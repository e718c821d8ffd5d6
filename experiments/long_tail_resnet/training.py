"""One run on a device: the network, its optimiser and its images, and a step that never waits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import softmax_lab.torch as slt
from experiments import graphs
from experiments.long_tail.losses import COSINE, Context, make_loss
from experiments.long_tail.networks import make_network

from .config import Config
from .packing import Images

__all__ = ["Data", "Run", "Seen", "to_device"]

PADDING = 4
_MOST = 14  # steps in a graph: a sixth of an epoch
_TESTED = 2500  # images at a time


class Data(NamedTuple):
    """Images on the device, scaled, as bfloat16 (N, H, W, C) with the training images padded; labels (N,)."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    counts: NDArray[np.int64]


class Seen(NamedTuple):
    """What the test images say: the accuracy of each class (K,), and the mean cross-entropy."""

    recall: Tensor
    nll: Tensor


def to_device(train: Images, test: Images, device: torch.device) -> Data:
    """Return the images of both parts on the device, each colour of mean 0 and deviation 1 in training.

    What is padded is black, as where images are padded before they are scaled.
    """
    pixels = train.pixels.astype(np.float32)
    mean, deviation = pixels.mean((0, 1, 2)), pixels.std((0, 1, 2))
    around = ((0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0))

    def scaled(images: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy((images - mean) / deviation).to(device, torch.bfloat16)

    labels = (torch.from_numpy(part.labels).to(device) for part in (train, test))
    train_labels, test_labels = labels
    counts = np.bincount(train.labels, minlength=int(test.labels.max()) + 1)
    padded = scaled(np.pad(train.pixels, around))
    return Data(padded, train_labels, scaled(test.pixels), test_labels, counts)


class Run:
    """A run that is taken forward a few steps at a time, beside others on the same device."""

    def __init__(self, config: Config, data: Data, device: torch.device) -> None:
        self.config, self.data, self.device = config, data, device
        torch.manual_seed(config.seed)
        channels, classes = data.train.shape[-1], len(data.counts)
        self.network = make_network("resnet32", channels, classes, cosine=config.loss in COSINE)
        _prepare(self.network, device)
        loss = make_loss(config.loss, Context(data.counts, config.epochs)).to(device)
        assert isinstance(loss, slt.SoftmaxLoss)  # as all losses of the study are
        self.loss = loss
        self.used = list(self.network.parameters())
        #: float32 weights: the convolutions' own are bfloat16
        self.weights = [weight.detach().float() if _is_low(weight) else weight for weight in self.used]
        self.momentum = [torch.zeros_like(weight) for weight in self.weights]
        self.gradients = [torch.zeros_like(weight) for weight in self.weights]
        self.random = torch.Generator(device).manual_seed(config.seed)
        n = len(data.train_labels)
        self.batches = n // config.batch
        self.order = torch.zeros(n, dtype=torch.long, device=device)
        self.shift = torch.zeros(n, 2, dtype=torch.long, device=device)
        self.mirrored = torch.zeros(n, dtype=torch.bool, device=device)
        self.place = torch.zeros((), dtype=torch.long, device=device)
        self.rate = torch.zeros((), device=device)
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.advance: graphs.Repeated | None = None
        self._mode = ""

    @property
    def mode(self) -> str:
        """How the steps are taken; the last way, where that has changed."""
        return self._mode

    @property
    def chunk(self) -> int:
        """Steps in a call of `advance`."""
        return graphs.divisor(self.batches, _MOST)

    def begin_epoch(self, epoch: int) -> None:
        """Draw the order of the images, their shifts and which are mirrored; set the rate."""
        n = len(self.order)
        self.order.copy_(torch.randperm(n, generator=self.random, device=self.device))
        reach = 2 * PADDING + 1
        self.shift.copy_(torch.randint(reach, (n, 2), generator=self.random, device=self.device))
        self.mirrored.copy_(torch.rand(n, generator=self.random, device=self.device) < 0.5)
        self.place.zero_()
        self.rate.fill_(self.config.rate(epoch))
        self.network.train()
        if self.advance is None:
            self.advance = graphs.repeated(self.step, self._state(), self.chunk)
            self._mode = self.advance.mode

    def end_epoch(self) -> None:
        """Tell a loss with a schedule; where that changes it, the next epoch captures its steps again."""
        if isinstance(self.loss, slt.DeferredReweighting):
            before = self.loss.spec
            self.loss.step()
            self.advance = self.advance if self.loss.spec == before else None

    def step(self) -> None:
        """Take one step."""
        images, labels = self.batch()
        value = self.loss(self.network(images), labels)
        gradients = torch.autograd.grad(value, self.used)
        with torch.no_grad():
            torch._foreach_copy_(self.gradients, gradients)
            torch._foreach_add_(self.gradients, self.weights, alpha=self.config.weight_decay)
            torch._foreach_mul_(self.momentum, self.config.momentum)
            torch._foreach_add_(self.momentum, self.gradients)
            torch._foreach_copy_(self.gradients, self.momentum)
            torch._foreach_mul_(self.gradients, self.rate)
            torch._foreach_sub_(self.weights, self.gradients)
            pairs = [(low, own) for low, own in zip(self.used, self.weights, strict=True) if low is not own]
            torch._foreach_copy_([low for low, _ in pairs], [own for _, own in pairs])

    @torch.no_grad()
    def batch(self) -> tuple[Tensor, Tensor]:
        """Return the next images (B, C, H, W), shifted and mirrored as drawn, and their labels."""
        size, padded = self.config.batch, self.data.train
        height, width = (side - 2 * PADDING for side in padded.shape[1:3])
        at = self.place * size + torch.arange(size, device=self.device)
        rows, shift, mirrored = self.order[at], self.shift[at], self.mirrored[at]
        self.place += 1
        down = shift[:, :1] + torch.arange(height, device=self.device)
        across = torch.arange(width, device=self.device)
        right = shift[:, 1:] + torch.where(mirrored[:, None], width - 1 - across, across)
        images = padded[rows[:, None, None], down[:, :, None], right[:, None, :]]
        return images.permute(0, 3, 1, 2), self.data.train_labels[rows]

    @torch.no_grad()
    def look(self) -> Seen:
        """Return what the test images say; nothing waits for it.

        A temperature of the loss is part of the model; its prior, margins and weights are of training alone.
        """
        self.network.eval()
        labels, classes = self.data.test_labels, len(self.data.counts)
        parts = self.data.test.permute(0, 3, 1, 2).split(_TESTED)
        logits = torch.cat([self.network(part) for part in parts]) / self.loss.spec.temperature
        hit = (logits.argmax(1) == labels).double()
        zeros = torch.zeros(classes, dtype=torch.double, device=self.device)
        tested = zeros.index_add(0, labels, torch.ones_like(hit))
        recall = zeros.index_add(0, labels, hit) / tested
        return Seen(recall, nn.functional.cross_entropy(logits.double(), labels))

    def _state(self) -> list[Tensor]:
        return [*self.weights, *self.used, *self.momentum, *self.network.buffers(), self.place]


def _is_low(weight: Tensor) -> bool:
    return weight.dtype == torch.bfloat16


@torch.no_grad()
def _prepare(network: nn.Module, device: torch.device) -> None:
    """Draw convolutions as He et al. (2015) do, move the network, and let them multiply in bfloat16."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            module.num_batches_tracked = None  # nobody reads it, and it is a kernel a layer
    network.to(device)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.to(torch.bfloat16)
