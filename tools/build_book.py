"""Execute the chapters and render the book into ``_build/html``.

    python tools/build_book.py             execute every notebook of _toc.yml, then render
    python tools/build_book.py --stored    render the outputs stored in the notebooks

The tracked notebooks are never written to: everything happens on a copy in ``_build/stage``. Chapters are always executed, never
taken from a cache, because a cache keyed on the cells does not see a change in the package.
"""

from __future__ import annotations

import argparse
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
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


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
    for folder in sorted({"book", *(Path(document).parts[0] for document in documents)}):
        shutil.copytree(root / folder, stage / folder, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    return stage


def execute_chapters(stage: Path, documents: Sequence[str]) -> dict[str, float]:
    """Execute every notebook among ``documents`` in place; return the seconds that each took."""
    chapters = [document for document in documents if (stage / f"{document}.ipynb").is_file()]
    seconds = {}
    # A chapter may look at an experiment, which is not installed: its kernel finds it from the root.
    os.environ["PYTHONPATH"] = str(ROOT)
    # In a log, where the bar cannot be redrawn, a line every ten seconds is enough.
    with tqdm(chapters, unit="chapter", mininterval=0.1 if sys.stderr.isatty() else 10.0) as progress:
        for chapter in progress:
            start = time.perf_counter()
            execute_chapter(stage, chapter, progress)
            seconds[chapter] = time.perf_counter() - start
            progress.write(f"{chapter}: executed in {seconds[chapter]:.1f} s", file=sys.stdout)
    return seconds


def execute_chapter(stage: Path, chapter: str, progress: tqdm[Any]) -> None:
    """Execute one notebook in its own folder and write its outputs; raise `BuildError` that names the cell that failed."""
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
            progress.set_postfix_str(f"{chapter}, cell {index + 1} of {len(notebook.cells)}", refresh=sys.stderr.isatty())
            execute_cell(client, index, f"{chapter}.ipynb, cell {index + 1} (id {cell.get('id')})")
    nbformat.write(notebook, path)


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


def render(root: Path, stage: Path) -> Path:
    """Render the stage with every warning an error; return the opening page."""
    output = root / "_build"
    # No --toc: a relative one is resolved twice, and the stage has its own.
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", "-W", "-n", "--keep-going", "--all"]
    result = subprocess.run([*command, "--path-output", str(root), str(stage)], check=False)
    index = output / "html" / "index.html"
    if result.returncode:
        raise BuildError(f"jupyter-book exited with status {result.returncode}: see its warnings above.")
    if not index.is_file():
        raise BuildError("jupyter-book reported success but wrote no _build/html/index.html.")
    return index


def build(root: Path, *, stored: bool) -> Path:
    """Build the book at ``root``; return the opening page."""
    documents = read_toc(root)
    stage = make_stage(root, documents)
    seconds = {} if stored else execute_chapters(stage, documents)
    start = time.perf_counter()
    index = render(root, stage)
    seconds["rendering"] = time.perf_counter() - start
    print("\n".join(f"{value:8.1f} s  {name}" for name, value in seconds.items()))
    return index


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Build the book and say where it is; return the exit status."""
    parser = argparse.ArgumentParser(description="Execute the chapters and render the book into _build/html.")
    parser.add_argument("--stored", action="store_true", help="render the stored outputs, execute nothing")
    options = parser.parse_args(arguments)
    try:
        index = build(root, stored=options.stored)
    except BuildError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    print(f"\nThe book is at {index}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
