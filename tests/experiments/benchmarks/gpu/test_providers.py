"""The providers compute the same, and the versions name those that are installed."""

from __future__ import annotations

import pytest
import torch

import softmax_lab as sl
from experiments.benchmarks.gpu import providers


@pytest.mark.parametrize("kernel", providers.MAPS)
def test_maps_agree(kernel: str) -> None:
    z = torch.randn(4, 9, dtype=torch.float64)
    ours, theirs = (providers.MAPS[kernel][name]()(z) for name in ("softmax_lab", "torch"))
    torch.testing.assert_close(ours, theirs)


def test_losses_agree() -> None:
    z, y = torch.randn(4, 9, dtype=torch.float64), torch.arange(4)
    ours, theirs = (providers.LOSSES[name]()(z, y) for name in ("softmax_lab", "torch"))
    torch.testing.assert_close(ours, theirs)


def test_linear_layers_agree() -> None:
    h, w, y = torch.randn(4, 3), torch.randn(9, 3), torch.arange(4)
    torch.testing.assert_close(providers.LINEARS["softmax_lab"]()(h, w, y), providers.linear_torch(h, w, y))


def test_versions_name_what_is_installed() -> None:
    assert providers.versions().startswith(f"torch {torch.__version__}, softmax_lab {sl.__version__}")
