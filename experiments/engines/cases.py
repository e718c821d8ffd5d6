"""What engines are asked: the audit's cases, less those that a line of text cannot put to them."""

from __future__ import annotations

from softmax_lab.audit import CHECKS, Check

__all__ = ["ASKED", "LEFT_OUT"]

#: A million classes are a line of twenty megabytes each way, and a hundred thousand show the same. Calls from
#: several threads and strides of an array do not reach a program that reads one line after the other.
LEFT_OUT = ("a million classes", "repeated by strides", "long rows repeatable")
ASKED: tuple[Check, ...] = tuple(check for check in CHECKS if check.name not in LEFT_OUT)
