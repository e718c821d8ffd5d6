"""Real data for the report: digits, and a seeded long-tailed split of any labelled set."""

from .digits import digits
from .long_tail import LongTail, long_tail, long_tail_counts

__all__ = ["LongTail", "digits", "long_tail", "long_tail_counts"]
