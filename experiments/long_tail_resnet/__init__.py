"""ResNet-32 on a long-tailed CIFAR-100, as published results have it, in seconds on one GPU.

The recipe is that of Cao et al. (2019, "Learning imbalanced datasets with label-distribution-aware margin
loss", and their code): 200 epochs in batches of 128 by SGD with momentum 0.9, weight decay 2e-4 and a rate of
0.1, which warms up over 5 epochs and falls to a hundredth after 80 % and again after 90 % of them; images are
cropped out of a padding of 4 and mirrored. It differs in three things: the last, incomplete batch of an epoch
is left out, convolutions multiply in bfloat16, and images are scaled by their own mean and deviation.

``python -m experiments.long_tail_resnet --pack FOLDER --source ARCHIVES`` writes the images into two small
files. ``... --data FOLDER`` then trains: many runs at once, each a CUDA graph on a stream of its own, all
images in the card's memory. The rows of a run go to ``experiments/results/long_tail_resnet.csv``; what is
stored is not run again. For one seed, all losses start from the same weights and see the same images, shifted
and mirrored alike. ``report`` has the table and the picture.

The grid of chapter 9 (:mod:`experiments.long_tail`) has the losses and the network.
"""

from __future__ import annotations

from .command import main
from .config import LOSSES, SEEDS, Config
from .packing import Images, long_tailed_counts, pack, unpack
from .rows import COLUMNS, RESULTS, append, finished, read
from .running import Data, load, run_all, train_together
from .training import Run

__all__ = [
    "COLUMNS",
    "LOSSES",
    "RESULTS",
    "SEEDS",
    "Config",
    "Data",
    "Images",
    "Run",
    "append",
    "finished",
    "load",
    "long_tailed_counts",
    "main",
    "pack",
    "read",
    "run_all",
    "train_together",
    "unpack",
]
