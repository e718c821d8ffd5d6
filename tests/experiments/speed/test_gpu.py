"""What the book makes of the GPU's rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments import tables
from experiments.benchmarks.gpu import command
from experiments.speed import gpu as report

FIRST, LATER = "2026-01-01T00:00:00", "2026-01-02T00:00:00"
ABOUT = {"card": "a card", "versions": "v", "when": FIRST}


def row(kernel: str, dtype: str, k: int, provider: str, share: float, **changes: Any) -> dict[str, Any]:
    """Return a row of eight rows of logits: the copy takes a microsecond."""
    given = {"kernel": kernel, "dtype": dtype, "n": 8, "k": k, "provider": provider}
    return (
        ABOUT | given | {"ms": 1e-3 / share, "share_of_copy": share, "max_error": 1e-7, "note": ""} | changes
    )


def run() -> list[dict[str, Any]]:
    """Return what one run stores: three kernels in two types at two widths, and a check that failed."""
    times = [
        row(kernel, dtype, k, provider, share)
        for kernel in report.KERNELS
        for dtype in command.DTYPES
        for k in (64, 128)
        for provider, share in (("softmax_lab", 0.9), ("torch", 0.5))
    ]
    return [
        *times,
        ABOUT | {"kernel": "check rows", "provider": "softmax_lab", "ms": 1.0, "note": "FAILED: x"},
    ]


def stored(tmp_path: Path, *rows: dict[str, Any]) -> pd.DataFrame:
    """Return the rows of a run, and later ones, as they are read."""
    path = tmp_path / "gpu.csv"
    tables.append(path, command.COLUMNS, [*run(), *({**one, "when": LATER} for one in rows)])
    return report.read(path)


def test_nothing_is_measured(tmp_path: Path) -> None:
    nothing = report.read(tmp_path / "none.csv")
    assert "No GPU" in report.standing(nothing)
    assert report.picture(nothing) is None
    assert report.circumstances(nothing) == "no card"
    assert report.brief(nothing, "softmax") == "not measured"
    assert report.aims(nothing) == "nothing is measured"
    assert report.missing(nothing) == "Every provider has its times."


def test_what_the_book_shows(tmp_path: Path) -> None:
    table = stored(tmp_path)
    assert report.standing(table) == (
        "a card: 0 of 1 checks passed (2026-01-01 at 00:00), 24 times stored "
        "(the newest 2026-01-01 at 00:00)."
    )
    assert report.circumstances(table) == "a card with v (2026-01-01)"
    assert report.shares(table, "softmax", "float32").loc[64].to_dict() == {
        "softmax_lab": 0.9,
        "torch": 0.5,
    }
    assert report.against(table.assign(k=8 * table["k"]), 512, 1024).loc[
        ("softmax", "float32")
    ].to_dict() == {
        "share of a copy": "0.90",
        "torch / softmax_lab": "1.80",
    }
    assert report.checks(table).loc["rows", "found"] == "FAILED: x"
    assert report.errors(table).loc[("log-softmax", "bfloat16"), "torch"] == 1e-7
    command.draw(tmp_path / "gpu.csv")
    assert (tmp_path / "gpu.svg").stat().st_size > 1000


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("bfloat16", 2)])
def test_a_rate_counts_a_read_and_a_write(tmp_path: Path, dtype: str, size: int) -> None:
    found = report.rates(stored(tmp_path), "softmax", dtype)
    assert list(found.columns) == ["softmax_lab", "torch", "copy"]
    copied = 2 * size * 8 * 128 / 1e-6 / 1e9  # in a microsecond
    assert found.loc[128].to_dict() == pytest.approx(
        {"softmax_lab": 0.9 * copied, "torch": 0.5 * copied, "copy": copied}
    )


def test_the_newest_row_of_the_last_card_counts(tmp_path: Path) -> None:
    table = stored(tmp_path, row("softmax", "float32", 64, "torch", 0.25))
    assert report.shares(table, "softmax", "float32").loc[64, "torch"] == 0.25
    assert report.circumstances(table).endswith("(2026-01-01 to 2026-01-02)")
    other = stored(tmp_path, row("softmax", "float32", 64, "torch", 0.25, card="another card"))
    assert len(other) == 1
    assert report.standing(other) == (
        "another card: 0 of 0 checks passed, 1 times stored (the newest 2026-01-02 at 00:00)."
    )


def test_a_peer_that_is_new_appears(tmp_path: Path) -> None:
    table = stored(
        tmp_path,
        row("softmax", "float32", 64, "liger_kernel", 1.8),
        row("softmax", "float32", 64, "a new one", 0.6),
        row("focal", "float32", 64, "softmax_lab", 0.9),
        row("focal", "float32", 64, "a new one", 0.9),
        row("focal", "float32", 64, "another", 0.9),
    )
    assert report.kernels(table) == [*report.KERNELS, "focal"]
    assert list(report.shares(table, "softmax", "float32")) == [
        *("softmax_lab", "torch", "liger_kernel", "a new one")
    ]
    assert report.brief(table, "softmax") == (
        "0.90 to 0.90 of the copy's bandwidth; fastest in 3 of 4 cases; times over the "
        "package's: torch 1.80, liger_kernel 0.50, a new one 1.50"
    )
    figure = report.picture(table)
    assert figure is not None
    assert len(figure.axes) == 4 * 2
    assert [line.get_label() for line in figure.axes[0].lines] == [
        *("a copy", "softmax_lab", "torch", "liger_kernel", "a new one")
    ]
    colors = [{line.get_label(): line.get_color() for line in figure.axes[panel].lines} for panel in (0, 6)]
    assert colors[0]["a new one"] == colors[1]["a new one"] != colors[1]["another"]
    assert report.against(table, 64, 64).loc[("focal", "float32"), "torch / softmax_lab"] == "–"


def test_the_bars_are_counted(tmp_path: Path) -> None:
    wide = [
        row(kernel, "float32", 8192, provider, share)
        for kernel, own, other in (("softmax", 0.95, 0.5), ("log_softmax", 0.7, 0.8))
        for provider, share in (("softmax_lab", own), ("torch.compile", other))
    ]
    assert report.aims(stored(tmp_path, *wide)) == "1 of 2 cases reach the share and 1 of 2 take less time"


def test_what_was_not_measured_is_named(tmp_path: Path) -> None:
    without = {"ms": None, "share_of_copy": None, "max_error": None}
    table = stored(
        tmp_path,
        row("softmax", "float32", 64, "quack", 1.0) | without | {"note": "not installed: No module 'quack'"},
        row("softmax", "float32", 128, "quack", 1.0) | without | {"note": "not installed: No module 'quack'"},
        row("softmax", "float32", 128, "torch.compile", 1.0) | without | {"note": "out of memory"},
    )
    assert report.missing(table) == "Not measured: quack (not installed); torch.compile (out of memory)."
    gone = (
        row("softmax", "float32", 64, "torch", 1.0) | without | {"note": "not installed: No module 'torch'"}
    )
    assert report.shares(stored(tmp_path, gone), "softmax", "float32").loc[64, "torch"] == 0.5


def test_plans_name_every_read() -> None:
    pytest.importorskip("triton")
    plans = report.plans()
    assert plans.loc[4096, ["programs a row", "reads of a logit"]].tolist() == [1, 1]
    assert plans.loc[262144, "programs a row"] * plans.loc[262144, "classes at once"] == 262144
    assert plans.loc[262144, "reads of a logit"] == 1
    assert plans.loc[1 << 21, "reads of a logit"] == 2


def test_small_batches_and_the_linear_layer_are_told_apart() -> None:
    table = report.read()
    small = report.batches(table)
    assert [tuple(shape) for shape in small.index] == [
        (dtype, n, k) for dtype in ("bfloat16", "float32") for n, k in command.SMALL
    ]
    assert {"softmax_lab", "torch"} <= set(small.columns)
    assert (report.linear(table)["peak_mb"] > 1000).all()


def test_where_a_peer_is_faster_is_said(tmp_path: Path) -> None:
    table = stored(
        tmp_path,
        row("cross_entropy", "bfloat16", 128, "torch", 0.95),
        row("cross_entropy", "bfloat16", 64, "torch.compile", 0.95),
        row("cross_entropy", "bfloat16", 128, "torch.compile", 0.99),
    )
    assert report.behind(table, "cross_entropy") == (
        "in float32 no peer is; in bfloat16 torch is at K = 128; torch.compile is at K = 64, 128"
    )
    assert report.behind(report.read(tmp_path / "none.csv"), "softmax") == "nothing is measured"


def test_the_price_of_a_small_batch_is_that_over_torchs(tmp_path: Path) -> None:
    small = [
        row("small batch", dtype, k, provider, 0.01, n=256, ms=ms)
        for dtype, k, own in (("bfloat16", 10, 3.0), ("bfloat16", 1000, 6.0), ("float32", 10, 1.5))
        for provider, ms in (("softmax_lab", own), ("torch", 1.0))
    ]
    found = report.call_price(stored(tmp_path, *small))
    assert found == "3.00 to 6.00 times as long in bfloat16 and 1.50 times as long in float32"
    assert report.call_price(report.read(tmp_path / "none.csv")) == "not measured"


def test_a_case_without_a_time_of_the_package_is_named(tmp_path: Path) -> None:
    table = stored(tmp_path)
    lost = (table["kernel"] == "log_softmax") & (table["dtype"] == "bfloat16") & (table["k"] == 128)
    assert report.missing(table[~lost]) == "Not measured: log-softmax in bfloat16 at K = 128."


def test_where_the_package_is_less_accurate_is_said(tmp_path: Path) -> None:
    assert report.less_accurate(stored(tmp_path)) == "nowhere"
    worse = row("cross_entropy", "float32", 64, "softmax_lab", 0.9, max_error=3e-7)
    found = report.less_accurate(stored(tmp_path, worse))
    assert found == "loss and gradient in float32: 3.0e-07 against 1.0e-07"


def test_the_linear_layer_stands_beside_each_peer(tmp_path: Path) -> None:
    layer = [
        row("linear, d = 8", "bfloat16", 64, provider, 0.1, ms=ms, peak_mb=mb)
        for provider, ms, mb in (("softmax_lab", 3.0, 50.0), ("torch.compile", 2.0, 100.0))
    ]
    found = report.linear_words(stored(tmp_path, *layer))
    assert found == "1.5 times the time of torch.compile and 0.5 times its memory"
