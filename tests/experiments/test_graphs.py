"""Steps that are repeated; what a GPU does with them is checked where there is one."""

from __future__ import annotations

import pytest
import torch

from experiments import graphs

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=CUDA)])
def test_steps_are_taken_and_the_warming_up_leaves_no_trace(device: str) -> None:
    count = torch.zeros((), device=device)
    half = torch.full((), 0.5, device=device)

    def step() -> None:
        count.add_(half)

    advance = graphs.repeated(step, [count], 3)
    assert float(count) == 0.0
    advance(6)
    assert float(count) == 3.0
    assert advance.mode == ("eager" if device == "cpu" else "graph")
    with pytest.raises(ValueError, match="multiple of 3; got 4"):
        advance(4)


@CUDA
def test_what_cannot_be_captured_stays_eager_and_says_why() -> None:
    count = torch.zeros((), device="cuda")

    def step() -> None:
        count.add_(float(count) + 1)  # waits for the device

    advance = graphs.repeated(step, [count], 2)
    assert advance.mode.startswith("eager: ")
    advance(2)
    assert float(count) == 3.0


def test_divisors() -> None:
    assert [graphs.divisor(84, 14), graphs.divisor(7, 3), graphs.divisor(50, 25)] == [14, 1, 25]


def test_a_clock_adds_spans_up() -> None:
    clock = graphs.Clock(torch.device("cpu"))
    for _ in range(3):
        clock.start()
        torch.randn(100).sum()
        clock.stop()
    first, second, third = clock.seconds()
    assert 0 < first < second < third
