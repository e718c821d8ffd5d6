"""Five classes of small images that differ in their red, and rows as they are stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from experiments import long_tail_resnet as lr
from experiments.long_tail_resnet import packing
from experiments.long_tail_resnet.rows import identity, rows_of
from experiments.long_tail_resnet.training import Seen

CPU = torch.device("cpu")
CLASSES = 5
COUNTS = lr.long_tailed_counts(10, CLASSES, 24)
TOY = lr.Config("plain", 0, epochs=2, rho=10, batch=16, learning_rate=0.02)


def images(counts: np.ndarray, seed: int = 0) -> lr.Images:
    """Return images of 8 x 8 pixels."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    pixels = rng.integers(0, 40, (len(labels), 8, 8, 3)).astype(np.uint8)
    pixels[..., 0] += (50 * labels[:, None, None]).astype(np.uint8)
    return lr.Images(pixels, labels)


def packed(folder: Path) -> Path:
    """Write both files into a folder."""
    folder.mkdir(exist_ok=True)
    packing.write(folder / "train.npz", images(COUNTS), progress=False)
    packing.write(folder / "test.npz", images(np.full(CLASSES, 6), seed=1), progress=False)
    return folder


def stored(path: Path, loss: str, heights: list[float]) -> None:
    """Store made-up runs, seed after seed: the accuracy of all classes at the end, and half of it before."""
    for seed, height in enumerate(heights):
        config = replace(TOY, loss=loss, seed=seed)
        seen = [Seen(torch.full((3,), share * height), torch.tensor(1.0)) for share in (0.5, 1.0)]
        about = identity(config, "a card") | {"runs": 3, "mode": "graph"}
        lr.append(path, rows_of(config, seen, [1.0, 2.0], np.array([500, 50, 5]), about))
