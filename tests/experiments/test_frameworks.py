"""The stored audit and chapter 4's demonstrations: resumed, atomic, honest about what is missing."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import softmax_lab as sl
from experiments import frameworks
from softmax_lab.audit import adapters

SMALL: dict[str, Any] = {"dtypes": ["float32"], "functions": ["cross_entropy_grad"]}


def quietly(_: str) -> None:
    """Say nothing."""


def test_audit_is_written_and_read_back_as_the_audit_found_it(tmp_path: Path) -> None:
    path = tmp_path / "results" / "audit.csv"
    frameworks.run_audit(["softmax_lab", "numpy"], path, say=quietly, **SMALL)
    stored = frameworks.read_audit(path)
    found = sl.audit.run(["softmax_lab", "numpy"], progress=False, **SMALL)
    assert stored["case"].tolist() == found["case"].tolist()
    assert stored["ok"].tolist() == found["ok"].tolist()
    assert stored["reason"].tolist() == found["reason"].tolist()
    assert stored["problem"].tolist() == found["problem"].tolist()
    np.testing.assert_allclose(stored["max_ulp"], found["max_ulp"], rtol=1e-3)
    assert set(stored["version"]) == {sl.__version__, np.__version__}
    assert [entry.name for entry in path.parent.iterdir()] == ["audit.csv"]  # nothing temporary is left


def test_audit_is_taken_up_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "audit.csv"
    frameworks.run_audit(["numpy"], path, say=quietly, **SMALL)
    asked: list[str] = []
    run = sl.audit.run

    def counted(implementations: Any, **keywords: Any) -> pd.DataFrame:
        asked.extend(implementations)
        return run(implementations, **keywords)

    monkeypatch.setattr(sl.audit, "run", counted)
    table = frameworks.run_audit(["softmax_lab", "numpy"], path, say=quietly, **SMALL)
    assert asked == ["softmax_lab"]
    assert list(dict.fromkeys(table["implementation"])) == ["softmax_lab", "numpy"]  # in the adapters' order
    frameworks.run_audit(["numpy"], path, fresh=True, say=quietly, **SMALL)
    assert asked == ["softmax_lab", "numpy"]
    assert set(frameworks.read_audit(path)["implementation"]) == {"numpy"}


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "audit.csv"
    path.write_text("old")

    def fail(self: pd.DataFrame, target: Path, **_: object) -> None:
        Path(target).write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(pd.DataFrame, "to_csv", fail)
    with pytest.raises(OSError, match="disk full"):
        frameworks.write_audit(pd.DataFrame({"case": ["x"]}), path)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["audit.csv"]


def test_missing_framework_is_named_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise adapters.MissingFramework("torch is not installed: pip install 'softmax-lab[frameworks]'")

    monkeypatch.setitem(adapters.ADAPTERS, "torch", missing)
    monkeypatch.setattr(adapters, "installed", lambda name: name != "torch")
    said: list[str] = []
    table = frameworks.run_audit(["torch", "numpy"], tmp_path / "audit.csv", say=said.append, **SMALL)
    assert set(table["implementation"]) == {"numpy"}
    assert said[0].startswith("torch: left out:")
    assert "softmax-lab[frameworks]" in said[0]
    assert frameworks.available(["numpy", "torch"]) == ["numpy"]
    assert (
        frameworks.absent(["numpy", "torch"])
        == "not installed, and left out: torch; pip install 'softmax-lab[frameworks]'"
    )
    assert frameworks.absent(["numpy"]) == ""
    with pytest.raises(adapters.MissingFramework):
        frameworks.torch_modes()


def table_of(*rows: tuple[str, str, str, bool]) -> pd.DataFrame:
    """Return a small audit of gradients: implementation, dtype, case, ok."""
    return pd.DataFrame(rows, columns=["implementation", "dtype", "case", "ok"]).assign(
        function="cross_entropy_grad"
    )


def test_shared_failures_are_told_from_those_of_some() -> None:
    table = table_of(
        ("a", "float32", "all", False),
        ("b", "float32", "all", False),
        ("a", "float32", "some", False),
        ("b", "float32", "some", True),
        ("a", "float32", "none", True),
        ("b", "float32", "none", True),
        ("a", "float32", "offered by one", False),
        ("softmax_lab", "float32", "all", True),
        ("b", "float64", "none", False),
    )
    found = frameworks.shared(table, ["cross_entropy_grad"])
    assert found == {
        ("cross_entropy_grad", "all"): True,
        ("cross_entropy_grad", "offered by one"): False,
        ("cross_entropy_grad", "some"): False,
    }
    assert frameworks.shared(table, ["softmax"]) == {}


def test_failing_means_in_every_type_asked_for() -> None:
    table = table_of(
        ("a", "float32", "x", False),
        ("a", "float64", "x", False),
        ("b", "float32", "x", False),
        ("b", "float64", "x", True),
    )
    assert frameworks.failing(table, "cross_entropy_grad", "x") == ["a"]
    assert frameworks.failing(table, "cross_entropy_grad", "x", ["float32"]) == ["a", "b"]
    assert frameworks.failing(table, "cross_entropy_grad", "y") == []


def test_the_stored_audit_is_complete() -> None:
    table = frameworks.read_audit()
    assert list(dict.fromkeys(table["implementation"])) == list(adapters.ADAPTERS)
    assert table.groupby("implementation")["version"].nunique().eq(1).all()
    assert not table.duplicated(["implementation", "function", "dtype", "case"]).any()
    assert table["reason"].notna().all()  # every stored case is one of today's
    assert (table.loc[table["ok"], "max_ulp"].fillna(0) <= frameworks.LIMIT_ULP * 1.001).all()
    assert (table.loc[~table["ok"], "problem"].str.len() > 10).all()


def test_the_stored_audit_of_this_package_is_todays() -> None:
    stored = frameworks.read_audit().query(
        "implementation == 'softmax_lab' and dtype == 'float32' and function == 'cross_entropy_grad'"
    )
    found = sl.audit.run(["softmax_lab"], progress=False, **SMALL)
    assert stored["case"].tolist() == found["case"].tolist()
    assert stored["ok"].tolist() == found["ok"].tolist()


def test_sleeping_releases_the_lock_and_one_long_call_does_not() -> None:
    sleeping = frameworks.lock_release(lambda: time.sleep(0.05), repeats=9)
    objects = np.arange(2_000_000).astype(object)
    held = frameworks.lock_release(lambda: np.add(objects, objects), repeats=9)
    assert sleeping.share > 0.4
    assert held.share < sleeping.share / 2
    assert sleeping.seconds >= 0.045


@pytest.mark.parametrize("name", ["softmax_lab", "numpy"])
def test_answers_in_words(name: str) -> None:
    told = frameworks.answers(name)
    assert told["log_softmax, NaN in the row"] == "nan nan nan"
    assert told["loss, label's logit -inf"] == "inf"
    assert told["loss, label K"] == "raises IndexError"
    assert told["loss, label -1"] == ("raises IndexError" if name == "softmax_lab" else "0.408")


def test_answers_where_nothing_is_left() -> None:
    assert list(frameworks.nothing_left("softmax_lab").values()) == ["nan", "0 0 0"]
    assert set(frameworks.nothing_left("numpy").values()) == {"not offered"}


def test_scipy_offers_no_gradient() -> None:
    pytest.importorskip("scipy")
    assert frameworks.answers("scipy")["gradient, label K"] == "not offered"


def test_torch_modes_leave_the_threads_alone() -> None:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    modes = frameworks.torch_modes()
    assert torch.get_num_threads() == before
    assert modes["graph of cross_entropy"].startswith("NllLossBackward")


def test_smoothing_lowers_confidence_and_reaches_the_label_noise() -> None:
    setting = frameworks.Digits(train_rows=100, hidden=16, steps=60, seeds=(0,))
    plain, smooth = frameworks.smoothing_runs((0.0, 0.3), setting)
    assert (plain.eps, smooth.eps) == (0.0, 0.3)
    assert smooth.confidence < plain.confidence
    assert smooth.gap < plain.gap
    assert 0 <= plain.ece <= 1
    noisy = frameworks.smoothing_runs((0.0,), setting._replace(noise=0.9))[0]
    assert noisy.accuracy < plain.accuracy - 0.1
    assert frameworks.smoothing_runs((0.0,), setting)[0] == plain


def test_weighted_optimum_is_a_distribution() -> None:
    ours, terms = frameworks.weighted_optimum(np.array([1.0, 3.0]), 0, 0.5)
    np.testing.assert_allclose(ours, [0.75, 0.25])
    np.testing.assert_allclose(terms, [0.5, 0.5])


def test_half_precision_loses_most_where_the_offset_is_large() -> None:
    near, far = frameworks.half_precision(0.0), frameworks.half_precision(100.0)
    assert (far.loc["logits stored in it"] > near.loc["logits stored in it"]).all()
    assert (near.loc["computed in float32 from them"] < 1e-6).all()


def test_free_logits_descend_and_keep_their_mean() -> None:
    path = frameworks.free_logits(np.array([3.0, 5.0]), 0, sl.LossSpec(), steps=20, learning_rate=0.5)
    assert path.shape == (21, 2)
    loss = sl.cross_entropy(path, np.zeros(21, np.int64), reduction="none")
    assert (np.diff(loss) < 0).all()
    np.testing.assert_allclose(path.mean(axis=1), 4.0)


def test_the_program_writes_the_file_that_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")  # the program sets it where it is not set
    frameworks.main(["softmax_lab", "--out", str(tmp_path / "a.csv")])
    table = frameworks.read_audit(tmp_path / "a.csv")
    assert table["ok"].all()
    assert set(table["dtype"]) == {"float16", "bfloat16", "float32", "float64"}


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="tensorflow is not installed")
def test_tensorflow_in_a_fresh_process() -> None:
    assert frameworks.tensorflow_nan_row(onednn=False) == "nan nan nan nan"
