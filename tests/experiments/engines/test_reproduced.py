"""Each reproduction is short, is of a cell of the atlas, and tells what it told when it was stored."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

pytest.importorskip("pandas", reason="the audit needs pandas")

from experiments import machine
from experiments.engines import report, reproduced
from experiments.engines.reproduced import Reproduction, recorded, reproductions

FOUND = reproductions()
MOST_LINES = 15


@pytest.mark.parametrize("each", FOUND, ids=lambda each: each.name)
def test_a_reproduction_is_short_and_of_a_faulty_cell(each: Reproduction) -> None:
    assert len(each.path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
    assert each.function in report.FUNCTIONS
    assert each.question in report.QUESTIONS
    assert "experiments" not in each.modules
    assert "softmax_lab" not in each.modules
    table = report.rows([each.engine])
    if table.empty:
        pytest.skip(f"the table has no {each.engine} yet")
    cases = table[
        (table["function"] == each.function) & (table["case"].map(report.question) == each.question)
    ]
    assert (~cases["ok"]).any()


@pytest.mark.parametrize("each", FOUND, ids=lambda each: each.name)
def test_a_reproduction_tells_what_it_told(each: Reproduction) -> None:
    by = reproduced.interpreter(each)
    if by is None:
        pytest.skip(reproduced.why_not(each))
    told, stored = reproduced.run(each, by), recorded()[each.name]
    computed = {line.removeprefix("computed").strip() for line in told.splitlines() if "computed" in line}
    exact = {line.removeprefix("exact").strip() for line in told.splitlines() if "exact" in line}
    assert computed
    assert exact
    assert not computed <= exact
    same = (reproduced.version_of(each.engine), machine.processor()) == (
        stored["version"],
        stored["processor"],
    )
    if same:  # another kernel may round otherwise
        assert told == stored["output"]


def test_every_reproduction_is_stored_and_nothing_else() -> None:
    assert set(recorded()) == {each.name for each in FOUND}


def test_every_kind_of_fault_of_an_engine_has_a_reproduction_or_a_reason() -> None:
    table = report.rows()
    assert not reproduced.without(table, FOUND)
    kinds = {(row.engine, report.kind(row)) for row in table.itertuples()}
    assert set(reproduced.WITHOUT) <= kinds, "a reason for what is not in the table"
    assert all(reproduced.WITHOUT.values())


def test_a_fault_that_no_program_shows_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    table = report.rows(["mnn"])
    shown = [each for each in FOUND if each.name in ("mnn_nan", "mnn_inf")]
    missing = reproduced.without(table, shown)
    assert set(missing) == {("mnn", "no row left")}
    assert missing["mnn", "no row left"][0] == "softmax, float32, -inf row"
    faults = {"no row left", "NaN unseen", "infinity unseen"}
    assert set(reproduced.without(table, [])) == {("mnn", fault) for fault in faults}
    monkeypatch.setattr(reproduced, "WITHOUT", {("mnn", "no row left"): "some reason"})
    assert not reproduced.without(table, shown)


def write(folder: Path, text: str) -> Path:
    path = folder / "one.py"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_program_without_its_first_line_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "print(1)\n")
    with pytest.raises(ValueError, match=r"one\.py must begin with"):
        reproductions(tmp_path)


def test_a_program_is_run_and_what_engines_say_beside_it_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, '"""numpy, softmax, NaN: nothing."""\n\nprint("hello")\nprint("computed", 1)\n')
    (each,) = reproductions(tmp_path)
    assert (each.engine, each.function, each.question) == ("numpy", "softmax", "NaN")
    assert reproduced.interpreter(each, tmp_path) == sys.executable
    assert reproduced.run(each, sys.executable) == "computed 1"


def test_what_fails_is_told_and_what_is_missing_has_no_python(tmp_path: Path) -> None:
    write(tmp_path, '"""caffe, softmax, NaN: nothing."""\n\nimport caffe_of_old\n')
    (each,) = reproductions(tmp_path)
    assert reproduced.interpreter(each, tmp_path) is None
    assert reproduced.why_not(each) == "caffe is not installed: no caffe_of_old here"
    with pytest.raises(RuntimeError, match="one: ModuleNotFoundError"):
        reproduced.run(each, sys.executable)


def test_an_engine_that_is_not_imported_must_be_installed_all_the_same(tmp_path: Path) -> None:
    write(tmp_path, '"""caffe-of-old, softmax, NaN: nothing."""\n\nimport os\n')
    (each,) = reproductions(tmp_path)
    assert reproduced.interpreter(each, tmp_path) is None
    assert reproduced.why_not(each) == "caffe-of-old is not installed: no caffe-of-old here"


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node on this machine")
def test_a_program_for_node_finds_the_packages_of_its_engine(tmp_path: Path) -> None:
    text = '// mine, softmax, NaN: nothing.\n\nconsole.log("computed", require("of-mine").value);\n'
    (tmp_path / "one.js").write_text(text, encoding="utf-8")
    (each,) = reproductions(tmp_path)
    assert (each.engine, each.function, each.question, each.words) == ("mine", "softmax", "NaN", "nothing.")
    assert each.modules == ["of-mine"]
    assert reproduced.interpreter(each, tmp_path) is None
    assert reproduced.why_not(each) == "mine is not installed: no of-mine here"
    package = tmp_path / "mine" / "node_modules" / "of-mine"
    package.mkdir(parents=True)
    (package / "index.js").write_text("exports.value = 7;\n", encoding="utf-8")
    by = reproduced.interpreter(each, tmp_path)
    assert by is not None
    assert reproduced.run(each, by, tmp_path) == "computed 7"


def test_each_is_stored_as_it_ends_in_place_of_what_it_told_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, '"""numpy, softmax, NaN: nothing."""\n\nprint("computed", 1)\n')
    monkeypatch.setattr(reproduced, "reproductions", lambda: reproductions(tmp_path))
    path, said = tmp_path / "told.csv", list[str]()
    reproduced.reproduce(path, tmp_path, say=said.append)
    assert recorded(path)["one"]["output"] == "computed 1"
    write(tmp_path, '"""numpy, softmax, NaN: nothing."""\n\nprint("computed", 2)\nprint("exact", 3)\n')
    reproduced.reproduce(path, tmp_path, say=said.append)
    assert recorded(path)["one"]["output"] == "computed 2\nexact 3"
    (tmp_path / "one.py").rename(tmp_path / "other.py")
    reproduced.reproduce(path, tmp_path, say=said.append)
    assert list(recorded(path)) == ["other"]
    assert said == ["one: reproduced", "one: reproduced", "other: reproduced"]
