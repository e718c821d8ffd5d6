"""The command ``softmax-lab``: the audit from the shell, and compiling ahead.

Exit status 0: nothing fails; 1: something is over the limit or wrong (with ``--fail-on wrong``: wrong alone);
2: the command itself could not be carried out; 130: interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from . import _dispatch, losses
from ._checks import FLOAT_DTYPES
from ._extras import absent, missing
from ._files import check_writable
from ._version import __version__
from ._warm import warm
from .audit import CHECKS, Command, adapters, report, run
from .audit.run import NothingToAuditError
from .audit.subject import FUNCTIONS
from .spec import LossSpec

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["main"]

_EPILOG = """an implementation of your own is an object (a module, a class, a namespace) with any of
  softmax(z), log_softmax(z)     z: logits, NumPy rows (N, K); returns (N, K)
  cross_entropy(z, y)            y: labels (N,), or distributions (N, K); returns one loss per row, (N,)
  cross_entropy_grad(z, y)       its gradient to the logits, (N, K)
  log_cross_entropy(z, y)        the logarithm of each row's loss, (N,)
  log_cross_entropy_grad(z, y)   its gradient to the logits, (N, K)
or a bare function of one of these names. The keywords where, label_smoothing, class_weight, axis (of a
softmax, for arrays of two and three axes) and upstream (of a gradient, a factor a row), where a function
names them, bring further cases; what raises NotImplementedError is left out.

exit status: 0 nothing fails, 1 something does, 2 the command could not be carried out, 130 interrupted.
What is over the limit or wrong fails; with --fail-on wrong only what is wrong: NaN, an infinity, 0, 1 or a
sign where the exact value has another, an error raised, or a property that does not hold. Lost digits pass.

examples:
  softmax-lab audit softmax_lab numpy                 two built-in implementations
  softmax-lab audit my_module:my_object               your own, from ./my_module.py
  softmax-lab audit my_module:softmax                 one function of your own
  softmax-lab audit --exec "node mine.js"             a program in any language, by JSON lines
  softmax-lab audit torch --dtype float32 --html audit.html
  softmax-lab audit my_module:my_object --fail-on wrong --junit audit.xml --markdown audit.md
  softmax-lab audit torch --json - | jq .versions     a report on standard output, the summary on the other
"""

#: kind of file -> what it is
_KINDS = {
    "json": "JSON",
    "csv": "CSV",
    "html": "HTML",
    "junit": "JUnit's XML, for a CI service",
    "markdown": "a summary in Markdown, for a pull request",
}
_STANDARD = "-"  # standard output


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (``sys.argv[1:]`` by default) and return the exit status.

    Examples
    --------
    >>> from softmax_lab.cli import main
    >>> main(["audit", "softmax_lab", "--dtype", "float64", "--function", "softmax", "--quiet"])
    0
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        run_command: Callable[[argparse.Namespace, argparse.ArgumentParser], int] = arguments.command
        return run_command(arguments, parser)
    except _CannotRunError as error:
        print(f"softmax-lab: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("softmax-lab: interrupted", file=sys.stderr)
        return 130


class _CannotRunError(Exception):
    """The command cannot be carried out; the message says why."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="softmax-lab", description="The softmax, verified.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"softmax-lab {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_audit(commands)
    _add_warm(commands)
    return parser


def _add_audit(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    audit = commands.add_parser(
        "audit",
        help="check implementations of softmax and cross-entropy against exact arithmetic",
        description="Check implementations of softmax and cross-entropy, with its gradient, against exact "
        "arithmetic.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    audit.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="a built-in implementation (see --list), or module:object of your own",
    )
    audit.add_argument(
        "--exec",
        action="append",
        default=[],
        metavar="COMMAND",
        help="a program that reads and writes JSON lines; split as a shell splits it, run by none; may be "
        "repeated",
    )
    audit.add_argument(
        "--exec-timeout",
        type=_seconds,
        default=60.0,
        metavar="SECONDS",
        help="what an answer of a program may take (default: %(default)g)",
    )
    audit.add_argument(
        "--list", action="store_true", help="list the built-in implementations and the cases, and stop"
    )
    audit.add_argument(
        "--dtype", action="append", choices=FLOAT_DTYPES, help="may be repeated; all by default"
    )
    audit.add_argument(
        "--function", action="append", choices=FUNCTIONS, help="may be repeated; all by default"
    )
    audit.add_argument(
        "--limit-ulp",
        type=_limit,
        default=4.0,
        metavar="ULP",
        help="the largest error that passes (default: %(default)g)",
    )
    audit.add_argument(
        "--fail-on",
        choices=report.FAIL_ON,
        default="limit",
        help="what makes the exit status 1: what is over the limit or wrong, or what is wrong alone "
        "(default: %(default)s)",
    )
    for kind, words in _KINDS.items():
        audit.add_argument(
            f"--{kind}",
            type=_file,
            metavar="FILE",
            help=f"write the result as {words}; - is standard output",
        )
    audit.add_argument("--quiet", action="store_true", help="print nothing but errors; the exit status tells")
    audit.set_defaults(command=_audit)


def _add_warm(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    warm = commands.add_parser(
        "warm",
        help="compile ahead what first calls would wait for: for a container's build",
        description="Compile ahead what first calls would wait for. It is kept beside the package, or where "
        "NUMBA_CACHE_DIR says, and serves the kind of processor that it was compiled on.",
        allow_abbrev=False,
    )
    warm.add_argument(
        "--loss",
        action="append",
        choices=losses.REGISTRY,
        metavar="NAME",
        help=f"a loss to compile, of {', '.join(losses.REGISTRY)}; may be repeated (default: plain)",
    )
    warm.add_argument(
        "--dtype",
        action="append",
        choices=FLOAT_DTYPES,
        help="a type of logits; may be repeated (default: float32)",
    )
    warm.add_argument("--where", action="store_true", help="calls with a mask too")
    warm.add_argument("--soft", action="store_true", help="target distributions too")
    warm.add_argument(
        "--log", action="store_true", help="the log of the mean loss too, of the losses that it takes"
    )
    warm.add_argument("--quiet", action="store_true", help="print nothing but errors")
    warm.set_defaults(command=_warm)


def _limit(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"must be a finite number >= 0; got {text!r}")
    return value


def _seconds(text: str) -> float:
    value = _limit(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"must be above 0; got {text!r}")
    return value


def _file(text: str) -> str:
    """Refuse what cannot be written before minutes are spent on the audit."""
    if not text:
        raise argparse.ArgumentTypeError("must be a file; got nothing")
    if text != _STANDARD:
        try:
            check_writable(Path(text))
        except OSError as error:
            raise argparse.ArgumentTypeError(
                f"must be a file that can be written; {error.filename!r}: {error.strerror}"
            ) from error
    return text


def _list() -> int:
    _need_extras()
    width = max(map(len, adapters.ADAPTERS))
    lines = ["implementations"]
    lines += [
        f"  {name:{width}}  {'installed' if adapters.installed(name) else 'not installed'}"
        for name in adapters.ADAPTERS
    ]
    width = max(len(check.name) for check in CHECKS)
    _say("\n".join([*lines, "cases", *(f"  {check.name:{width}}  {check.reason}" for check in CHECKS)]))
    return 0


def _audit(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    if arguments.list:
        return _list()
    if not arguments.names and not arguments.exec:
        parser.error("audit: name at least one implementation, or use --exec or --list")
    targets = _targets(arguments)
    _need_extras()
    with contextlib.ExitStack() as stack:
        if sys.stdout in targets.values():
            stack.enter_context(_standard_output_kept())
        objects = {name: _made(name) for name in arguments.names}
        for command in dict.fromkeys(arguments.exec):
            program = stack.enter_context(_program(command, arguments.exec_timeout))
            # two programs may call themselves the same
            objects[program.name if program.name not in objects else f"{program.name} ({command})"] = program
        frame = _audited(objects, arguments)
    _write(frame, targets, arguments)
    return int(report.failing(frame, arguments.fail_on).any())


# classes of the losses that have an entry per class: short rows and long ones
_CLASSES = (8, 32, 64, 1024)


def _warm(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    place = _place_of_loops()
    try:
        warmed = warm(
            [spec for name in arguments.loss or ["plain"] for spec in _examples(losses.REGISTRY[name])],
            arguments.dtype or ["float32"],
            where=arguments.where,
            soft=arguments.soft,
            log=arguments.log,
            progress=not arguments.quiet and not absent("tqdm"),
        )
    except ModuleNotFoundError as error:
        raise _CannotRunError(error) from error
    _place_of_loops()
    if not arguments.quiet:
        _say(f"{warmed.compiled} loops compiled, {warmed.ready} were there already: {place}")
    return 0


def _place_of_loops() -> str:
    """Return where compiled loops are kept; a status of 0 would say that there are some."""
    if _dispatch.choose(2) == "reference":
        raise _CannotRunError("there is nothing to compile: Numba cannot be had, and NumPy does the work")
    from ._kernels.compiler import LOOPS

    place: str | None = LOOPS[0].stats.cache_path
    if place is None:
        raise _CannotRunError("no folder can be written for what is compiled: set NUMBA_CACHE_DIR")
    return place


def _examples(factory: Callable[..., LossSpec]) -> list[LossSpec]:
    """Return specs of a named loss: one, or one for each number of classes."""
    parameters = inspect.signature(factory).parameters
    if "counts" in parameters:
        return [factory(counts=range(1, classes + 1)) for classes in _CLASSES]
    if "class_weight" in parameters:
        return [factory(class_weight=[0.5, *[1.0] * (classes - 1)]) for classes in _CLASSES]
    return [factory()]


def _targets(arguments: argparse.Namespace) -> dict[str, str | TextIO]:
    """Return kind -> path or stream of the files asked for, no two of them the same."""
    named: dict[str, str] = {kind: path for kind in _KINDS if (path := getattr(arguments, kind)) is not None}
    targets: dict[str, str | TextIO] = {
        kind: sys.stdout if _is_standard(path) else path for kind, path in named.items()
    }
    places = [
        place if place is sys.stdout else os.path.realpath(named[kind]) for kind, place in targets.items()
    ]
    if len(set(places)) < len(places):
        raise _CannotRunError(f"{' and '.join(f'--{kind}' for kind in targets)} must name different files")
    if None in targets.values():
        raise _CannotRunError("standard output is closed")
    return targets


def _is_standard(path: str) -> bool:
    """Whether a path is standard output, by whatever name.

    It may be ``-``, ``/dev/stdout``, or the file that the shell sends standard output to.
    """
    if path == _STANDARD:
        return True
    try:
        return os.path.samestat(Path(path).stat(), os.fstat(sys.stdout.fileno()))
    except (AttributeError, OSError):  # nothing there yet; closed, or no file
        return False


@contextlib.contextmanager
def _standard_output_kept() -> Iterator[None]:
    """Send what audited code prints, from Python or below it, to standard error.

    Standard output is the report's alone.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _made(name: str) -> Any:
    try:
        return adapters.make(name)
    except (adapters.MissingFramework, adapters.ExitError, ValueError) as error:
        raise _CannotRunError(error) from error
    except Exception as error:  # whatever a user's module raises: status 1 would say that it was audited
        raise _CannotRunError(f"importing {name!r} raises {type(error).__name__}: {error}") from error


def _program(command: str, timeout: float) -> Command:
    try:
        return Command(command, timeout=timeout)
    except ValueError as error:
        raise _CannotRunError(error) from error


def _audited(objects: dict[str, Any], arguments: argparse.Namespace) -> pd.DataFrame:
    """Return the findings, at least one for every implementation.

    Without one, a status of 0 would say of it what nobody has seen.
    """
    try:
        frame = run(
            objects,
            limit_ulp=arguments.limit_ulp,
            dtypes=arguments.dtype,
            functions=arguments.function,
            progress=not arguments.quiet,
        )
    except (NothingToAuditError, adapters.ExitError) as error:
        raise _CannotRunError(error) from error
    if left_out := [name for name in objects if name not in set(frame["implementation"])]:
        raise _CannotRunError(
            f"nothing to audit in {', '.join(left_out)}: none of the chosen functions takes the chosen types"
        )
    return frame


def _write(frame: pd.DataFrame, targets: dict[str, str | TextIO], arguments: argparse.Namespace) -> None:
    """Write the files, and the summary where it mixes with none of them."""
    writers: dict[str, Callable[..., None]] = {
        "json": report.to_json,
        "csv": report.to_csv,
        "html": partial(report.to_html, limit_ulp=arguments.limit_ulp),
        "junit": partial(report.to_junit, fail_on=arguments.fail_on),
        "markdown": report.to_markdown,
    }
    for kind, target in targets.items():
        with _failure_told(target):
            writers[kind](frame, target)
    if arguments.quiet:
        return
    if sys.stdout in targets.values():
        print(report.summary(frame), file=sys.stderr)
    else:
        _say(report.summary(frame))


def _say(text: str) -> None:
    """Print on standard output, in what characters it has."""
    with _failure_told(sys.stdout):
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        print(text.encode(encoding, "replace").decode(encoding), flush=True)


@contextlib.contextmanager
def _failure_told(target: str | TextIO) -> Iterator[None]:
    """Turn a failure to write, to a full disk or a pipe that nobody reads, into the command's own error."""
    try:
        yield
    except OSError as error:
        if not isinstance(target, str):
            # what is left in its buffer would fail once more as the program ends
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), target.fileno())
        name = target if isinstance(target, str) else "standard output"
        raise _CannotRunError(f"cannot write {name}: {error.strerror or error}") from error


def _need_extras() -> None:
    """Say once what the audit lacks of what it needs beside the base install."""
    if lacks := absent("ml_dtypes", "mpmath", "pandas", "tqdm"):
        raise _CannotRunError(missing(f"the audit needs {', '.join(lacks)}", *lacks))


if __name__ == "__main__":
    sys.exit(main())
