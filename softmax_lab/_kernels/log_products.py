r"""Products with the Hessian of the log of the mean loss, over long rows.

With pi the softmax of the other classes, v = pi there and -1 at the target, r as in ``log_terms``, and rho
the row's share,

.. math::

    (H t)_i &= \rho_i h'_i \bigl[ a_i v_i + \pi_i \odot (t_i - \pi_i \cdot t_i) \bigr], \qquad
    a_i = (m_i - \bar m) - h'_i (1 - r_i) (v_i \cdot t_i) \\
    m_i &= h'_i (v_i \cdot t_i), \qquad \bar m = \sum_j \rho_j m_j .

The mean of the moments m is all that crosses rows beside the shares. So a loop runs twice: it finds the
logarithms and the moments first, and then writes the product. Where rows do not meet, it runs once.

The walk and the components are those of ``products``, over the other classes alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .compiler import allocating, compiled, inlined
from .log_rows import peak_of_others, shared_peak_of_others
from .log_terms import LogTerms, log_terms
from .long_rows import Row, chunk_of, chunks_of, exponentials, fill, held_of, reference, total_of
from .products import Product, index_of, moment_of, one_tangent, write
from .relative import below, exp_below
from .simd import scratch
from .singles import Ahead
from .target import Array, Spread
from .transform import inside, source_of, target_of


class Parts(NamedTuple):
    """What is found of the other classes of each chunk of a row, one entry a chunk."""

    peaks: Array
    sums: Array  # exponentials
    starts: Array  # the tangent in u at the chunk's largest
    moments: Array  # sum e_k (t_k - start)


@allocating
def _parts(chunks):
    return Parts(scratch(chunks), scratch(chunks), scratch(chunks), scratch(chunks))


class Found(NamedTuple):
    """What is found of a row."""

    peak: float  # the largest u T of the other classes
    total: float  # their exponentials relative to it
    terms: LogTerms
    t_0: float  # the tangent in u there
    mean: float  # pi.t less that
    along: float  # v.t


@inlined
def _walk(source, tangents, parts, row):
    """Hold the exponentials of a row's other classes, 0 at the target, and return what is `Found`."""
    u_y, low_y, t_y, t_0, peak = 0.0, 0.0, 0.0, 0.0, -np.inf
    shared = shared_peak_of_others(source, row)
    for c in range(len(parts.peaks)):
        chunk = chunk_of(source, row.row, c, row.num_classes)
        k, own = row.y - chunk.first, peak_of_others(source, chunk, row.y)
        start = one_tangent(source, chunk, index_of(source, chunk, own, k), tangents)
        if 0 <= k < chunk.count:
            u_y, low_y = target_of(source, inside(chunk, k, 1))
            t_y = one_tangent(source, chunk, k, tangents)
        parts.peaks[c], parts.starts[c] = max(shared, own), start
        exponentials(source, chunk, reference(parts.peaks[c]), k, True, Ahead(source.z, False))
        if 0 <= k < chunk.count:
            source.held[chunk.at + k] = 0.0
        parts.moments[c], parts.sums[c] = moment_of(source, chunk, tangents, start)
        if own > peak:
            peak, t_0 = own, start
    return _merged(source, parts, peak, below(source, u_y, low_y, reference(peak)), (t_0, t_y))


@inlined
def _merged(source, parts, peak, target, tangents):
    """Bring the chunks' parts to the largest of the other classes."""
    d_y, low = target
    t_0, t_y = tangents
    total, moment = np.sum(parts.sums), 0.0
    if peak > -np.inf:
        total = total_of(source, parts.peaks, parts.sums, peak)
        for c in range(len(parts.peaks)):
            away = parts.starts[c] - t_0
            share = exp_below(source, parts.peaks[c], peak)
            moment += share * (parts.moments[c] + away * parts.sums[c])
    # without other classes the total is 0
    mean = moment / total if total != 0.0 else 0.0
    return Found(peak, total, log_terms(total, d_y, low), t_0, mean, (t_0 - t_y) + mean)


@inlined
def _product_of(found, share, deviation):
    """Return a row's ``products.Product``."""
    slope, none = found.terms.slope, Spread(0.0, 0.0)
    a, at_target = deviation - slope * found.terms.rest * found.along, -share * slope
    tilt = share * slope / found.total
    return Product(tilt, tilt * a, none, at_target * a, found.t_0, found.mean, tilt, none, at_target)


@compiled
def log_cross_entropy_hvp(
    z, out, streaming, tangents, across, labels, ignore, transform, num_classes, start, stop
):
    """Hessian times tangent of rows start ... stop - 1 of flat arrays, to ``out``, which may be z.

    ``across`` is what crosses rows, a plain tuple of float64 arrays: log l, its rounding error and the
    moment, the share, and the moment's distance from the mean, one number a row. Where the shares are empty
    the first three are filled, and ``out`` is not used. Else the last two are read. Rows whose label is
    ``ignore``, or whose share is 0, may hold anything: their product is 0.
    """
    source, parts = source_of(transform, z, held_of(num_classes), None), _parts(chunks_of(num_classes))
    logs, lows, moments, shares, deviations = across
    wanted = len(shares) > 0
    for n in range(start, stop):
        y = labels[n]
        if y == ignore or (wanted and shares[n] == 0.0):
            if wanted:
                fill(out, n * num_classes, num_classes, 0.0)
            else:
                logs[n], lows[n], moments[n] = -np.inf, 0.0, 0.0
            continue
        row = Row(n, num_classes, y, y)
        found = _walk(source, tangents, parts, row)
        if not wanted:
            logs[n], lows[n] = found.terms.high, found.terms.low
            moments[n] = found.terms.slope * found.along
        elif found.terms.slope == 0.0:
            fill(out, n * num_classes, num_classes, 0.0)
        else:
            product = _product_of(found, shares[n], deviations[n])
            write(source, None, parts, found, row, product, tangents, out)
