"""Chunks of rows: how many rows fit, and that they are even."""

from __future__ import annotations

import torch

from softmax_lab.torch._machinery import chunks


def test_rows_of_a_chunk() -> None:
    assert chunks.chunk_rows(64000, torch.float32, 64_000 * 4 * 10 + 1) == 10
    assert chunks.chunk_rows(64000, torch.float64, 64_000 * 8 * 10 - 1) == 9
    assert chunks.chunk_rows(64000, torch.bfloat16, 64_000 * 6 * 10) == 10  # the halves and a float32 copy
    assert chunks.chunk_rows(64000, torch.float32, 1) == 1


def test_chunks_are_even() -> None:
    sizes = [part.stop - part.start for part in chunks.parts(None, 1000, 300)]  # type: ignore[union-attr]
    assert sizes == [250] * 4
    assert [len(part) for part in chunks.parts(torch.arange(0, 20, 2), 20, 4)] == [4, 3, 3]  # type: ignore[arg-type]
    assert list(chunks.parts(None, 0, 4)) == []
