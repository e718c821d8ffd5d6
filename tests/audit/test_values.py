"""The stored exact values: complete, and equal to what the oracle says today."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from softmax_lab import LossSpec
from softmax_lab.audit import values
from softmax_lab.audit.cases import GOOD, HARD_ROWS, RowCase, labelled
from softmax_lab.audit.subject import FUNCTIONS, LOG_LOSSES

SAMPLE = [case for case in HARD_ROWS if case.name in ("confident", "offset 1e4", "tiny", "-inf", "tied")]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: case.name)
def test_a_sample_is_recomputed(case: RowCase, dtype: str) -> None:
    rows = case.make(dtype)
    pairs, labels = labelled(rows)
    for function in FUNCTIONS:
        if function in LOG_LOSSES and case.name != "confident":
            continue  # asked of other rows
        z, y = (pairs, labels) if "cross_entropy" in function else (rows, None)
        stored = values.exact_values(function, z, y)
        fresh = values._compute(function, z.astype(np.float64), y, LossSpec())
        np.testing.assert_array_equal(stored.high, fresh.high)
        np.testing.assert_array_equal(stored.low, fresh.low)


def test_every_check_finds_its_values_in_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """An audit needs no mpmath: what the file lacks would be computed, and here that is an error."""
    from softmax_lab import audit

    def refuse(*arguments: object) -> None:
        raise AssertionError("not stored: run tools/exact_values.py")

    monkeypatch.setattr(values, "_compute", refuse)
    monkeypatch.setattr(values, "_computed", {})
    assert audit.run(["softmax_lab"], progress=False).ok.all()


def test_the_digest_sees_every_argument() -> None:
    z, y = GOOD.make("float64"), np.arange(4)
    names = {
        values.digest("softmax", z, None, LossSpec()),
        values.digest("log_softmax", z, None, LossSpec()),
        values.digest("softmax", z + 1, None, LossSpec()),
        values.digest("softmax", z.T.copy(), None, LossSpec()),
        values.digest("cross_entropy", z, y, LossSpec()),
        values.digest("cross_entropy", z, y + 1, LossSpec()),
        values.digest("cross_entropy", z, y, LossSpec(smoothing=0.1)),
    }
    assert len(names) == 7


def test_values_are_stored_anew_and_read_back(tmp_path: Path) -> None:
    path, z = tmp_path / "exact.npz", np.array([[0.25, -1.5]])
    before = values.exact_values("softmax", z)
    with values.storing(path):
        fresh = values.exact_values("softmax", z)
    with np.load(path) as archive:
        assert list(archive) == [values.digest("softmax", z, None, LossSpec())]
        np.testing.assert_array_equal(archive[archive.files[0]], np.stack(fresh[:2]))
    np.testing.assert_array_equal(fresh[:2], before[:2])
    assert len(values._stored()) > 100  # the package's own file is known again


def test_an_error_leaves_the_stored_values_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "exact.npz"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), values.storing(path):
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["exact.npz"]
