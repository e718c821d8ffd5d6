"""The targets are judged by the worst shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments import speed
from experiments.benchmarks import cpu
from tests.experiments.speed.measurements import frame, row


def test_aims_are_judged_by_the_worst_shape(tmp_path: Path) -> None:
    def met(*rows: dict[str, Any], dtypes: Any = ("float32", "float64")) -> list[str]:
        return speed.aims(frame(tmp_path, *rows, dtypes=dtypes))["met"].tolist()

    assert met() == ["yes"] * 9
    assert met(dtypes=("float32",)) == ["yes"] * 6 + ["–", "yes", "–"]
    assert met(row("loss", cpu.SHAPES[0], "torch", ms=11.0))[0] == "no"  # 5.5 times
    # 1.45 times, at K = 10
    assert met(row("loss", cpu.SHAPES[0], "torch.compile", ms=2.9))[1:3] == ["no", "yes"]
    assert met(row("loss", cpu.SHAPES[0], "torch.compile", ms=3.1))[1:3] == ["yes", "yes"]  # 1.55 times
    assert met(row("loss", cpu.SHAPES[2], "torch.compile", ms=4.9))[1:3] == ["yes", "no"]  # 2.45 times
    assert met(row("loss", cpu.SHAPES[0], "softmax_lab", copies=2.6))[3] == "yes"
    assert met(row("loss", cpu.SHAPES[1], "softmax_lab", copies=2.6))[3] == "by one copy of two"
    assert met(row("loss", cpu.SHAPES[1], "softmax_lab", ms=2.6, copies=2.4))[3] == "by one copy of two"
    assert met(row("loss", cpu.SHAPES[1], "softmax_lab", ms=2.6))[3] == "no"
    assert met(row("log_softmax", cpu.SHAPES[3], "jax.jit", ms=1.9))[4:6] == ["yes", "no"]
    assert met(row("softmax", cpu.SHAPES[3], "jax.jit", ms=1.9))[4:6] == ["no", "yes"]
    assert met(row("loss", cpu.SHAPES[3], "torch", "float64", ms=5.0))[6] == "no"
    assert met(row("softmax", cpu.SHAPES[1], "softmax_lab", max_ulp=2.1))[7:] == ["no", "yes"]
    worst = speed.aims(frame(tmp_path, row("loss", cpu.SHAPES[1], "softmax_lab", copies=2.6))).iloc[3]
    assert worst[["target", "at K", "worst"]].tolist() == [
        "at most 2.5 copies",
        "1,000, 32,768, 131,072",
        "2.00 or 2.60",
    ]
    assert worst["where"] == "16,384 x 1,000"
