"""Chapter 10 reads the newest measurements, counts who is ahead, says where a peer is faster, and finds the
loops' sources.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import softmax_lab as sl
from experiments import speed
from experiments.benchmarks import cpu

FIRST, LATER = "2026-01-01T00:00:00", "2026-01-02T00:00:00"
#: milliseconds of each provider, at every shape and in every task, unless a test says otherwise
TIMES = {
    "copy": 1.0,
    "softmax_lab": 2.0,
    "torch": 14.0,
    "torch.compile": 6.0,
    "jax.jit": 8.0,
    "tf.function": 10.0,
    "scipy": 12.0,
}


def row(
    task: str, shape: tuple[int, int], provider: str, dtype: str = "float32", **changes: Any
) -> dict[str, Any]:
    """Return a row as the benchmark appends it: all times as in `TIMES`, half an ulp for the package, two for
    the peers.
    """
    ms = changes.get("ms", TIMES[provider])
    exact = shape[1] <= 1000 and provider != "copy"
    defaults = {
        "when": FIRST,
        "processor": "one",
        "threads": 2,
        "versions": "python 3",
        "task": task,
        "dtype": dtype,
        "n": shape[0],
        "k": shape[1],
        "provider": provider,
        "ms": ms,
        "ms_20": 0.9 * ms,
        "ms_80": 1.2 * ms,
        "repeats": 7,
        "copies": ms / TIMES["copy"],
        "max_ulp": (0.5 if provider == "softmax_lab" else 2.0) if exact else np.nan,
    }
    return defaults | changes


def run(shapes: Any = cpu.SHAPES, dtypes: Any = ("float32",), **changes: Any) -> list[dict[str, Any]]:
    """Return what one run of the benchmark appends."""
    return [
        row(task, shape, provider, dtype, **changes)
        for dtype in dtypes
        for shape in shapes
        for provider in TIMES
        for task in (cpu.TASKS if provider != "copy" else cpu.TASKS[:1])
    ]


def stored(tmp_path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as the benchmark does."""
    path = tmp_path / "cpu.csv"
    pd.DataFrame(rows)[list(cpu.COLUMNS)].to_csv(path, index=False)
    return path


def frame(
    tmp_path: Path, *rows: dict[str, Any], shapes: Any = cpu.SHAPES, dtypes: Any = ("float32",)
) -> pd.DataFrame:
    """Return a run as `read` gives it, with later rows on top."""
    return speed.read(stored(tmp_path, [*run(shapes, dtypes), *({**one, "when": LATER} for one in rows)]))


def test_the_newest_measurement_of_each_counts(tmp_path: Path) -> None:
    later = row("loss", cpu.SHAPES[1], "torch", ms=7.0, when=LATER)
    for rows in ([*run(), later], [later, *run()]):  # whatever the order in the file
        table = speed.read(stored(tmp_path, rows))
        assert len(table) == len(run())
        assert not table.duplicated(speed.KEY).any()
        chosen = table[(table["provider"] == "torch") & (table["task"] == "loss")].set_index("k")["ms"]
        assert chosen.to_dict() == {10: 14.0, 1000: 7.0, 32768: 14.0, 131072: 14.0}


def test_of_two_measurements_in_one_second_the_last_counts(tmp_path: Path) -> None:
    table = speed.read(stored(tmp_path, [*run(), row("loss", cpu.SHAPES[0], "copy", ms=3.0)]))
    assert table.query("provider == 'copy' and k == 10")["ms"].tolist() == [3.0]


def test_other_threads_and_other_processors_are_left_out(tmp_path: Path) -> None:
    rows = [
        *run(processor="old"),
        *run(when=LATER, ms=5.0),
        *run(threads=1, when="2026-01-03T00:00:00", processor="third"),
    ]
    path = stored(tmp_path, rows)
    assert set(speed.read(path)["ms"]) == {5.0}
    assert set(speed.read(path, threads=1)["processor"]) == {"third"}
    with pytest.raises(
        ValueError, match=r"with 3 threads, it has 1, 2: run python -m experiments.benchmarks.cpu --threads 3"
    ):
        speed.read(path, threads=3)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"other\.csv must have the columns .* it lacks when, processor"):
        speed.read(path)


def test_nanoseconds_a_logit(tmp_path: Path) -> None:
    table = frame(tmp_path)
    n, k = cpu.SHAPES[0]
    assert table.query("k == 10 and provider == 'softmax_lab'")["ns"].to_numpy() == pytest.approx(
        2e6 / (n * k)
    )


def test_a_shape_has_one_copy(tmp_path: Path) -> None:
    """What the file says of copies is a multiple of another one, timed before.

    The unit is the copy that has a row.
    """
    table = frame(tmp_path, row("loss", cpu.SHAPES[1], "copy", ms=4.0, copies=1.6))
    own = table[(table["provider"] == "softmax_lab") & (table["task"] == "loss")].set_index("k")
    assert own["copies"].to_dict() == {10: 2.0, 1000: 0.5, 32768: 2.0, 131072: 2.0}
    assert own["copies_before"].tolist() == [2.0] * 4
    assert speed.copy_scatter(table).tolist() == pytest.approx([1.0, 1.0, 1.0, 1.6])
    assert speed.copy_scatter(
        frame(tmp_path, row("loss", cpu.SHAPES[0], "copy", copies=0.5))
    ).max() == pytest.approx(2.0)
    assert (table.loc[table["provider"] == "copy", "copies"] == 1).all()


def test_origin_is_that_of_the_rows_that_count(tmp_path: Path) -> None:
    path = stored(tmp_path, [*run(processor="old"), *run(when=LATER, processor="new")])
    assert speed.origin(path) == "2026-01-02, with 2 threads of a processor that the system calls new"
    some = row("loss", cpu.SHAPES[0], "torch", when=LATER, processor="new")
    path = stored(tmp_path, [*run(processor="old"), some])
    assert (
        speed.origin(path)
        == "2026-01-01 to 2026-01-02, with 2 threads of a processor that the system calls old and new"
    )


def test_circumstances_tell_when_runs_are_mixed(tmp_path: Path) -> None:
    assert speed.circumstances(frame(tmp_path))["runs"] == "All times of one shape and type come from one run"
    mixed = speed.circumstances(
        frame(tmp_path, row("loss", cpu.SHAPES[1], "softmax_lab", versions="python 4"))
    )
    assert mixed["runs"] == "Times from several runs are compared at 16,384 x 1,000 float32"
    assert mixed["versions"] == "python 3; python 4"
    assert mixed["when"] == "2026-01-01 to 2026-01-02"
    assert mixed["threads"] == "2"


def test_spread(tmp_path: Path) -> None:
    assert speed.spread(frame(tmp_path)).to_numpy() == pytest.approx(0.3)


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
    assert speed.brief(frame(tmp_path), "loss") == "the fastest in 4 of 4 cases"
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
        "the fastest in 1 of 4 cases, level with the fastest peer in 1 and slower in 2 "
        "(at worst 2.0 times as long as torch, at 10 classes in float32)"
    )
    assert speed.verdict(table, "softmax") == "softmax_lab is the fastest in 4 of 4 cases"


def test_the_worst_of_a_brief_may_be_a_level_one(tmp_path: Path) -> None:
    table = frame(tmp_path, row("loss", cpu.SHAPES[2], "scipy", ms=1.6))
    assert speed.brief(table, "loss") == (
        "the fastest in 3 of 4 cases and level with the fastest peer in 1 "
        "(at worst 1.2 times as long as scipy, at 32,768 classes in float32)"
    )
    ahead = frame(tmp_path, row("loss", cpu.SHAPES[2], "scipy", ms=2.1))
    assert speed.brief(ahead, "loss") == "the fastest in 3 of 4 cases and level with the fastest peer in 1"


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


def test_cost_is_measured_on_one_thread() -> None:
    before = sl.get_num_threads()
    sl.set_num_threads(3)
    try:
        found = speed.cost([(4, 3), (2, 100)], "softmax", budget=0.0)
        assert sl.get_num_threads() == 3
    finally:
        sl.set_num_threads(before)
    assert list(found.index) == [(4, 3), (2, 100)]
    assert (found > 0).all()
    assert np.isfinite(found).all()


def test_store_traffic_measures_three_ways() -> None:
    found = speed.store_traffic(1000, budget=0.0)
    assert list(found.index) == ["copied to another array", "negated to another array", "negated in place"]
    assert (found > 0).all()


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (
            (0.30, 0.45, 0.30),
            "1.50 times .* as the count of bytes says, .* one that streams: the floor of a kernel is 1.5 "
            "copies, or 1 ",
        ),
        (
            (0.46, 0.45, 0.30),
            "with ordinary stores: the floor of a kernel is 1 copy, or 0.67 where it streams",
        ),
        (
            (0.75, 0.50, 0.14),
            "3.57 times as long .* bytes says 1.5, and the copy 1.50 and 5.36 times .* do not tell which "
            "stores the copy has",
        ),
        ((0.75, 0.45, 0.30), "do not tell"),  # a copy like neither
        ((0.37, 0.44, 0.32), "do not tell"),  # a copy like both
    ],
)
def test_stores_are_told_where_bytes_explain_the_times(times: tuple[float, ...], words: str) -> None:
    assert re.search(words, speed.store_words(pd.Series(times)))


@pytest.mark.parametrize("name", speed.LISTINGS)
def test_every_listing_is_the_source_of_its_function(name: str) -> None:
    text = speed.listing(name)
    assert text.startswith("```python\n")
    assert text.endswith("\n```")
    assert re.search(rf"^def {speed.LISTINGS[name][1]}\(", text, re.MULTILINE)


@pytest.mark.parametrize("name", speed.CONSTANTS)
def test_every_constant_is_found(name: str) -> None:
    assert np.all(np.asarray(speed.constant(name)) != 0)


def test_reduction_is_the_nearest_integer_and_the_rest() -> None:
    d = -np.linspace(0, 103, 5001)
    steps = speed.reduction(d)
    assert (steps["n"] == np.rint(d / np.log(2))).all()
    assert (steps["r"].abs() <= np.log(2) / 2 + 1e-12).all()
    np.testing.assert_allclose(steps["n"] * np.log(2) + steps["r"], d, atol=1e-13)
    assert steps["error"].abs().max() < 2 * speed.polynomial_error()


def test_polynomial_error_is_that_of_the_compiled_exponential() -> None:
    assert 2.0**-34 < speed.polynomial_error() < 2.0**-33


@pytest.mark.parametrize("dtypes", [("float32",), ("float32", "float64")])
def test_pictures_have_a_panel_for_everything_measured(tmp_path: Path, dtypes: tuple[str, ...]) -> None:
    table = frame(tmp_path, shapes=[*cpu.SHAPES, *cpu.SWEEP], dtypes=dtypes)
    drawn = speed.classes_picture(table)
    assert len(drawn.axes) == 3 * len(dtypes)
    assert all(len(axis.lines) == len(speed.LOOK) for axis in drawn.axes)
    assert all(np.size(line.get_xdata()) == len(cpu.SWEEP) for axis in drawn.axes for line in axis.lines)
    scatter = speed.accuracy_picture(table)
    assert len(scatter.axes) == 6  # three tasks, two shapes with known errors
    for axis in scatter.axes:
        assert len(axis.lines) == 6 * len(dtypes)
        low, high = axis.get_ylim()
        assert low > high  # small errors are up
    rates = speed.bandwidth_picture(table)
    assert [axis.get_title() for axis in rates.axes] == list(dtypes)
    assert all(len(axis.lines) == 8 for axis in rates.axes)


def test_cost_picture_marks_where_the_loops_change() -> None:
    rows = pd.Series([2.0, 1.0], index=pd.MultiIndex.from_tuples([(1, 10), (1, 1000)], names=["n", "k"]))
    figure = speed.cost_picture(rows, dict.fromkeys(speed.TASKS, rows))
    assert isinstance(figure, Figure)
    left, right = figure.axes
    assert [line.get_label() for line in left.lines] == ["K = 10", "K = 1,000"]
    assert len(right.lines) == 3 + 3


def test_the_stored_measurements_are_complete() -> None:
    table = speed.read()
    for shapes in (cpu.SHAPES, cpu.SWEEP):
        for task in cpu.TASKS:
            compared = speed.comparison(table, task, shapes)
            found = {(n, k) for dtype, n, k in compared.index if dtype == "float32"}
            assert found == set(shapes)
            assert compared[list(speed.PEERS)].notna().all(axis=None)
    assert (table["repeats"] >= 7).all()
    assert (table["ms_20"] <= table["ms"]).all()
    assert (table["ms"] <= table["ms_80"]).all()


def test_the_family_beside_the_plain_loss() -> None:
    costs = speed.family_costs()
    assert {"margin", "smoothing", "class weight", "scale", "soft cap"} <= set(costs.index)
    assert costs.loc["margin"].notna().all()
    assert (costs.stack().dropna() > 0.5).all()
    assert set(speed.product_gains().index) == {"Hessian-vector product", "softmax VJP"}
    assert (speed.family_scatter() >= 1).all()
    assert list(speed.family_scatter().index) == list(costs.columns)


def test_the_plain_loss_scatters(tmp_path: Path) -> None:
    header = "task,dtype,n,k,ms,peer,peer_ms,ratio"
    rows = [
        f"margin,float32,8,4,1,{peer},{ms},1"
        for peer, ms in (("plain loss", 9.0), ("plain loss", 2.0), ("torch backward", 50.0))
    ]
    rows += [
        "gate,float32,8,4,1,plain loss,3.0,1",
        "distribution as target,float32,8,4,1,plain loss,70.0,1",
        "gate,float64,8,4,1,plain loss,8.0,1",
    ]
    (tmp_path / "t.csv").write_text("\n".join([header, *rows]))
    assert speed.family_scatter(tmp_path / "t.csv").to_dict() == {"8 x 4": 1.5}


def test_autograd_has_both_tasks_and_all_types(tmp_path: Path) -> None:
    table = speed.autograd()
    assert set(table.index.get_level_values("task")) == {"loss", "step"}
    assert set(table.loc["loss"].index.get_level_values("dtype")) == {"float32", "bfloat16", "float16"}
    header = "task,dtype,n,k,provider,ms,buffers"
    # the last counts
    rows = ["softmax_lab,2.0,1.0", "torch,9.0,3.0", "torch.compile,5.0,1.0", "torch,8.0,3.0"]
    (tmp_path / "t.csv").write_text("\n".join([header, *(f"loss,float32,4,3,{row}" for row in rows)]))
    row = speed.autograd(tmp_path / "t.csv").iloc[0]
    assert row.tolist() == [2.0, 4.0, 2.5, 1.0, 3.0]


def test_half_precision_is_compared_at_both_scales(tmp_path: Path) -> None:
    table = speed.half_precision()
    assert set(table.index.get_level_values("scale")) == {1.0, 65536.0}
    assert set(table.index.get_level_values("dtype")) == {"bfloat16", "float16"}
    header = "dtype,n,k,scale,provider,ms,zeros"
    rows = ["softmax_lab,2.0,0.0", "one pass,1.0,0.5", "torch,9.0,0.25", "torch,8.0,0.25"]  # the last counts
    (tmp_path / "t.csv").write_text("\n".join([header, *(f"float16,4,3,65536.0,{row}" for row in rows)]))
    assert speed.half_precision(tmp_path / "t.csv").iloc[0].tolist() == [2.0, 0.5, 4.0, 0.0, 0.5, 0.25]


def test_linear_layers_are_medians(tmp_path: Path) -> None:
    lines = [
        "dtype,n,d,v,provider,seconds,ratio,peak_mb",
        *(f"float32,8,4,5,ours,{s},{s / 2},{10 * s}" for s in (1, 2, 9)),
    ]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    assert speed.linear_layers(tmp_path / "t.csv").iloc[0].tolist() == [2.0, 1.0, 20.0]
    assert "softmax_lab" in speed.linear_layers().index.get_level_values("provider")
