"""Implementations of the user's own: found, or refused with the reason."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from softmax_lab.audit.adapters import ExitError, make


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of the user's, entered."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_object_of_ones_own(own: Path) -> None:
    (own / "own_module_a.py").write_text(
        "class space:\n    class inner:\n        value = 3\n", encoding="utf-8"
    )
    before = list(sys.path)
    assert make("own_module_a:space.inner").value == 3
    assert sys.path == before


def test_a_reference_that_leads_nowhere(own: Path) -> None:
    (own / "own_module_b.py").write_text("", encoding="utf-8")
    for reference, message in (
        ("own_module_b:absent", "own_module_b has no 'absent'"),
        ("own_module_absent:x", "no module 'own_module_absent'"),
        ("own_module_b:", "named module:object"),
        (":x", "named module:object"),
    ):
        with pytest.raises(ValueError, match=message):
            make(reference)


def test_what_ones_own_module_fails_to_import_is_not_hidden(own: Path) -> None:
    (own / "own_module_c.py").write_text("import something_not_there\n", encoding="utf-8")
    with pytest.raises(ModuleNotFoundError, match="something_not_there"):
        make("own_module_c:x")


@pytest.mark.parametrize(
    "code",
    ["raise SystemExit(0)", "import sys; sys.exit()", "class Own:\n    pass\nraise BaseException('gone')"],
)
def test_what_ends_the_program_as_it_is_imported_is_an_error(code: str, own: Path) -> None:
    (own / "own_module_d.py").write_text(code, encoding="utf-8")
    with pytest.raises(
        ExitError, match=r"^importing 'own_module_d:x' raises \w+ \(.*\), which ends the program"
    ):
        make("own_module_d:x")


def test_an_interruption_of_an_import_stays_one(own: Path) -> None:
    (own / "own_module_e.py").write_text("raise KeyboardInterrupt", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        make("own_module_e:x")
