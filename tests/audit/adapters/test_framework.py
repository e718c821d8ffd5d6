"""What an adapter needs: where it is, which version, and which extra installs it."""

from __future__ import annotations

import importlib.metadata
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

from softmax_lab._extras import EXTRAS
from softmax_lab.audit.adapters import FRAMEWORKS, Framework, MissingFramework, make

ROOT = Path(__file__).resolve().parents[3]
GONE = Framework("a_framework_that_is_gone", distributions=("gone-cpu", "gone-gpu"))


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=lambda framework: framework.module)
def test_its_extra_is_the_one_of_its_own(framework: Framework) -> None:
    base = framework.module in ("softmax_lab", "numpy")
    assert framework.extra == ("" if base else framework.module)
    assert base or framework.module in EXTRAS[framework.extra]


def test_the_extra_frameworks_brings_them_all() -> None:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    brought = {Requirement(text).name for text in table["optional-dependencies"]["frameworks"]}
    assert {framework.module for framework in FRAMEWORKS if framework.extra} <= brought


def test_what_is_installed_has_a_version_and_loads() -> None:
    numpy = Framework("numpy", part="numpy.linalg")
    assert numpy.installed
    assert numpy.version == np.__version__
    assert numpy.load() is np.linalg


def test_what_is_gone_has_none() -> None:
    assert not GONE.installed
    assert GONE.version is None


def test_the_first_distribution_that_is_there_tells_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(distribution: str) -> str:
        if distribution == "gone-gpu":
            return "2.0"
        raise importlib.metadata.PackageNotFoundError(distribution)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert GONE.version == "2.0"


def test_a_framework_that_lacks_a_part_says_which(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("import a_part_that_is_missing\n", encoding="utf-8")
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        MissingFramework, match=r"needs torch, which lacks a_part_that_is_missing; .*\[torch\]"
    ):
        make("torch")
