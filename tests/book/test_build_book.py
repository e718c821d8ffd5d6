"""``tools/build_book.py``: what is executed, where, and how a failure is told.

The rendering itself is a stage of ``make test``.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from tools.build_book import execute_chapters, fingerprint, main, make_stage, read_toc

TOC = (
    "format: jb-book\nroot: book/intro\nparts:\n- chapters:\n  - file: book/one\n    sections:\n    - "
    "file: book/two\n"
)


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """Return the root of a book with two chapters, the second of which fails."""
    (tmp_path / "book").mkdir()
    (tmp_path / "_toc.yml").write_text(TOC, encoding="utf-8")
    (tmp_path / "_config.yml").write_text("title: Book\n", encoding="utf-8")
    (tmp_path / "book" / "intro.md").write_text("# Book\n", encoding="utf-8")
    write_chapter(tmp_path, "one", "import pathlib\nprint(pathlib.Path('intro.md').read_text())")
    write_chapter(tmp_path, "two", "numerator = 1\nnumerator / 0")
    return tmp_path


def write_chapter(root: Path, name: str, source: str) -> None:
    """Write a notebook of a title and one code cell."""
    cells = [
        nbformat.v4.new_markdown_cell(f"# {name}", id="title"),
        nbformat.v4.new_code_cell(source, id="the-cell"),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), root / "book" / f"{name}.ipynb")


def test_toc_is_read_in_order(book: Path) -> None:
    assert read_toc(book) == ["book/intro", "book/one", "book/two"]


def test_the_modules_of_the_tests_stand_beside_the_book(book: Path) -> None:
    for name in ("claims/test_a.py", "claims/__pycache__/test_a.pyc", "data/rows.csv"):
        (book / "tests" / name).parent.mkdir(parents=True, exist_ok=True)
        (book / "tests" / name).write_text(name, encoding="utf-8")
    stage = make_stage(book, read_toc(book))
    files = [path.relative_to(stage).as_posix() for path in (stage / "tests").rglob("*") if path.is_file()]
    assert files == ["tests/claims/test_a.py"]


def test_chapter_is_executed_in_its_folder_and_the_original_is_left_alone(book: Path) -> None:
    before = (book / "book" / "one.ipynb").read_bytes()
    stage = make_stage(book, read_toc(book))
    seconds = execute_chapters(stage, ["book/intro", "book/one"])
    assert list(seconds) == ["book/one"]
    cell = nbformat.read(stage / "book" / "one.ipynb", as_version=4).cells[1]
    assert (cell.execution_count, cell.outputs[0].text) == (1, "# Book\n\n")
    assert (book / "book" / "one.ipynb").read_bytes() == before


def test_an_unchanged_chapter_on_an_unchanged_package_is_not_run_again(book: Path) -> None:
    counting = (
        "import pathlib\npath = pathlib.Path.cwd().parents[2] / 'runs'\nwith path.open('a') as "
        "file:\n    file.write('x')\nprint('ran')"
    )
    write_chapter(book, "one", counting)
    (book / "softmax_lab").mkdir()
    module = book / "softmax_lab" / "module.py"
    module.write_text("one = 1\n", encoding="utf-8")

    def runs() -> int:
        stage = make_stage(book, read_toc(book))
        execute_chapters(stage, ["book/one"], cache=book / ".book_cache", common=fingerprint(book))
        cell = nbformat.read(stage / "book" / "one.ipynb", as_version=4).cells[1]
        assert (cell.execution_count, cell.outputs[0].text) == (1, "ran\n")
        return len((book / "runs").read_text(encoding="utf-8"))

    assert [runs(), runs()] == [1, 1]
    module.write_text("one = 2\n", encoding="utf-8")
    assert [runs(), runs()] == [2, 2]
    write_chapter(book, "one", counting + "\n")
    assert [runs(), runs()] == [3, 3]
    assert len(list((book / ".book_cache").iterdir())) == 1  # of each chapter the last


def test_failed_cell_is_named_and_nothing_is_rendered(book: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], root=book) == 1
    told = capsys.readouterr().err
    for words in (
        "book/two.ipynb, cell 2 (id the-cell)",
        "numerator = 1",
        "ZeroDivisionError: division by zero",
    ):
        assert words in told
    assert not (book / "_build" / "html").exists()


def test_failed_rendering_is_told_and_leaves_no_old_page(
    book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = book / "_build" / "html" / "index.html"
    old.parent.mkdir(parents=True)
    old.write_text("of an earlier build", encoding="utf-8")
    (book / "_toc.yml").write_text("format: jb-book\nroot: book/no-such-page\n", encoding="utf-8")
    assert main(["--stored"], root=book) == 1
    assert "jupyter-book exited with status" in capsys.readouterr().err
    assert not old.exists() or old.read_text(encoding="utf-8") != "of an earlier build"


def test_a_sentence_that_does_not_hold_is_refused(book: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = (
        "from experiments.sentences import Sentences\nSentences({{'Two is {0}.': {1}, 'One is one.': True}})"
    )
    for condition, outcome in (("2 == 1", "does not hold"), ("lambda: {}[2]", "is about other values")):
        write_chapter(book, "one", source.format("one", condition))
        before = (book / "book" / "one.ipynb").read_bytes()
        assert main(["--store", "book/one"], root=book) == 1
        told = capsys.readouterr().err
        assert "book/one.ipynb, cell 2" in told
        assert f"{outcome}: Two is one." in told
        assert "One is one" not in told
        assert (book / "book" / "one.ipynb").read_bytes() == before


def test_outputs_are_stored_on_demand(book: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = (book / "book" / f"{name}.ipynb" for name in ("one", "two"))
    before = two.read_bytes()
    assert main(["--store", "book/one", "book/two.ipynb"], root=book) == 1
    cell = nbformat.read(one, as_version=4).cells[1]
    assert (cell.outputs[0].text, cell.execution_count) == ("# Book\n\n", 1)
    assert "numerator / 0" in capsys.readouterr().err
    assert two.read_bytes() == before
    assert main(["--store", "book/three"], root=book) == 1
    assert not (book / "_build").exists()
