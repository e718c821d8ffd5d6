"""The command: audit, and write the table."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from softmax_lab.audit import adapters

from .stored_audit import AUDIT, run_audit


def main(argv: Sequence[str] | None = None) -> int:
    """Audit, and write the table."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.frameworks", description="Audit every implementation that is installed."
    )
    parser.add_argument("names", nargs="*", help="adapters; all by default")
    parser.add_argument("--out", type=Path, default=AUDIT)
    parser.add_argument("--fresh", action="store_true", help="drop what is stored")
    options = parser.parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # it reports every refused label otherwise
    run_audit(options.names or tuple(adapters.ADAPTERS), options.out, fresh=options.fresh)
    return 0
