"""The command ``softmax-lab``: the audit from the shell.

Exit status 0: all within the limit; 1: something is over it or wrong; 2: the command itself could not be carried out.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from ._checks import FLOAT_DTYPES

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["main"]

_EXAMPLES = """examples:
  softmax-lab audit softmax_lab numpy                 two built-in implementations
  softmax-lab audit my_module:my_object               your own, from ./my_module.py
  softmax-lab audit torch --dtype float32 --html audit.html
"""


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
        return _list() if arguments.list else _audit(arguments, parser)
    except _CannotRunError as error:
        print(f"softmax-lab: error: {error}", file=sys.stderr)
        return 2


class _CannotRunError(Exception):
    """The command cannot be carried out; the message says why."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="softmax-lab", description="The softmax, verified.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"softmax-lab {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    audit = commands.add_parser(
        "audit",
        help="check implementations of softmax and cross-entropy against exact arithmetic",
        description="Check implementations of softmax and cross-entropy, with its gradient, against exact arithmetic.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    audit.add_argument("names", nargs="*", metavar="NAME", help="a built-in implementation (see --list), or module:object of your own")
    audit.add_argument("--list", action="store_true", help="list the built-in implementations and the cases, and stop")
    audit.add_argument("--dtype", action="append", choices=FLOAT_DTYPES, help="may be repeated; all by default")
    audit.add_argument("--function", action="append", choices=_FUNCTIONS, help="may be repeated; all by default")
    audit.add_argument("--limit-ulp", type=_limit, default=4.0, metavar="ULP", help="the largest error that passes (default: %(default)g)")
    for kind in ("json", "csv", "html"):
        audit.add_argument(f"--{kind}", type=_file, metavar="FILE", help=f"write the result as {kind.upper()}")
    audit.add_argument("--quiet", action="store_true", help="print nothing but errors; the exit status tells")
    return parser


# repeated from audit.values, which needs more than the base install; a test holds them together
_FUNCTIONS = ("softmax", "log_softmax", "cross_entropy", "cross_entropy_grad")


def _limit(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"must be a finite number >= 0; got {text!r}")
    return value


def _file(text: str) -> Path:
    """Refuse what cannot be written before minutes are spent on the audit."""
    path = Path(text)
    if path.is_dir() or not text:
        raise argparse.ArgumentTypeError(f"must be a file; got the directory {text!r}" if text else "must be a file; got nothing")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"the directory {str(path.parent)!r} does not exist")
    return path


def _list() -> int:
    _need_extras()
    from .audit import CHECKS, adapters

    width = max(map(len, adapters.ADAPTERS))
    print("implementations")
    for name in adapters.ADAPTERS:
        print(f"  {name:{width}}  {'installed' if adapters.installed(name) else 'not installed'}")
    width = max(len(check.name) for check in CHECKS)
    print("cases")
    for check in CHECKS:
        print(f"  {check.name:{width}}  {check.reason}")
    return 0


def _audit(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    if not arguments.names:
        parser.error("audit: name at least one implementation, or use --list")
    _need_extras()
    from .audit import run

    objects = {name: _made(name) for name in arguments.names}
    try:
        frame = run(
            objects, limit_ulp=arguments.limit_ulp, dtypes=arguments.dtype, functions=arguments.function, progress=not arguments.quiet
        )
    except TypeError as error:  # an object with nothing to audit; what an audited function raises is a finding, not an error
        raise _CannotRunError(error) from error
    if frame.empty:
        raise _CannotRunError("nothing to audit: no implementation named has the chosen functions and types")
    _write(frame, arguments)
    return 0 if frame["ok"].all() else 1


def _made(name: str) -> Any:
    from .audit import adapters

    try:
        return adapters.make(name)
    except (adapters.MissingFramework, ValueError) as error:
        raise _CannotRunError(error) from error
    except Exception as error:  # a module of the user's may raise anything; status 1 would say that it was audited
        raise _CannotRunError(f"importing {name!r} raises {type(error).__name__}: {error}") from error


def _write(frame: pd.DataFrame, arguments: argparse.Namespace) -> None:
    from .audit import report

    try:
        if arguments.json:
            report.to_json(frame, arguments.json)
        if arguments.csv:
            report.to_csv(frame, arguments.csv)
        if arguments.html:
            report.to_html(frame, arguments.html, limit_ulp=arguments.limit_ulp)
    except OSError as error:
        raise _CannotRunError(f"cannot write {error.filename or 'the report'}: {error.strerror or error}") from error
    if not arguments.quiet:
        print(report.summary(frame))


def _need_extras() -> None:
    """The audit needs more than the base install; say what, once, instead of failing at the first import."""
    import importlib.util

    missing = [name for name in ("ml_dtypes", "mpmath", "pandas", "tqdm") if importlib.util.find_spec(name) is None]
    if missing:
        raise _CannotRunError(f"the audit needs {', '.join(missing)}: pip install 'softmax-lab[audit]'")


if __name__ == "__main__":
    sys.exit(main())
