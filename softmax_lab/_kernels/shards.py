"""Sums over a part of the classes, for rows whose classes are spread over processes.

What the parts come to together, and so the gradient's factors, is known only after the processes have spoken.
The gradient is then that of ``cross_entropy_gradient``, as of any row of which those numbers were kept.
"""

from __future__ import annotations

import numpy as np

from .._rows import PART
from .compiler import compiled
from .long_rows import Row, chunks_of, excess_at_peak, held_of, total_of, unit_of, walk
from .simd import scratch
from .singles import Ahead
from .transform import long_source_of


@compiled
def part_sums(z, out, streaming, found, labels, ignore, transform, smooth, num_classes, start, stop):
    """Write the ``PART`` numbers a row of rows start ... stop - 1 to the flat float64 array ``found``.

    A label outside 0 ... num_classes - 1 is that of another part's class. Rows whose label is ``ignore`` get
    0. ``out`` is not used.
    """
    peaks, sums = scratch(chunks_of(num_classes)), scratch(chunks_of(num_classes))
    source = long_source_of(transform, z, held_of(num_classes))
    nowhere = Ahead(z, False)
    for n in range(start, stop):
        y, place = labels[n], n * PART
        if y == ignore:
            found[place : place + PART] = 0.0
            continue
        part = walk(source, smooth, peaks, sums, Row(n, num_classes, y, y), False, nowhere)
        # a part with nothing above -inf is relative to 0
        others = np.sum(sums)
        if part.peak > -np.inf:
            others = unit_of(source, part.peak) * total_of(source, peaks, sums, part.peak)
            at_peak = 0 <= y < num_classes and part.u_y == part.peak
            if others < 2.0 and not at_peak:
                others -= excess_at_peak(source, part.peak)
        found[place], found[place + 1] = part.peak, others
        found[place + 2], found[place + 3], found[place + 4] = part.u_y, part.target.r_d, part.target.r_sum
