"""Real data for the report: digits, CIFAR, and a seeded long-tailed split of any labelled set."""

from .cifar import Cifar, cifar10, cifar100
from .digits import digits
from .long_tail import LongTail, long_tail, long_tail_counts

__all__ = ["Cifar", "LongTail", "cifar10", "cifar100", "digits", "long_tail", "long_tail_counts"]
