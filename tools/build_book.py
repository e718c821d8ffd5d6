"""Execute the chapters and render the book into ``_build/html``.

    python tools/build_book.py             execute the notebooks of _toc.yml, then render
    python tools/build_book.py --again     execute them all, whatever has been executed before
    python tools/build_book.py --stored    render the outputs stored in the notebooks
    python tools/build_book.py --store book/09-balancing ...    execute these where they are, no more

But for the last, tracked notebooks are never written to: everything happens on a copy in ``_build/stage``. A
chapter that was executed before is taken from ``.book_cache`` if nothing has changed that it could depend on:
its own source, every file of the package and of the experiments with their results, the claims, the pinned
versions and the interpreter. (The cache of Jupyter Book itself is keyed on the cells alone, and does not see
a change in the package.)
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat
import yaml
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]  # run as a program, Python looks beside this file alone

from tools.prune_site import prune  # noqa: E402

CACHE = ".book_cache"
#: the folder of the tests, whose sources a page shows
TESTS = "tests"
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
#: what `experiments.sentences` says of a sentence that is not so for the values of a chapter
_FAILED = re.compile(r"^(?:does not hold|is about other values): .*$", re.MULTILINE)


class BuildError(Exception):
    """The book cannot be built; the message is for the reader."""


def toc_documents(toc: Any) -> Iterator[str]:
    """Yield the pages that a table of contents names, without extension, in order."""
    if isinstance(toc, list):
        for item in toc:
            yield from toc_documents(item)
    elif isinstance(toc, dict):
        yield from (toc[key] for key in ("root", "file") if key in toc)
        for value in toc.values():
            yield from toc_documents(value)


def read_toc(root: Path) -> list[str]:
    """Return the pages of the book at ``root``."""
    return list(toc_documents(yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))))


def make_stage(root: Path, documents: Sequence[str]) -> Path:
    """Copy what the book is made of into ``_build/stage``, and remove every trace of an earlier build.

    After a failed build with ``-W`` an incremental one would pass, so nothing may be left of it.
    """
    shutil.rmtree(root / "_build", ignore_errors=True)
    stage = root / "_build" / "stage"
    stage.mkdir(parents=True)
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy2(root / name, stage)
    if (root / TESTS).is_dir():
        shutil.copytree(root / TESTS, stage / TESTS, ignore=only_modules)
    for folder in sorted({"book", *(Path(document).parts[0] for document in documents)}):
        shutil.copytree(
            root / folder, stage / folder, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
        )
    return stage


def only_modules(folder: str, names: list[str]) -> set[str]:
    """Return what of a folder is neither a module nor a folder that may have some."""
    kept = {name for name in names if name.endswith(".py") or Path(folder, name).is_dir()}
    return set(names) - (kept - {"__pycache__"})


#: what a chapter may depend on beside itself: files by these patterns
DEPENDENCIES = (
    "softmax_lab/**/*.py",
    "softmax_lab/**/*.npz",
    "experiments/**/*.py",
    "experiments/results/*",
    "book/claims.yml",
    "constraints.txt",
)


def fingerprint(root: Path) -> str:
    """Return a checksum of everything that every chapter may depend on."""
    digest = hashlib.sha256(f"{sys.version} {sys.platform}".encode())
    for path in sorted({path for pattern in DEPENDENCIES for path in root.glob(pattern) if path.is_file()}):
        digest.update(f"\0{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def cache_file(cache: Path, chapter: str, path: Path, common: str) -> Path:
    """Return where an executed chapter is kept.

    Outputs do not count, so executing and storing it changes nothing.
    """
    notebook = nbformat.read(path, as_version=4)
    cells = repr([(cell.cell_type, cell.source, cell.metadata.get("tags")) for cell in notebook.cells])
    key = hashlib.sha256(f"{common}\0{chapter}\0{cells}".encode()).hexdigest()[:32]
    return cache / f"{chapter.replace('/', '-')}-{key}.ipynb"


def execute_chapters(
    stage: Path, documents: Sequence[str], *, cache: Path | None = None, common: str = ""
) -> dict[str, float]:
    """Execute every notebook among ``documents`` in place, or take it from the cache.

    Return the seconds that each took.
    """
    chapters = [document for document in documents if (stage / f"{document}.ipynb").is_file()]
    seconds = {}
    # A chapter may look at an experiment, which is not installed: its kernel finds it from the root.
    os.environ["PYTHONPATH"] = str(ROOT)
    # In a log, where the bar cannot be redrawn, a line every ten seconds is enough.
    with tqdm(chapters, unit="chapter", mininterval=0.1 if sys.stderr.isatty() else 10.0) as progress:
        for chapter in progress:
            start = time.perf_counter()
            kept = None if cache is None else cache_file(cache, chapter, stage / f"{chapter}.ipynb", common)
            known = kept is not None and kept.is_file()
            if kept is not None and known:
                take(kept, stage / f"{chapter}.ipynb")
            else:
                execute_chapter(stage, chapter, progress)
                if kept is not None:
                    keep(stage / f"{chapter}.ipynb", kept, chapter)
            seconds[chapter] = time.perf_counter() - start
            progress.write(
                f"{chapter}: {'unchanged' if known else 'executed'}, {seconds[chapter]:.1f} s",
                file=sys.stdout,
            )
    return seconds


def take(kept: Path, path: Path) -> None:
    """Put the outputs of a kept chapter into the stage's, whose metadata may be newer."""
    notebook, executed = (nbformat.read(file, as_version=4) for file in (path, kept))
    for cell, done in zip(notebook.cells, executed.cells, strict=True):
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = done.outputs, done.execution_count
    nbformat.write(notebook, path)


def keep(path: Path, kept: Path, chapter: str) -> None:
    """Keep an executed chapter, in one step, in place of its earlier versions."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    for old in kept.parent.glob(f"{chapter.replace('/', '-')}-{'?' * 32}.ipynb"):
        old.unlink()
    draft = kept.with_suffix(".partial")
    shutil.copy2(path, draft)
    draft.replace(kept)


def execute_chapter(stage: Path, chapter: str, progress: tqdm[Any]) -> None:
    """Execute one notebook in its own folder and write its outputs.

    Raise `BuildError` that names the cell that failed.
    """
    path = stage / f"{chapter}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    # Cell by cell: NotebookClient.execute turns Ctrl-C into a crash of its own.
    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            progress.set_postfix_str(
                f"{chapter}, cell {index + 1} of {len(notebook.cells)}", refresh=sys.stderr.isatty()
            )
            name = f"{chapter}.ipynb, cell {index + 1} (id {cell.get('id')})"
            execute_cell(client, index, name)
            if failed := failed_sentences(cell):
                raise BuildError("\n".join([f"Sentences of {name} are not so for its own values:", *failed]))
    nbformat.write(notebook, path)


def failed_sentences(cell: Any) -> list[str]:
    """Return the sentences that a cell says do not hold for the values of its chapter."""
    texts = (output.get("data", {}).get("text/plain", "") for output in cell.get("outputs", []))
    return [found for text in texts for found in _FAILED.findall(text)]


def execute_cell(client: NotebookClient, index: int, name: str) -> None:
    """Execute one cell; a failure becomes a `BuildError` with its name, source and traceback."""
    cell = client.nb.cells[index]
    try:
        client.execute_cell(cell, index)
    except CellExecutionError as error:  # its traceback starts with the source
        traceback = error.traceback if sys.stderr.isatty() else _ANSI.sub("", error.traceback)
        raise BuildError(f"A cell failed: {name}\n\n{traceback}") from error
    except DeadKernelError as error:
        raise BuildError(f"The kernel died, perhaps out of memory, in {name}:\n\n{cell.source}") from error


def run_sphinx(stage: Path, output: Path, *options: str) -> None:
    """Build the stage below ``output``, in ``_build``, with every warning an error."""
    # No --toc: a relative one is resolved twice, and the stage has its own.
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build"]
    strict = ["-W", "-n", "--keep-going", "--all"]
    result = subprocess.run(
        [*command, *strict, *options, "--path-output", str(output), str(stage)], check=False
    )
    if result.returncode:
        raise BuildError(f"jupyter-book exited with status {result.returncode}: see its warnings above.")


def render(root: Path, stage: Path) -> Path:
    """Render the stage with every warning an error; return the opening page."""
    output = root / "_build"
    run_sphinx(stage, root)
    index = output / "html" / "index.html"
    if not index.is_file():
        raise BuildError("jupyter-book reported success but wrote no _build/html/index.html.")
    prune(output / "html")
    return index


def store(root: Path, chapters: Sequence[str]) -> None:
    """Execute notebooks and write their outputs into them; one that fails is left as it was."""
    os.environ["PYTHONPATH"] = str(ROOT)
    with tqdm(chapters, unit="chapter") as progress:
        for chapter in progress:
            execute_chapter(root, chapter.removesuffix(".ipynb"), progress)


def build(root: Path, *, stored: bool, again: bool = False) -> Path:
    """Build the book at ``root``; return the opening page."""
    documents = read_toc(root)
    stage = make_stage(root, documents)
    if again:
        shutil.rmtree(root / CACHE, ignore_errors=True)
    seconds = (
        {} if stored else execute_chapters(stage, documents, cache=root / CACHE, common=fingerprint(root))
    )
    start = time.perf_counter()
    index = render(root, stage)
    seconds["rendering"] = time.perf_counter() - start
    print("\n".join(f"{value:8.1f} s  {name}" for name, value in seconds.items()))
    return index


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Build the book and say where it is; return the exit status."""
    parser = argparse.ArgumentParser(description="Execute the chapters and render the book into _build/html.")
    parser.add_argument("--stored", action="store_true", help="render the stored outputs, execute nothing")
    parser.add_argument("--again", action="store_true", help="execute every chapter, changed or not")
    parser.add_argument(
        "--store",
        nargs="+",
        metavar="CHAPTER",
        help="execute these notebooks and write their outputs into them",
    )
    options = parser.parse_args(arguments)
    try:
        if options.store:
            store(root, options.store)
            return 0
        index = build(root, stored=options.stored, again=options.again)
    except (BuildError, FileNotFoundError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    print(f"\nThe book is at {index}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
