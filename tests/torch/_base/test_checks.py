"""The checks that are asked for by themselves; those of each function are tested with it."""

from __future__ import annotations

import pytest
import torch

from softmax_lab.torch._base import checks


def test_labels_are_read_on_any_device() -> None:
    target = torch.tensor([0, 5, -100])
    checks.labels(target, 6, -100)
    checks.labels(target.to("meta"), 5, -100)  # has no labels to read
    with pytest.raises(IndexError, match="label 5 at row 1"):
        checks.labels(target, 5, -100)
