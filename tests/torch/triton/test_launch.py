"""Tensors as rows, and what a launch does without any."""

from __future__ import annotations

import pytest
import torch

from softmax_lab.torch.triton.launch import as_rows, from_rows, launch


@pytest.mark.parametrize("dim", [0, 1, 2, -1])
def test_rows_go_back_to_where_they_came_from(dim: int) -> None:
    tensor = torch.randn(2, 3, 4)
    rows = as_rows(tensor, dim)
    assert rows.shape == (24 // tensor.shape[dim], tensor.shape[dim])
    assert rows.stride(1) == 1
    back = from_rows(rows, tensor, dim)
    assert torch.equal(back, tensor)
    assert back.is_contiguous()


def test_rows_with_neighbouring_classes_are_not_copied() -> None:
    wide = torch.randn(4, 10)
    assert as_rows(wide[:, :5], -1).data_ptr() == wide.data_ptr()
    assert as_rows(wide, 0).data_ptr() != wide.data_ptr()


def test_no_kernel_runs_without_rows() -> None:
    launch(None, torch.empty(0, 5))
