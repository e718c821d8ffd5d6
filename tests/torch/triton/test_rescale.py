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


def test_a_factor_that_lies_once_in_memory_is_that_of_every_row() -> None:
    """As the upstream gradient of ``loss.sum()`` does: an expanded number, whose rows have no stride."""
    g, memory = torch.randn(4, 7), torch.tensor([3.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0])
    assert torch.equal(kernels.rescale_(g.clone(), memory[0].expand(4)), 3.0 * g)
    assert torch.equal(kernels.rescale_(g.clone(), memory[::2]), g * torch.tensor([[3.0], [9], [9], [9]]))
