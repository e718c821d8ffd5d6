"""Of every measurement the newest counts, and a reader is told what and when it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments import speed
from experiments.benchmarks import cpu
from tests.experiments.speed.measurements import LATER, frame, row, run, stored


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


def test_narrower_vectors_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    rows = [
        *run(vectors=""),  # from before there was a choice
        *run(shapes=cpu.SHAPES[:1], when=LATER, ms=5.0),
        *run(when="2026-01-03T00:00:00", ms=9.0, vectors="256 of 512"),
    ]
    table = speed.read(stored(tmp_path, rows))
    assert len(table) == len(run())
    assert table.groupby("k")["ms"].max().to_dict() == {10: 5.0, 1000: 14.0, 32768: 14.0, 131072: 14.0}
    assert set(speed.read(stored(tmp_path, rows), vectors=256)["ms"]) == {9.0}
    with pytest.raises(ValueError, match=r"rows of 256 bits: run .*cpu --vectors 256"):
        speed.read(stored(tmp_path, run()), vectors=256)


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
