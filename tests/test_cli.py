"""The command line: exit status, messages, files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import softmax_lab as sl
from softmax_lab import cli

pytest.importorskip("pandas", reason="the audit needs pandas")

from softmax_lab.audit import CHECKS
from softmax_lab.audit.adapters import ADAPTERS
from softmax_lab.audit.values import FUNCTIONS

QUICK = ["--dtype", "float32", "--function", "softmax"]


def status(*argv: str) -> int:
    """Return the exit status, argparse's own included."""
    try:
        return cli.main(argv)
    except SystemExit as stop:
        return int(str(stop.code))


def test_all_within_the_limit_is_status_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("audit", "softmax_lab", *QUICK) == 0
    assert "no problems" in capsys.readouterr().out


def test_anything_over_the_limit_is_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("audit", "numpy", "softmax_lab", *QUICK) == 1
    out = capsys.readouterr().out
    assert "numpy softmax (float32:" in out
    assert "softmax_lab softmax (" not in out


def test_the_limit_decides() -> None:
    assert status("audit", "softmax_lab", *QUICK, "--quiet", "--limit-ulp", "0.01") == 1


def test_quiet_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert status("audit", "numpy", *QUICK, "--quiet") == 1
    assert capfd.readouterr() == ("", "")


def test_files_are_written(tmp_path: Path) -> None:
    files = {kind: tmp_path / f"audit.{kind}" for kind in ("json", "csv", "html")}
    options = [text for kind, path in files.items() for text in (f"--{kind}", str(path))]
    assert status("audit", "numpy", *QUICK, "--dtype", "float64", "--quiet", *options) == 1
    results = json.loads(files["json"].read_text(encoding="utf-8"))["results"]
    assert {row["dtype"] for row in results} == {"float32", "float64"}
    assert {row["function"] for row in results} == {"softmax"}
    assert len(files["csv"].read_text(encoding="utf-8").splitlines()) == len(results) + 1
    assert files["html"].read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert len(list(tmp_path.iterdir())) == 3


def test_the_list_names_implementations_and_cases(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jax", None)
    assert status("audit", "--list") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for name in ADAPTERS:
        assert any(line[0] == name for line in lines)
    assert ["jax", "not", "installed"] in lines
    assert ["numpy", "installed"] in lines
    for check in CHECKS:
        assert [*check.name.split(), *check.reason.split()] in lines


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("--version") == 0
    assert capsys.readouterr().out == f"softmax-lab {sl.__version__}\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "required"),
        (["audit"], "name at least one implementation"),
        (["audit", "pytorch"], "must be one of softmax_lab, numpy"),
        (["audit", "numpy", "--dtype", "float8"], "invalid choice: 'float8'"),
        (["audit", "numpy", "--function", "sigmoid"], "invalid choice: 'sigmoid'"),
        (["audit", "numpy", "--limit-ulp", "-1"], "a finite number >= 0; got '-1'"),
        (["audit", "numpy", "--limit-ulp", "nan"], "a finite number >= 0; got 'nan'"),
        (["audit", "numpy", "--limit-ulp", "four"], "a finite number >= 0; got 'four'"),
        (["audit", "numpy", "--json", "absent/audit.json"], "'absent' does not exist"),
        (["audit", "numpy", "--html", "."], "got the directory '.'"),
        (["audit", "scipy", "--function", "cross_entropy_grad"], "nothing to audit"),
        (["audit", "json:decoder"], "json:decoder must have at least one callable of softmax"),
        (["audit", "absent_module:x"], "no module 'absent_module'"),
    ],
)
def test_what_cannot_be_run_is_status_2(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(*argv) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_a_missing_framework_is_status_2(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert status("audit", "torch") == 2
    assert capsys.readouterr().err == "softmax-lab: error: torch is not installed: pip install 'softmax-lab[frameworks]'\n"


@pytest.mark.parametrize("argv", [["audit", "numpy"], ["audit", "--list"]])
def test_a_missing_extra_is_status_2(argv: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert status(*argv) == 2
    assert capsys.readouterr().err == "softmax-lab: error: the audit needs pandas: pip install 'softmax-lab[audit]'\n"


def test_ones_own_implementation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own_softmax.py").write_text(
        "import numpy as np\n\n\nclass naive:\n    @staticmethod\n    def softmax(z):\n"
        "        e = np.exp(z)\n        return e / e.sum(axis=1, keepdims=True)\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    assert status("audit", "own_softmax:naive", "--dtype", "float32") == 1
    assert "own_softmax:naive softmax (float32:" in capsys.readouterr().out


def test_a_module_of_ones_own_that_fails_is_not_taken_for_audited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own_broken.py").write_text("1 / 0\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert status("audit", "own_broken:x") == 2
    assert "importing 'own_broken:x' raises ZeroDivisionError: division by zero" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_is_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(Path, "replace", fails)
    assert status("audit", "softmax_lab", *QUICK, "--csv", str(tmp_path / "audit.csv")) == 2
    assert "cannot write" in capsys.readouterr().err


def test_functions_are_those_of_the_audit() -> None:
    assert cli._FUNCTIONS == FUNCTIONS


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "softmax_lab.cli", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"softmax-lab {sl.__version__}\n")
