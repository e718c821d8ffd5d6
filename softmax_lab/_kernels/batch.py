"""What a loop does for a whole batch, where it is asked: it looks at the labels first, and sums the values.

Each would be a call of its own for a small batch, and cost as much as the rows do.
"""

from __future__ import annotations

import numpy as np

from .compiler import allocating, helper, inlined

_BLOCK = 128  # numbers that are summed without a cut
_ROOM = 256  # for what is to be done: three places a cut, of which there are less than 64


@inlined
def is_asked(values, labels):
    """Whether a loop is asked: ``values`` then has one entry more than there are rows, for their sum."""
    return len(values) > len(labels)


@helper
def first_without_class(labels, ignore, num_classes):
    """Return the first row whose label is no class, or is ``ignore``; -1 where there is none."""
    for row in range(len(labels)):
        y = labels[row]
        if y < 0 or y >= num_classes or y == ignore:
            return row
    return -1


@inlined
def _sum_of_block(values, start, stop):
    """Return the sum of at most ``_BLOCK`` numbers, in eight lanes where there are as many."""
    n, first = stop - start, start
    result = 0.0
    if n >= 8:
        a, b, c, d = values[start], values[start + 1], values[start + 2], values[start + 3]
        e, f, g, h = values[start + 4], values[start + 5], values[start + 6], values[start + 7]
        first = stop - n % 8
        for i in range(start + 8, first, 8):
            a, b, c, d = a + values[i], b + values[i + 1], c + values[i + 2], d + values[i + 3]
            e, f, g, h = e + values[i + 4], f + values[i + 5], g + values[i + 6], h + values[i + 7]
        result = ((a + b) + (c + d)) + ((e + f) + (g + h))
    for i in range(first, stop):
        result += values[i]
    return result


@allocating
def _sum_of_halves(values, n):
    """Return the sum of values[:n]: the halves' sums, each of its own halves, down to blocks."""
    starts, stops, sums = np.empty(_ROOM, np.int64), np.empty(_ROOM, np.int64), np.empty(_ROOM)
    starts[0], stops[0], todo, done = 0, n, 1, 0
    while todo:
        todo -= 1
        start, stop = starts[todo], stops[todo]
        if start < 0:  # both halves are done
            done -= 1
            sums[done - 1] += sums[done]
        elif stop - start <= _BLOCK:
            sums[done] = _sum_of_block(values, start, stop)
            done += 1
        else:
            half = (stop - start) // 2
            half -= half % 8
            starts[todo], starts[todo + 1], starts[todo + 2] = -1, start + half, start
            stops[todo + 1], stops[todo + 2] = stop, start + half
            todo += 3
    return sums[0]


@allocating
def sum_of(values, n):
    """Return the sum of values[:n] in NumPy's own order, and so its bits."""
    return _sum_of_block(values, 0, n) if n <= _BLOCK else _sum_of_halves(values, n)
