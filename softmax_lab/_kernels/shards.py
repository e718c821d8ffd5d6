"""Sums over a part of the classes, for rows whose classes are spread over processes.

What the parts come to together, and so the gradient's factors, is known only after the processes have spoken.
The gradient is then that of ``cross_entropy_gradient``, as of any row of which those numbers were kept.
"""

from __future__ import annotations

import numpy as np

from .._rows import PART
from .compiler import compiled
from .long_rows import Row, chunks_of, held_of, total_of, walk
from .transform import source_of


@compiled
def part_sums(z, out, streaming, found, labels, ignore, transform, smooth, num_classes, start, stop):
    """Write the ``PART`` numbers a row of rows start ... stop - 1 to the flat float64 array ``found``.

    A label outside 0 ... num_classes - 1 is that of another part's class. Rows whose label is ``ignore`` get
    0. ``out`` is not used.
    """
    peaks, sums = np.empty(chunks_of(num_classes)), np.empty(chunks_of(num_classes))
    source = source_of(transform, z, held_of(num_classes), None)
    for n in range(start, stop):
        y, place = labels[n], n * PART
        if y == ignore:
            found[place : place + PART] = 0.0
            continue
        part = walk(source, smooth, peaks, sums, Row(n, num_classes, y, y), False)
        # a part with nothing above -inf is relative to 0
        others = total_of(source, peaks, sums, part.peak) if part.peak > -np.inf else np.sum(sums)
        found[place], found[place + 1] = part.peak, others
        found[place + 2], found[place + 3], found[place + 4] = part.u_y, part.target.r_d, part.target.r_sum
