"""timm: LabelSmoothingCrossEntropy without smoothing; in the mode "soft" SoftTargetCrossEntropy of a one-hot.

They are read from its file: the package around it imports torchvision, which they do not need.
"""

import importlib.util
import os
import pathlib

import torch
from answering import options, serve
from tensors import row_by_row

OPTIONS = options("soft")
(FILE,) = pathlib.Path(os.environ["ENGINE_FOLDER"]).glob("lib/*/site-packages/timm/loss/cross_entropy.py")
SPEC = importlib.util.spec_from_file_location("cross_entropy_of_timm", FILE)
timm = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(timm)
LABELS = timm.LabelSmoothingCrossEntropy(smoothing=0.0)
SOFT = timm.SoftTargetCrossEntropy()


def loss(z, y):
    if y.ndim == 2:
        return SOFT(z, y)
    if OPTIONS.mode == "soft":
        return SOFT(z, torch.nn.functional.one_hot(y, z.shape[1]).to(z.dtype))
    return LABELS(z, y)


serve("timm", {}, row_by_row(loss), dtypes=("float16", "bfloat16", "float32", "float64"))
