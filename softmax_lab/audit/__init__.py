"""The audit: a conformance suite for anyone's softmax, log-softmax and cross-entropy.

Errors are counted in ulps against exact arithmetic.
"""

from .accuracy import worst_errors
from .cases import HARD_ROWS, RowCase
from .checks import CHECKS, Check, Finding
from .command import Command
from .run import COLUMNS, run

__all__ = ["CHECKS", "COLUMNS", "HARD_ROWS", "Check", "Command", "Finding", "RowCase", "run", "worst_errors"]
