"""The command line: exit status, messages, files."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import softmax_lab as sl
from softmax_lab import cli

from .limits import HANG

pytest.importorskip("pandas", reason="the audit needs pandas")

from softmax_lab.audit import CHECKS
from softmax_lab.audit.adapters import ADAPTERS
from softmax_lab.audit.subject import FUNCTIONS, KEYWORDS

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


def test_lost_digits_do_not_fail_where_only_what_is_wrong_is_to() -> None:
    """Of the textbook's softmax digits are lost; of its loss a confident row's value is 0."""
    assert status("audit", "numpy", *QUICK, "--quiet") == 1
    assert status("audit", "numpy", *QUICK, "--quiet", "--fail-on", "wrong") == 0
    loss = ["--dtype", "float32", "--function", "cross_entropy", "--quiet"]
    assert status("audit", "numpy", *loss, "--fail-on", "wrong") == 1
    assert status("audit", "softmax_lab", *loss, "--fail-on", "wrong") == 0


def test_quiet_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert status("audit", "numpy", *QUICK, "--quiet") == 1
    assert capfd.readouterr() == ("", "")


def test_files_are_written(tmp_path: Path) -> None:
    kinds = ("json", "csv", "html", "junit", "markdown")
    files = {kind: tmp_path / f"audit.{kind}" for kind in kinds}
    options = [text for kind, path in files.items() for text in (f"--{kind}", str(path))]
    assert status("audit", "numpy", *QUICK, "--dtype", "float64", "--quiet", *options) == 1
    results = json.loads(files["json"].read_text(encoding="utf-8"))["results"]
    assert {row["dtype"] for row in results} == {"float32", "float64"}
    assert {row["function"] for row in results} == {"softmax"}
    assert len(files["csv"].read_text(encoding="utf-8").splitlines()) == len(results) + 1
    assert files["html"].read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert f'tests="{len(results)}"' in files["junit"].read_text(encoding="utf-8")
    assert files["markdown"].read_text(encoding="utf-8").startswith("| implementation |")
    assert len(list(tmp_path.iterdir())) == len(kinds)


def test_the_list_names_implementations_and_cases(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
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
        (
            ["audit", "--exec", "absent-program"],
            "the program 'absent-program' cannot be started: No such file",
        ),
        (["audit", "--exec", "'"], "must be split as a shell splits it"),
        (["audit", "--exec", "true", "--exec-timeout", "0"], "must be above 0; got '0'"),
        (["audit", "pytorch"], "must be one of softmax_lab, numpy"),
        (["audit", "numpy", "--dtype", "float8"], "invalid choice: 'float8'"),
        (["audit", "numpy", "--function", "sigmoid"], "invalid choice: 'sigmoid'"),
        (["audit", "numpy", "--fail-on", "digits"], "invalid choice: 'digits'"),
        (["audit", "numpy", "--limit-ulp", "-1"], "a finite number >= 0; got '-1'"),
        (["audit", "numpy", "--limit-ulp", "nan"], "a finite number >= 0; got 'nan'"),
        (["audit", "numpy", "--limit-ulp", "four"], "a finite number >= 0; got 'four'"),
        (["audit", "numpy", "--json", "absent/audit.json"], "'absent' does not exist"),
        (["audit", "numpy", "--html", "."], "'.': is a directory"),
        (["audit", "numpy", "--csv", ""], "must be a file; got nothing"),
        (["audit", "numpy", "--csv", "-", "--json", "-"], "--json and --csv must name different files"),
        (["audit", "numpy", "--csv", "one", "--html", "./one"], "--csv and --html must name different files"),
        (["audit", "scipy", "--function", "cross_entropy_grad"], "nothing to audit in scipy"),
        (
            ["audit", "numpy", "numpy:tanh", "--function", "softmax"],
            "numpy:tanh must have at least one callable of softmax",
        ),
        (["audit", "json:decoder"], "json:decoder must have at least one callable of softmax"),
        (["audit", "absent_module:x"], "no module 'absent_module'"),
    ],
)
def test_what_cannot_be_run_is_status_2(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(*argv) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_a_missing_framework_is_status_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert status("audit", "torch") == 2
    assert capsys.readouterr().err == (
        "softmax-lab: error: the audit of torch needs torch; install it with: pip install "
        "'softmax-lab[torch]'\n"
    )


@pytest.mark.parametrize("argv", [["audit", "numpy"], ["audit", "--list"]])
@pytest.mark.parametrize(
    ("lacks", "words"),
    [
        (["pandas"], "the audit needs pandas; install it with: pip install 'softmax-lab[pandas]'"),
        (
            ["tqdm", "mpmath"],
            "the audit needs mpmath, tqdm; install them with: pip install 'softmax-lab[audit]'",
        ),
    ],
)
def test_a_missing_extra_is_status_2(
    argv: list[str],
    lacks: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in lacks:
        monkeypatch.setitem(sys.modules, module, None)
    assert status(*argv) == 2
    assert capsys.readouterr().err == f"softmax-lab: error: {words}\n"


def test_the_help_names_the_functions(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("audit", "--help") == 0
    out = capsys.readouterr().out
    for function in FUNCTIONS:
        assert re.search(rf"\b{function}\(z(, y)?\)", out)
    assert all(keyword in out for keyword in KEYWORDS)
    assert "bare function" in out
    assert "exit status: 0 nothing fails, 1 something does" in out


def test_ones_own_implementation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
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


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "softmax_lab.cli", "--version"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"softmax-lab {sl.__version__}\n")


# ---- audited code that would end, or stop, the program ----

SOFTMAX = """
import os
import sys
import numpy as np

def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)
"""


@pytest.fixture
def own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Callable[[str], str]:
    """Write a module of one's own into the current directory, and return its name."""
    monkeypatch.chdir(tmp_path)
    name = "own_" + re.sub(r"\W", "_", request.node.name)

    def write(code: str) -> str:
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return write


@pytest.mark.parametrize(
    "code",
    [
        "sys.exit(0)",
        "raise SystemExit",
        "class Own:\n    def __init__(self):\n        sys.exit()\nown = Own()",
    ],
)
def test_a_module_that_ends_the_program_is_status_2(
    code: str, own: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    name = own(f"{SOFTMAX}\n\n{code}\n")
    assert status("audit", f"{name}:softmax", *QUICK) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"softmax-lab: error: importing '{name}:softmax' raises SystemExit (")
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_a_function_that_ends_the_program_is_status_1(
    own: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    name = own("import sys\n\n\ndef softmax(z):\n    sys.exit(0)\n")
    assert status("audit", f"{name}:softmax", *QUICK) == 1
    assert "raises SystemExit (0), which ends the program" in capsys.readouterr().out


def test_types_that_end_the_program_are_status_2(
    own: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    code = (
        "class Own:\n    def softmax(self, z):\n        return z\n    @property\n    def "
        "dtypes(self):\n        raise SystemExit(0)\n"
    )
    name = own(f"{code}\n\nown = Own()\n")
    assert status("audit", f"{name}:own", *QUICK) == 2
    assert "raises SystemExit (0)" in capsys.readouterr().err


def test_one_implementation_without_a_finding_is_status_2(
    own: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    name = own("def softmax(z):\n    raise NotImplementedError\n")
    assert status("audit", "softmax_lab", f"{name}:softmax", *QUICK) == 2
    assert f"nothing to audit in {name}:softmax" in capsys.readouterr().err


@pytest.mark.parametrize("code", ["raise KeyboardInterrupt", "def softmax(z):\n    raise KeyboardInterrupt"])
def test_an_interruption_is_one_line_and_status_130(
    code: str, own: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    name = own(code)
    assert status("audit", f"{name}:softmax", *QUICK, "--json", "out.json") == 130
    assert capsys.readouterr() == ("", "softmax-lab: interrupted\n")
    assert not Path("out.json").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_ctrl_c_in_an_audit_is_one_line_and_status_130(own: Callable[[str], str]) -> None:
    # the shell starts a job in the background deaf to Ctrl-C, and with it what the job starts
    hearing = "import os\nimport signal\n\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n\n\n"
    name = own(f"{hearing}def softmax(z):\n    os.kill(os.getpid(), signal.SIGINT)\n    signal.pause()\n")
    done = program("audit", f"{name}:softmax", *QUICK, "--csv", "out.csv")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "softmax-lab: interrupted\n")
    assert not Path("out.csv").exists()


def test_a_bare_function_is_audited(own: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    name = own(SOFTMAX)
    assert status("audit", f"{name}:softmax", "--dtype", "float32") == 1
    out = capsys.readouterr().out
    assert f"{name}:softmax softmax (float32:" in out
    assert "log_softmax" not in out


# ---- programs ----

PROGRAM = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if "hello" in asked:
        said = {"name": "mine", "functions": ["softmax"], "dtypes": ["float32"]}
    else:
        print("a warning", file=sys.stderr)
        said = {"result": asked["logits"]}
    print(json.dumps(said), flush=True)
"""


@pytest.fixture
def running(tmp_path: Path) -> str:
    """Return the command of a program that answers every question, and wrongly."""
    (tmp_path / "mine.py").write_text(PROGRAM, encoding="utf-8")
    return shlex.join([sys.executable, str(tmp_path / "mine.py")])


def test_a_program_is_audited_beside_the_rest(
    running: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "audit.json"
    assert status("audit", "softmax_lab", "--exec", running, *QUICK, "--quiet", "--json", str(path)) == 1
    found = json.loads(path.read_text(encoding="utf-8"))["results"]
    assert {row["implementation"] for row in found} == {"softmax_lab", "mine"}
    assert all(row["ok"] for row in found if row["implementation"] == "softmax_lab")
    assert any("probabilities sum to" in row["problem"] for row in found if row["implementation"] == "mine")
    assert capfd.readouterr() == ("", "")


def test_two_programs_of_one_name_are_told_apart(running: str, capsys: pytest.CaptureFixture[str]) -> None:
    other = f"{running} again"
    assert status("audit", "--exec", running, "--exec", other, "--exec", running, *QUICK) == 1
    out = capsys.readouterr().out
    assert "mine softmax (float32:" in out
    assert f"mine ({other})" in re.sub(r"\s+", " ", out)
    assert len([line for line in out.splitlines() if line.startswith("mine ") and " of " in line]) == 2


def test_a_program_that_fails_at_once_is_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    command = f"{shlex.quote(sys.executable)} -c 'import sys; sys.exit(7)'"
    assert status("audit", "--exec", command, *QUICK) == 1
    assert "the program ended with status 7 before it answered" in re.sub(
        r"\s+", " ", capsys.readouterr().out
    )


# ---- standard output ----


def program(*argv: str, stdout: Any = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).resolve().parents[1])
    environment = os.environ | {"PYTHONPATH": root, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "softmax_lab.cli", *argv]
    return subprocess.run(
        command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=environment, check=False, timeout=HANG
    )


@pytest.mark.parametrize("kind", ["json", "csv", "html", "junit", "markdown"])
def test_a_report_on_standard_output_stands_alone(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status("audit", "numpy", *QUICK, f"--{kind}", "-") == 1
    captured = capsys.readouterr()
    starts = {
        "json": "{\n",
        "csv": "implementation,function,",
        "html": "<!DOCTYPE html>",
        "junit": "<?xml",
        "markdown": "| implementation |",
    }
    assert captured.out.startswith(starts[kind])
    assert "numpy softmax (float32:" not in captured.out
    assert "numpy softmax (float32:" in captured.err
    assert not Path("-").exists()


NOISY = (
    SOFTMAX.replace("    e =", "    print('in a call')\n    os.write(1, b'below')\n    e =")
    + "\nprint('at import')\n"
)


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="needs /dev/stdout")
@pytest.mark.parametrize("target", ["-", "/dev/stdout"])
def test_what_audited_code_prints_stays_out_of_the_report(target: str, own: Callable[[str], str]) -> None:
    name = own(NOISY)
    done = program("audit", f"{name}:softmax", *QUICK, "--quiet", "--json", target)
    assert {row["function"] for row in json.loads(done.stdout)["results"]} == {"softmax"}
    assert done.returncode == 1
    assert all(words in done.stderr for words in ("at import", "in a call", "below"))


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="needs /dev/stdout")
def test_a_file_that_the_shell_sends_standard_output_to_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    with path.open("w") as file:
        done = program("audit", "softmax_lab", *QUICK, "--json", str(path), stdout=file)
    assert done.returncode == 0
    assert "no problems" in done.stderr
    assert len(json.loads(path.read_text(encoding="utf-8"))["results"]) > 20


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "argv",
    [["audit", "--list"], ["audit", "softmax_lab", *QUICK], ["audit", "softmax_lab", *QUICK, "--csv", "-"]],
)
def test_a_full_disk_behind_standard_output_is_status_2(argv: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = program(*argv, stdout=full)
    assert done.returncode == 2
    assert "softmax-lab: error: cannot write standard output: No space left on device\n" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_summary_takes_the_characters_that_there_are(own: Callable[[str], str]) -> None:
    name = own("def softmax(z):\n    return None\n")
    done = program("audit", f"{name}:softmax", *QUICK)
    assert (done.returncode, done.stderr) == (1, "")
    assert "? ulp: softmax" in done.stdout
