"""The three frameworks of the article's table, asked what the engines are asked: they run in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments import tables
from softmax_lab.audit import adapters

from . import stored
from .running import findings

__all__ = ["ARTICLE_TABLE", "NAMES", "run_article"]

#: beside the engines' table, since these have no recipe: they are of this project's own environment
ARTICLE_TABLE = tables.RESULTS / "engines_article.csv"
NAMES = ("torch", "tensorflow", "jax")


def run_article(
    names: Sequence[str] = NAMES, path: Path = ARTICLE_TABLE, *, say: Callable[[str], object] = print
) -> list[str]:
    """Audit the frameworks that the table lacks; return the names of those that are not installed.

    What is stored of a version is not run again.
    """
    missing = []
    for name in names:
        try:
            framework = adapters.make(name)
        except adapters.MissingFramework as error:
            say(f"{name}: left out: {error}")
            missing.append(name)
            continue
        version = adapters.versions()[name]
        if (name, "", version) in stored.stored(path):
            say(f"{name} {version}: stored")
            continue
        since = time.perf_counter()
        found = list(findings(framework))
        stored.append(found, name, "", version, path)
        say(f"{name} {version}: {len(found)} cases in {time.perf_counter() - since:.0f} s")
    return missing
