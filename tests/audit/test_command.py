"""Programs under the audit: those of the book, and some that crash, hang, or answer something else."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from softmax_lab import audit
from softmax_lab.audit import Command

from ..limits import HANG

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "book" / "protocol"

CASE = {check.name: check for check in audit.CHECKS}

# ---- the programs of the book ----

#: file -> what it is built with (OUT is the program) and run with
PROGRAMS: dict[str, tuple[str, str]] = {
    "softmax.py": ("", f"{shlex.quote(sys.executable)} FILE"),
    "softmax.js": ("", "node FILE"),
    "softmax.c": ("cc -O2 -o OUT FILE -lm", "OUT"),
    "softmax.rs": ("rustc -O -o OUT FILE", "OUT"),
    "softmax.R": ("", "Rscript FILE"),
    "softmax.sh": ("", "sh FILE"),
}


def built(name: str, folder: Path) -> str:
    """Build a program of the book and return the command that runs it, or skip the test."""
    build, run = (
        text.replace("FILE", shlex.quote(str(EXAMPLES / name))).replace(
            "OUT", shlex.quote(str(folder / "program"))
        )
        for text in PROGRAMS[name]
    )
    needed = shlex.split(build or run)[0]
    if shutil.which(needed) is None:
        pytest.skip(f"there is no {needed} on this machine")
    if build:
        subprocess.run(shlex.split(build), check=True, cwd=folder, timeout=HANG)
    return run


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_programs_of_the_book_pass_the_cases_that_are_not_about_digits(name: str, tmp_path: Path) -> None:
    # a shell reads a line byte by byte
    many = {"a million classes", "a hundred thousand classes", "long rows repeatable", "wide batch"}
    long = many if name.endswith(".sh") else set()
    with Command(built(name, tmp_path), timeout=HANG) as program:
        assert program.name == name
        assert len(program.dtypes) == 1
        found = {
            case: check.run(program, "softmax", program.dtypes[0])
            for case, check in CASE.items()
            if case not in long
        }
    problems = {case: finding.problem for case, finding in found.items() if finding and finding.wrong}
    assert problems == {}
    assert found["mask"] is None
    # that of a plain program: exp of a rounded difference, and a plain sum
    assert found["moderate"] is not None
    assert found["moderate"].max_ulp < 4
    assert found["NaN row"] is not None


def test_the_page_shows_every_program_and_names_the_tests_own_commands() -> None:
    page = (ROOT / "book" / "protocol.md").read_text(encoding="utf-8")
    shown = re.findall(r"```\{literalinclude\} protocol/(\S+)", page)
    assert sorted(shown) == sorted(path.name for path in EXAMPLES.iterdir()) == sorted(PROGRAMS)


# ---- programs that are wrong ----

#: what a program does with a question, as Python; HELLO is answered before
ACTS = {
    "crashes": "print('no cheese', file=sys.stderr); sys.exit(3)",
    "is killed": "os.kill(os.getpid(), 9)",
    "hangs": "print('thinking', file=sys.stderr, flush=True); time.sleep(3600)",
    "closes": "os.close(1); time.sleep(3600)",
    "answers garbage": "print('segmentation fault? no', flush=True)",
    "answers bytes": "os.write(1, bytes(range(128, 138)) + b'\\n')",
    "answers half a line": "os.write(1, b'{\"result\": [[1'); sys.exit(0)",
    "answers one row": "say({'result': asked['logits'][0]})",
    "answers nothing": "say({'result': []})",
    "answers null": "say({'result': [[None for _ in row] for row in asked['logits']]})",
    "answers twice": "say({'result': asked['logits']}); say({'result': asked['logits']}); time.sleep(0.3)",
    "raises": "say({'error': 'KeyError: cheese'})",
    "offers nothing": "say({'error': 'not offered: softmax'})",
}
#: what it does -> what the finding says of it
FOUND = {
    "crashes": "the program ended with status 3 before it answered; its standard error ends with: no cheese",
    "is killed": "the program was ended by SIGKILL before it answered",
    "hangs": "no answer within 1 s; the program was ended; its standard error ends with: thinking",
    "closes": "the program closed its standard output before it answered, and was ended",
    "answers garbage": "answers 'segmentation fault? no', which is no JSON; expected {\"result\": [...]}",
    "answers bytes": "which is no JSON",
    "answers half a line": "answers '{\"result\": [[1', which is no JSON",
    "answers one row": "returns shape (10,) for (8, 10) logits; expected (8, 10), one entry a logit",
    "answers nothing": "returns shape (0,) for (8, 10) logits; expected (8, 10)",
    "answers null": "the result holds 'null'",
    "raises": "answers with the error: KeyError: cheese",
}

FRAME = """
import json, os, sys, time

def say(answer):
    print(json.dumps(answer), flush=True)

for line in sys.stdin:
    asked = json.loads(line)
    if "hello" in asked:
        say({{"name": "strange", "functions": ["softmax"], "dtypes": ["float32", "float64"]}})
        continue
    {act}
"""

Strange = Callable[..., Command]


@pytest.fixture
def strange() -> Iterator[Strange]:
    """Return what makes a program that does as it is told with each question."""
    made: list[Command] = []

    def make(act: str, *, timeout: float = HANG, frame: str = FRAME) -> Command:
        made.append(Command([sys.executable, "-c", frame.format(act=act)], timeout=HANG))
        made[-1].timeout = timeout  # the start takes its time on a loaded machine
        return made[-1]

    yield make
    for program in made:
        program.close()


@pytest.mark.parametrize("what", FOUND)
def test_what_a_program_does_wrong_is_a_finding_in_words(what: str, strange: Strange) -> None:
    program = strange(ACTS[what], timeout=1.0 if what == "hangs" else HANG)
    finding = CASE["moderate"].run(program, "softmax", "float32")
    assert finding is not None
    assert FOUND[what] in finding.problem
    assert finding.wrong
    assert np.isinf(finding.max_ulp)


def test_a_second_answer_is_found_at_the_next_question(strange: Strange) -> None:
    program = strange(ACTS["answers twice"])
    first = CASE["one class"].run(program, "softmax", "float32")
    time.sleep(2.0)
    second = CASE["one class"].run(program, "softmax", "float32")
    assert first is not None
    assert second is not None
    assert "without being asked; expected one line an answer" in second.problem


def test_what_is_not_offered_is_left_out(strange: Strange) -> None:
    assert CASE["moderate"].run(strange(ACTS["offers nothing"]), "softmax", "float32") is None


@pytest.mark.parametrize("what", ["crashes", "hangs"])
def test_a_program_that_never_answers_is_started_three_times_and_no_more(
    what: str, strange: Strange, tmp_path: Path
) -> None:
    """Every case has its finding, and the audit its end."""
    log = tmp_path / "starts"
    counted = FRAME.replace("def say", f"open({str(log)!r}, 'a').write('started\\n')\n\ndef say")
    program = strange(ACTS[what], timeout=1.0, frame=counted)
    frame = audit.run({"strange": program}, progress=False)
    assert frame.wrong.all()
    assert len(frame) > 40
    assert log.read_text().count("started") == 3
    assert frame.problem.str.contains("not asked any more: the program crashed or hung 3 times").sum() > 30


def test_a_program_is_started_as_often_as_it_may_be() -> None:
    """A case that crashes it in each function and type hides no other."""
    act = "sys.exit(1) if len(asked['logits'][0]) == 1 else say({'result': asked['logits']})"
    with Command([sys.executable, "-c", FRAME.format(act=act)], timeout=HANG, starts=5) as program:
        for _ in range(4):
            crash, other = (CASE[name].run(program, "softmax", "float32") for name in ("one class", "tied"))
            assert crash is not None
            assert other is not None
            assert "ended with status 1" in crash.problem
            assert "probabilities sum to" in other.problem
    with pytest.raises(ValueError, match="starts must be >= 1; got 0"):
        Command([sys.executable], starts=0)


def test_a_program_that_crashes_once_answers_the_next_case(strange: Strange) -> None:
    act = "sys.exit(1) if len(asked['logits']) == 3 else say({'result': asked['logits']})"
    program = strange(act)
    tied, moderate = (CASE[name].run(program, "softmax", "float32") for name in ("tied", "moderate"))
    assert tied is not None
    assert moderate is not None
    assert "ended with status 1" in tied.problem
    assert "the program" not in moderate.problem
    assert "probabilities sum to" in moderate.problem


def test_a_well_behaved_program_is_started_once(strange: Strange, tmp_path: Path) -> None:
    log = tmp_path / "starts"
    counted = FRAME.replace("def say", f"open({str(log)!r}, 'a').write('started\\n')\n\ndef say")
    program = strange("say({'result': asked['logits']})", frame=counted)
    for case in ("moderate", "repeatable", "NaN row"):
        CASE[case].run(program, "softmax", "float32")
    assert log.read_text().count("started") == 1


#: a program from its first line on -> what the finding says of it
STRANGERS = {
    "pass": "the program ended with status 0 before it answered",
    "input(); print('Welcome!', flush=True); input()": "answers 'Welcome!', which is no JSON; expected {",
    "import time; time.sleep(3600)": "no answer within 1 s; the program was ended",
    'input(); print(\'{"name": "x", "functions": ["sofmax"]}\', flush=True); input()': (
        "'[\"sofmax\"]'; expected"
    ),
    # nobody knows whether the question or the greeting comes first
    "print('Welcome!', flush=True); input()": "'Welcome!'",
}


@pytest.mark.parametrize("code", STRANGERS, ids=range(len(STRANGERS)))
def test_a_program_that_does_not_introduce_itself_has_findings(code: str) -> None:
    program = Command([sys.executable, "-c", code], timeout=1.0 if "sleep" in code else HANG)
    assert program.name == shlex.join([sys.executable, "-c", code])
    frame = audit.run({"strange": program}, dtypes=["float32"], progress=False)
    assert frame.wrong.all()
    assert set(frame.function) == {"softmax", "log_softmax", "cross_entropy", "cross_entropy_grad"}
    assert frame.problem.str.contains(STRANGERS[code], regex=False).all()


def test_a_program_that_does_not_read_hangs_no_audit(strange: Strange) -> None:
    """A million logits do not fit a pipe: the question itself would wait."""
    frame = FRAME.replace("for line in sys.stdin:", "for line in [sys.stdin.readline(), '{{}}']:")
    program = strange("time.sleep(3600)", timeout=1.0, frame=frame)
    begin = time.perf_counter()
    finding = CASE["a million classes"].run(program, "softmax", "float32")
    assert finding is not None
    assert finding.problem.startswith("no answer within 1 s")
    assert time.perf_counter() - begin < HANG / 10


@pytest.mark.parametrize("stream", [1, 2])
def test_a_program_that_writes_without_end_fills_no_memory(stream: int, strange: Strange) -> None:
    act = f"import threading\n    while True: os.write({stream}, b'more and more\\n' * 1000)"
    program = strange(act, timeout=1.0)
    finding = CASE["moderate"].run(program, "softmax", "float32")
    assert finding is not None
    assert ("no answer within 1 s" if stream == 2 else "which is no JSON") in finding.problem
    assert len(program.stderr) < 2**20


def test_what_a_program_has_started_ends_with_it(strange: Strange, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    act = (
        "import subprocess; child = subprocess.Popen(['sleep', '3600']); "
        f"open({str(pid)!r}, 'w').write(str(child.pid)); time.sleep(3600)"
    )
    program = strange(act, timeout=5.0)
    assert CASE["moderate"].run(program, "softmax", "float32") is not None
    process = Path("/proc") / pid.read_text()
    for _ in range(100):
        if not process.exists() or "Z" in (process / "stat").read_text().rsplit(")")[-1].split()[0]:
            break
        time.sleep(0.1)
    else:
        pytest.fail("what the program had started still runs")


def test_standard_error_is_kept(strange: Strange) -> None:
    program = strange("print('a warning', file=sys.stderr, flush=True); say({'result': asked['logits']})")
    CASE["moderate"].run(program, "softmax", "float32")
    program.close()
    assert "a warning" in program.stderr


def test_questions_from_many_threads_come_one_after_another(strange: Strange) -> None:
    program: Any = strange("say({'result': asked['logits']})")
    rows = [np.full((1, 3), float(i)) for i in range(20)]
    answers: dict[int, Any] = {}

    def ask(i: int) -> None:
        answers[i] = program.softmax(rows[i])

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)
    assert all(np.array_equal(answers[i], rows[i]) for i in range(20))


def test_a_command_is_split_as_a_shell_splits_it_and_no_shell_runs(tmp_path: Path) -> None:
    path = tmp_path / "a b.py"
    path.write_text(FRAME.format(act="say({'error': sys.argv[1]})"), encoding="utf-8")
    with Command(f"{shlex.quote(sys.executable)} '{path}' '$HOME; exit'", timeout=HANG) as program:
        finding = CASE["moderate"].run(program, "softmax", "float32")
    assert finding is not None
    assert finding.problem == "answers with the error: $HOME; exit"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", "must name a program"),
        ([], "must name a program"),
        ("'", "split as a shell splits it"),
        ("absent-program --flag", "the program 'absent-program' cannot be started: No such file"),
        ([str(ROOT)], "cannot be started: Permission denied"),
    ],
)
def test_what_is_no_program_is_an_error(arguments: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Command(arguments)


def test_a_time_limit_is_above_zero() -> None:
    with pytest.raises(ValueError, match="timeout"):
        Command([sys.executable], timeout=0)
