"""One engine after another: installed, audited through the protocol, and stored."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from softmax_lab.audit import Command, Finding
from softmax_lab.audit.subject import FUNCTIONS

from . import environments, stored
from .cases import ASKED
from .recipes import ENGINES, Engine

__all__ = ["findings", "run_engines"]

LIMIT_ULP = 4.0
_TIMEOUT = 600.0  # some compile for each shape, and a machine that does other work is no hang
_STARTS = 13  # a case that crashes an engine may do so in each function and type, and hides no other


def run_engines(
    names: Sequence[str],
    path: Path = stored.ENGINES_TABLE,
    *,
    folder: Path = environments.FOLDER,
    engines: Mapping[str, Engine] = ENGINES,
    keep: bool = True,
    say: Callable[[str], object] = print,
) -> list[str]:
    """Install and audit what the table lacks; return the names of the engines that could not be had.

    What answers no question at all is a fault of its environment or of its program here, and is not stored.
    An engine is stored variant by variant, so what is interrupted goes on where it was.

    Parameters
    ----------
    keep : bool
        Leave an engine's environment where it is once all of it is stored.
    """
    missing = []
    for place, name in enumerate(names, 1):
        engine = engines[name]
        version = engine.pinned[engine.package]
        known = stored.stored(path)
        left = [variant for variant in engine.variants if (name, variant, version) not in known]
        if not left:
            say(f"[{place}/{len(names)}] {name} {version}: stored")
            continue
        since = time.perf_counter()
        try:
            own = environments.make(name, engine, folder)
        except environments.NotToBeHadError as error:
            say(f"[{place}/{len(names)}] {name} {version}: cannot be had: {error}")
            missing.append(name)
            continue
        say(f"[{place}/{len(names)}] {name} {version}: installed in {time.perf_counter() - since:.0f} s")
        for variant in left:
            said, answers = _audited(name, engine, variant, own, path)
            say(f"    {said}")
            if not answers and name not in missing:
                missing.append(name)
        if not keep and name not in missing:
            shutil.rmtree(own)
    return missing


def _audited(name: str, engine: Engine, variant: str, own: Path, path: Path) -> tuple[str, bool]:
    """Audit one variant and store it; return a line about it, and whether it has answered at all."""
    since = time.perf_counter()
    label = f"{name}, {variant}" if variant else name
    arguments = environments.command(engine, own, engine.variants[variant])
    with Command(arguments, timeout=_TIMEOUT, starts=_STARTS) as program:
        found = list(findings(program))
    if all(finding.wrong for *_, finding in found):
        return f"{label}: answers nothing: {found[0][-1].problem if found else 'it offers nothing'}", False
    stored.append(found, name, variant, engine.pinned[engine.package], path)
    ok = sum(not finding.problem for *_, finding in found)
    wrong = sum(finding.wrong for *_, finding in found)
    return (
        f"{label}: {len(found)} cases, {ok} ok, {len(found) - ok - wrong} over the limit, {wrong} wrong, in "
        f"{time.perf_counter() - since:.0f} s"
    ), True


def findings(program: Any) -> Iterator[tuple[str, str, str, Finding]]:
    """Yield (function, dtype, case, finding) of every case that is asked of a program or an adapter."""
    functions = [function for function in FUNCTIONS if hasattr(program, function)]
    for function, dtype, check in itertools.product(functions, program.dtypes, ASKED):
        finding = check.run(program, function, dtype, limit_ulp=LIMIT_ULP)
        if finding is not None:
            yield function, dtype, check.name, finding
