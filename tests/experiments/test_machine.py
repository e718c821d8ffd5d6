"""A row says what machine it comes from."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import numpy as np
import pytest

import softmax_lab as sl
from experiments import machine


def test_the_processor_and_the_versions_are_named() -> None:
    assert machine.processor().strip()
    assert "\n" not in machine.processor()
    assert machine.versions().startswith(f"python {platform.python_version()}, ")
    assert f"numpy {np.__version__}" in machine.versions()


def test_circumstances_are_those_of_the_moment() -> None:
    found = machine.circumstances()
    assert found == {
        "when": found["when"],
        "processor": machine.processor(),
        "threads": sl.get_num_threads(),
        "versions": machine.versions(),
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", str(found["when"]))


def test_vectors_are_as_wide_as_the_processor_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    numba = pytest.importorskip("numba")
    for features, told, width in (
        ({"avx512f": True, "avx2": True}, None, "512"),
        ({"avx512f": True, "avx2": True}, "+avx2,-avx512f", "256 of 512"),
        ({"avx512f": False, "avx2": True}, "+avx2,-avx512f", "256"),
        ({"sse2": True}, None, "128"),
    ):
        monkeypatch.setattr(machine, "_features", lambda features=features: features)
        monkeypatch.setattr(numba.config, "CPU_FEATURES", told)
        assert machine.vectors() == width


def test_narrower_vectors_are_those_without_avx512(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = {"avx512f": True, "avx512vl": True, "avx2": True, "sse4a": False}
    monkeypatch.setattr(machine, "_features", lambda: features)
    told = machine.narrower(tmp_path)
    assert told["NUMBA_CPU_FEATURES"] == "+avx2,-avx512f,-avx512vl,-sse4a"
    assert told["NUMBA_CACHE_DIR"] == str(tmp_path)
    assert told["PATH"] == os.environ["PATH"]


def test_every_provider_is_told_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sl.get_num_threads()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "NPROC"):
        monkeypatch.setenv(name, "7")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    try:
        machine.limit_threads(1)
        assert sl.get_num_threads() == 1
        assert os.environ["OMP_NUM_THREADS"] == os.environ["TF_NUM_INTRAOP_THREADS"] == "1"
        assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"  # what is set is left alone
    finally:
        sl.set_num_threads(before)
