"""The two lines: the text that the pages show is run and held to the oracle, and its limits are as stated."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

import softmax_lab as sl  # noqa: E402
from experiments import tables, two_lines  # noqa: E402
from experiments.benchmarks import torch_cpu  # noqa: E402
from softmax_lab import exact  # noqa: E402
from softmax_lab._ulp import float_format  # noqa: E402

GAPS = (0.0, 1.0, 5.0, 17.0, 37.0, 39.9, 40.5, 80.0, 100.0, 700.0, 1e4, -3.0, -41.0, -1e4)
#: given type -> the type that is computed in
WORKS_IN = {
    "float16": "float32",
    "bfloat16": "float32",
    "float32": "float32",
    "float64": "float64",
}


def row(num_classes: int, gap: float, dtype: str) -> Any:
    """Return a row in which class 0 leads by the gap, rounded to the type."""
    z = np.random.default_rng(num_classes).normal(size=(1, num_classes))
    z[0, 0] = z[0, 1:].max() + gap
    return torch.from_numpy(z).to(getattr(torch, dtype))


@pytest.mark.parametrize("dtype", WORKS_IN)
@pytest.mark.parametrize("num_classes", [2, 3, 10, 100, 1000])
def test_value_and_gradient_are_the_oracles(num_classes: int, dtype: str) -> None:
    """In relative error, per entry; the bar grows with the gap, which is rounded as a difference."""
    form = float_format(np.dtype(WORKS_IN[dtype]))
    label = torch.tensor([0])
    for gap in GAPS:
        z = row(num_classes, gap, dtype)
        wide = z.to(getattr(torch, WORKS_IN[dtype])).requires_grad_()
        value = two_lines.losses(wide, label)
        (gradient,) = torch.autograd.grad(value.sum(), wide)
        assert value.dtype == gradient.dtype == wide.dtype
        given = z[0].double().tolist()
        bar = form.eps * (8 + abs(gap) / 2)
        pairs = [
            (value.item(), exact.cross_entropy(given, 0)),
            *zip(gradient[0].tolist(), exact.cross_entropy_grad(given, 0), strict=True),
        ]
        for computed, true in pairs:
            # below the smallest normal number digits are lost, and then all of it: the type ends there
            assert abs(computed - true) <= bar * abs(true) + form.smallest, (gap, computed, true)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_types_are_computed_in_float32_and_rounded_once(dtype: str) -> None:
    for gap in (0.0, 5.0, 9.0, -3.0):
        z = row(10, gap, dtype).requires_grad_()
        wide = z.detach().float().requires_grad_()
        label = torch.tensor([0])
        for leaf in (z, wide):
            two_lines.losses(leaf, label).sum().backward()
        assert torch.equal(z.grad, wide.grad.to(z.dtype))


def test_the_first_line_is_what_half_types_need() -> None:
    """Without it a gap of 12 keeps no digit: the lines are not better than torch's loss in a half type."""
    z = torch.tensor([[12.0, 0.0, 0.0]], dtype=torch.bfloat16)
    names = {"z": z, "y": torch.tensor([0]), "F": torch.nn.functional}
    exec(two_lines._SECOND, names)
    true = float(exact.cross_entropy([12.0, 0.0, 0.0], 0))
    assert abs(names["loss"].item() / true - 1) > 1e-3
    assert abs(two_lines.losses(z, torch.tensor([0])).item() / true - 1) < 1e-6


def test_the_gap_ends_where_the_type_does() -> None:
    for dtype, gap in ((torch.float32, 110.0), (torch.float64, 760.0)):
        z = torch.tensor([[gap, 0.0]], dtype=dtype, requires_grad=True)
        value = two_lines.losses(z, torch.tensor([0]))
        value.sum().backward()
        assert value.item() == 0
        assert not z.grad.any()
        assert mpmath.mpf(0) < exact.cross_entropy([gap, 0.0], 0)


def test_the_ends_are_where_the_exponential_leaves_the_type() -> None:
    """Half of a last place of 1, or of the smallest number; the package's float64 has no subnormal ones."""
    found = two_lines.ends()
    for dtype in ("float32", "float64"):
        about = torch.finfo(getattr(torch, dtype))
        smallest = -math.log(about.tiny) - math.log(about.eps / 2)
        own = smallest if dtype == "float32" else -math.log(about.tiny)
        ends = {"torch": -math.log(about.eps / 2), "two lines": smallest, "softmax_lab": own}
        assert found[dtype].to_dict() == pytest.approx(ends, abs=0.01)


def test_an_ignored_label_is_refused() -> None:
    with pytest.raises(RuntimeError, match="out of bounds"):
        two_lines.losses(torch.zeros(2, 3), torch.tensor([0, -100]))


def test_a_row_whose_others_are_all_masked_has_a_nan_in_its_gradient() -> None:
    z = torch.full((1, 3), float("-inf"))
    z[0, 0] = 1.0
    z.requires_grad_()
    value = two_lines.losses(z, torch.tensor([0]))
    value.sum().backward()
    assert value.item() == 0
    assert torch.isnan(z.grad).any()


def test_the_pages_show_the_text_that_is_run() -> None:
    assert two_lines.TEXT in two_lines.markdown()
    assert max(map(len, two_lines.TEXT.splitlines())) <= 60  # a telephone shows it without sliding far


# ---- what it costs ----


def test_the_cost_is_a_multiple_of_torchs(tmp_path: Path) -> None:
    path = tmp_path / "two_lines.csv"
    cells = {"task": "loss", "dtype": "float32", "n": 8}
    measured = [
        cells | {"k": k, "provider": name, "ms": ms, "buffers": buffers}
        for k, name, ms, buffers in (
            (10, "copy", 0.1, float("nan")),
            (10, "torch", 1.0, 2.0),
            (10, "two lines", 9.0, 9.0),
            (10, "two lines", 3.0, 10.0),  # measured anew
            (20, "torch", 2.0, 2.0),
            (20, "two lines", 12.0, 10.0),
        )
    ]
    tables.append(path, torch_cpu.COLUMNS, measured)
    assert two_lines.cost(path)["two lines", "time"].tolist() == [3.0, 6.0]
    assert two_lines.cost_in_words(path=path) == "3 to 6 times the time and 5 times the memory"


def test_a_table_without_the_two_lines_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "two_lines.csv"
    tables.append(path, torch_cpu.COLUMNS, [{"task": "loss", "provider": "torch"}])
    with pytest.raises(ValueError, match=r"must hold rows of torch and of two lines"):
        two_lines.cost(path)


def test_what_is_measured_is_read(tmp_path: Path) -> None:
    path, threads = tmp_path / "two_lines.csv", (torch.get_num_threads(), sl.get_num_threads())
    try:
        two_lines.measure(path, [(64, 10)], repeats=2)
    finally:
        torch.set_num_threads(threads[0])
        sl.set_num_threads(threads[1])
    values = pd.read_csv(path).set_index("provider")["value"]
    assert values["two lines"] == pytest.approx(values["torch"], rel=1e-5)
    assert two_lines.cost(path).index.tolist() == [(64, 10)]


def test_the_stored_measurement_is_complete() -> None:
    found = two_lines.cost()
    assert found.index.tolist() == sorted(two_lines.SHAPES)
    assert not found.isna().any().any()
    assert set(found.columns.get_level_values(0)) == {"two lines", "softmax_lab"}
