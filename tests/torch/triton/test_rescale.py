"""The gradient times the upstream gradient."""

from __future__ import annotations

import torch

from softmax_lab.torch import triton as kernels


def test_rescaling_leaves_ones_alone(launched: list[tuple[str, bool]]) -> None:
    g = torch.randn(4, 700)
    for factor in (torch.tensor(1.0), torch.tensor(3.0), torch.tensor([1.0, 2.0, 0.0, -1.0])):
        assert torch.equal(
            kernels.rescale_(g.clone(), factor), g * (factor if factor.ndim == 0 else factor[:, None])
        )
    assert [name for name, _ in launched] == ["rescale_kernel"] * 3
