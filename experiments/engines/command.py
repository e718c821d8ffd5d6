"""The command: install engines, audit them, and store what is found."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from . import environments, stored
from .article import ARTICLE_TABLE, run_article
from .recipes import ENGINES
from .reproduced import reproduce
from .running import run_engines

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not stored; the status is 1 where an engine could not be had."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.engines",
        description="Audit engines, each installed in an environment of its own. What is stored is not run "
        "again.",
    )
    parser.add_argument(
        "--install",
        nargs="+",
        default=[],
        choices=[*ENGINES, "all"],
        metavar="NAME",
        help=f"all, or some of {', '.join(ENGINES)}",
    )
    parser.add_argument(
        "--article",
        action="store_true",
        help=f"the frameworks of the article's table, from this environment, into {ARTICLE_TABLE.name}",
    )
    parser.add_argument(
        "--reproduce",
        action="store_true",
        help="run the programs of a few lines whose engine is here, and store what they tell",
    )
    parser.add_argument("--out", type=Path, default=stored.ENGINES_TABLE, help="file")
    parser.add_argument("--folder", type=Path, default=environments.FOLDER, help="of the environments")
    parser.add_argument("--remove", action="store_true", help="an environment, once all of it is stored")
    options = parser.parse_args(argv)
    if not (options.install or options.article or options.reproduce):
        parser.error("name engines after --install, or ask for --article or --reproduce")
    names = list(ENGINES) if "all" in options.install else options.install
    missing = run_engines(names, options.out, folder=options.folder, keep=not options.remove)
    missing += run_article() if options.article else []
    if options.reproduce:
        reproduce(folder=options.folder)
    if missing:
        print(f"cannot be had: {', '.join(missing)}")
    return 1 if missing else 0
