"""Who is ahead is counted, and where a peer is faster is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments import speed
from experiments.benchmarks import cpu
from tests.experiments.speed.measurements import frame, row


def test_comparison_is_each_peers_time_over_the_packages(tmp_path: Path) -> None:
    compared = speed.comparison(frame(tmp_path, row("loss", cpu.SHAPES[2], "jax.jit", ms=1.0)), "loss")
    assert list(compared.index) == [("float32", *shape) for shape in cpu.SHAPES]
    assert (compared[["torch", "torch.compile", "tf.function", "scipy"]] == [7.0, 3.0, 5.0, 6.0]).all(
        axis=None
    )
    assert compared["best"].tolist() == [3.0, 3.0, 0.5, 3.0]
    assert compared["peer"].tolist() == ["torch.compile", "torch.compile", "jax.jit", "torch.compile"]
    assert compared["copies"].tolist() == [2.0] * 4
    assert compared["max_ulp"].isna().tolist() == [False, False, True, True]
    text = speed.shown(compared)
    assert text["jax.jit"].tolist() == ["4.00", "4.00", "0.50*", "4.00"]
    assert compared["jax.jit is"].tolist() == ["slower", "slower", "faster", "slower"]
    assert compared["softmax_lab is"].tolist() == ["fastest", "fastest", "slower", "fastest"]
    assert text["ulp"].tolist() == ["0.50", "0.50", "–", "–"]
    assert text.index[0] == ("float32", "65,536 x 10")


@pytest.mark.parametrize(
    ("ms", "side", "mark"),
    [(1.4, "faster", "*"), (1.6, "level", "~"), (2.5, "level", "~"), (2.8, "slower", "")],
)
def test_times_whose_middles_overlap_are_level(tmp_path: Path, ms: float, side: str, mark: str) -> None:
    """The package's middle three fifths are 1.8 to 2.4, a peer's 0.9 to 1.2 of its time."""
    compared = speed.comparison(frame(tmp_path, row("loss", cpu.SHAPES[0], "torch", ms=ms)), "loss")
    assert compared["torch is"].tolist() == [side, "slower", "slower", "slower"]
    assert compared["softmax_lab is"].iloc[0] == {"faster": "slower", "slower": "fastest"}.get(side, side)
    assert speed.shown(compared)["torch"].iloc[0] == f"{ms / 2:.2f}{mark}"


def test_a_missing_peer_has_no_ratio(tmp_path: Path) -> None:
    table = frame(tmp_path)
    some = speed.comparison(table[table["provider"] != "torch.compile"], "loss")
    assert "torch.compile" not in some
    assert set(some["peer"]) == {"jax.jit"}
    here_only = speed.comparison(table[(table["provider"] != "torch.compile") | (table["k"] == 10)], "loss")
    assert speed.shown(here_only)["torch.compile"].tolist() == ["3.00", "–", "–", "–"]
    assert (here_only["softmax_lab is"] == "fastest").all()
    with pytest.raises(ValueError, match="no peer of softmax_lab was measured in loss: install"):
        speed.comparison(table[table["provider"].isin(["copy", "softmax_lab"])], "loss")


def test_missing_shapes_say_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"no measurement at 2,097,152 x 2, .*: run python -m experiments.benchmarks.cpu, and with "
        r"--sweep",
    ):
        speed.margins(frame(tmp_path))


def test_verdict_counts_and_names_who_is_faster(tmp_path: Path) -> None:
    assert speed.verdict(frame(tmp_path), "loss") == "softmax_lab is the fastest in 4 of 4 cases"
    assert speed.brief(frame(tmp_path), "loss") == (
        "the fastest in 4 of 4 cases; the fastest peer takes 3.00 times the package's time (median 3.00)"
    )
    faster = [
        row("loss", cpu.SHAPES[0], "torch", ms=1.0),
        row("loss", cpu.SHAPES[1], "torch", ms=1.4),
        row("loss", cpu.SHAPES[3], "scipy", ms=1.9),
    ]
    table = frame(tmp_path, *faster)
    assert speed.verdict(table, "loss") == (
        "softmax_lab is the fastest in 1 of 4 cases, level with the fastest peer in 1 (which takes 0.95 of "
        "its time) and slower in 2: "
        "torch takes 0.50 to 0.70 of its time at K = 10, 1,000 (float32)"
    )
    assert speed.brief(table, "loss") == (
        "the fastest in 1 of 4 cases, level with the fastest peer in 1 and slower in 2; the fastest peer "
        "takes 0.50 to 3.00 times the package's time (median 0.82)"
    )
    assert speed.verdict(table, "softmax") == "softmax_lab is the fastest in 4 of 4 cases"


def test_a_brief_may_have_level_cases_and_no_slower_one(tmp_path: Path) -> None:
    table = frame(tmp_path, row("loss", cpu.SHAPES[2], "scipy", ms=1.6))
    assert speed.brief(table, "loss") == (
        "the fastest in 3 of 4 cases and level with the fastest peer in 1; the fastest peer takes 0.80 to "
        "3.00 times the package's time (median 3.00)"
    )


def test_both_types_are_compared_in_order(tmp_path: Path) -> None:
    table = frame(
        tmp_path, row("loss", cpu.SHAPES[0], "torch", "float64", ms=1.0), dtypes=("float64", "float32")
    )
    assert [dtype for dtype, _, _ in speed.comparison(table, "loss").index] == ["float32"] * 4 + [
        "float64"
    ] * 4
    assert speed.verdict(table, "loss").endswith(
        "7 of 8 cases and slower in 1: torch takes 0.50 of its time at K = 10 (float64)"
    )


def test_margins_over_the_sweep(tmp_path: Path) -> None:
    table = frame(tmp_path, row("softmax", cpu.SWEEP[3], "scipy", ms=1.0), shapes=cpu.SWEEP)
    found = speed.margins(table)
    assert list(found.index) == [f"{k:,}" for _, k in cpu.SWEEP]
    assert list(found.columns) == [(words, "float32") for words in speed.TASKS.values()]
    assert found.loc["128", ("softmax", "float32")] == "0.50*"
    assert (found.drop(index="128") == "3.00").all(axis=None)


def test_short_rows(tmp_path: Path) -> None:
    table = frame(
        tmp_path,
        row("loss", cpu.SWEEP[0], "torch", ms=28.0),
        row("loss", (5, 2), "torch", ms=99.0),
        shapes=cpu.SWEEP,
    )
    found = speed.short_rows(table, 2, 8192)
    assert found["loss", "float32", "torch"] == pytest.approx(2.0)
    assert found["softmax", "float32", "torch"] == pytest.approx(1.0)


def test_standing_names_whom_nobody_beats(tmp_path: Path) -> None:
    quick = row("softmax", cpu.SHAPES[1], "torch", ms=0.9, max_ulp=9.0)
    equal = row("softmax", cpu.SHAPES[1], "scipy", ms=1.3, max_ulp=0.5)
    found = speed.standing(frame(tmp_path, quick, equal))
    assert len(found) == 6  # three tasks, the two shapes with known errors
    one = found.loc[("softmax", "float32", "16,384 x 1,000")]
    assert one["fastest, or level with it"] == "torch"
    assert set(one["most accurate"].split(", ")) == {"softmax_lab", "scipy"}
    # as accurate as the package, and faster
    assert set(one["beaten by none"].split(", ")) == {"torch", "scipy"}
    assert found.loc[("log-softmax", "float32", "65,536 x 10")].tolist() == ["softmax_lab"] * 3


@pytest.mark.parametrize(
    ("ms", "ulp", "fastest", "unbeaten"),
    [
        (1.8, 0.5, "torch, softmax_lab", {"torch", "softmax_lab"}),  # no slower, as accurate
        (1.8, 0.4, "torch, softmax_lab", {"torch"}),  # no slower, more accurate
        (2.2, 0.4, "softmax_lab, torch", {"torch"}),
        (2.2, 0.6, "softmax_lab, torch", {"softmax_lab"}),
        (2.9, 0.4, "softmax_lab", {"torch", "softmax_lab"}),
    ],
)
def test_standing_of_times_that_are_level(
    tmp_path: Path, ms: float, ulp: float, fastest: str, unbeaten: set[str]
) -> None:
    found = speed.standing(frame(tmp_path, row("softmax", cpu.SHAPES[1], "torch", ms=ms, max_ulp=ulp)))
    one = found.loc[("softmax", "float32", "16,384 x 1,000")]
    assert one["fastest, or level with it"] == fastest
    assert set(one["beaten by none"].split(", ")) == unbeaten


def test_bandwidth_counts_a_read_and_a_write(tmp_path: Path) -> None:
    found = speed.bandwidth(frame(tmp_path, dtypes=("float32", "float64")), cpu.SHAPES)
    n, k = cpu.SHAPES[1]
    assert found.loc[("float32", n, k), "copy"] == pytest.approx(2 * 4 * n * k / 1e-3 / 1e9)
    assert found.loc[("float64", n, k), "loss"] == pytest.approx(2 * 8 * n * k / 2e-3 / 1e9)
    assert list(found.columns) == ["loss", "softmax", "log_softmax", "copy"]
