"""The audit: cases where softmax implementations go wrong, with exact values to hold them to."""

from .cases import HARD_ROWS, RowCase

__all__ = ["HARD_ROWS", "RowCase"]
