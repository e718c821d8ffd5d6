"""The audit's checks, as data: a name, the reason, and what is asked of a function.

An accuracy check compares rows with exact values. A property check compares an implementation's answers with
one another. The audit, the book and the command line read the registry ``CHECKS``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._extras import bfloat16
from .._twofloat import two_product, two_sum
from .._ulp import float_format, spacing, ulp_distance
from ..spec import LossSpec
from .cases import (
    FAINT,
    FAINT_SCALE,
    FAR,
    GOOD,
    HARD_ROWS,
    SURE,
    TILE,
    TILES,
    WIDTHS,
    RowCase,
    labelled,
)
from .subject import LOG_LOSSES, PLAIN, BrokenError, NotOfferedError, RaisedError, Subject
from .values import Exact, exact_values
from .verdict import Evidence, diagnose, told_apart

__all__ = ["CHECKS", "Check", "Finding"]

Rows = NDArray[Any]
LOSSES = ("cross_entropy", "cross_entropy_grad")
GRADIENTS = ("cross_entropy_grad", "log_cross_entropy_grad")
_HUNDRED_THOUSAND = 2048  # tiles of 61 classes: a little more
_LONG = 512  # tiles: 31,232 classes


class Finding(NamedTuple):
    """What a check found: the worst error in ulp, and what is wrong, if anything.

    The error is NaN where ulps are not the matter. ``wrong`` says that more than digits is lost: NaN, an
    infinity, 0, 1 or a sign stands where the exact value has another, or something else than a number is
    amiss.
    """

    max_ulp: float
    problem: str = ""
    wrong: bool = False


@dataclass(frozen=True)
class Check:
    """One case of the audit."""

    name: str
    reason: str
    examine: Callable[[Subject, np.dtype[Any], float], Finding]
    functions: tuple[str, ...] = PLAIN

    def run(
        self, implementation: Any, function: str, dtype: Any, *, limit_ulp: float = 4.0
    ) -> Finding | None:
        """Put this case to one function of an implementation, as :func:`softmax_lab.audit.run` does.

        .. versionadded:: 0.2

        Parameters
        ----------
        implementation : object
            As :func:`softmax_lab.audit.run` takes it.
        function : str
            The name of one of its functions.
        dtype : dtype or str
            Of the logits. ``"bfloat16"`` needs ml_dtypes.
        limit_ulp : float
            The largest error that passes.

        Returns
        -------
        Finding or None
            None where the case is not about this function, or needs what the implementation does not offer.

        Examples
        --------
        >>> import numpy as np
        >>> from softmax_lab.audit import CHECKS
        >>> class Textbook:
        ...     def softmax(self, z):
        ...         e = np.exp(z - z.max(axis=1, keepdims=True))
        ...         return e / e.sum(axis=1, keepdims=True)
        >>> case = {check.name: check for check in CHECKS}
        >>> case["confident"].run(Textbook(), "softmax", "float32").problem
        ''
        >>> case["label K"].run(Textbook(), "softmax", "float32") is None
        True
        """
        subject = Subject(implementation, function)
        if function not in self.functions or not subject.offered:
            return None
        kind = bfloat16() if isinstance(dtype, str) and dtype == "bfloat16" else np.dtype(dtype)
        try:
            finding = self.examine(subject, kind, limit_ulp)
        except NotOfferedError:
            return None
        except BrokenError as broken:
            return Finding(float("inf"), str(broken), wrong=True)
        # what is no matter of ulps has no digits to lose
        wrong = bool(finding.problem) and (finding.wrong or not math.isfinite(finding.max_ulp))
        return finding._replace(wrong=wrong)


def compare(
    subject: Subject,
    z: Rows,
    y: Rows | None,
    limit: float,
    computed: Rows | None = None,
    spec: LossSpec = LossSpec(),
    **keywords: Any,
) -> Finding:
    """Call the function on rows (or take ``computed``) and hold the answer to the exact values."""
    exact = exact_values(subject.function, z, y, spec)
    answer = subject(z, y, **keywords) if computed is None else computed
    return judge(subject, z.dtype, answer, exact, y, limit)


def judge(
    subject: Subject,
    dtype: Any,
    answer: Rows,
    exact: Exact,
    y: Rows | None,
    limit: float,
    *,
    whole: bool = True,
) -> Finding:
    """Compare an answer with exact values.

    ``whole`` says that its rows are whole, not a selection of entries.
    """
    ulps = ulp_distance(answer, exact.high, exact.low, dtype, exact.scale)
    worst = float(ulps.max(initial=0.0))
    if worst <= limit:
        return Finding(worst)
    words = diagnose(Evidence(subject.function, dtype, answer, exact, ulps, limit, y, whole))
    return Finding(worst, words, _has_wrong(answer, exact, ulps > limit))


def _has_wrong(answer: Rows, exact: Exact, over: NDArray[np.bool_]) -> bool:
    """Whether an entry that is over the limit is NaN, an infinity, 0, 1 or -1, or has another sign."""
    computed = np.asarray(answer, dtype=np.float64)[over]
    true = exact.high[over]
    special = ~np.isfinite(computed) | ~np.isfinite(true) | np.isin(computed, (-1.0, 0.0, 1.0))
    return bool((special | (np.sign(computed) != np.sign(true))).any())


def worst_of(findings: Iterable[tuple[str, Finding]]) -> Finding:
    """Return the worst of findings under names; its problem says which it is of."""
    name, finding = max(findings, key=lambda named: named[1].max_ulp)
    return finding._replace(problem=f"{name}: {finding.problem}") if finding.problem else finding


def inputs(subject: Subject, rows: Rows) -> tuple[Rows, Rows | None]:
    """Return rows and no labels for a function of rows; for a loss, rows repeated for several labels each."""
    return labelled(rows) if subject.takes_labels else (rows, None)


def _accuracy(case: RowCase, subject: Subject, dtype: np.dtype[Any], limit: float) -> Finding:
    return compare(subject, *inputs(subject, case.make(dtype)), limit)


def tiled(tiles: int, subject: Subject, dtype: np.dtype[Any], limit: float) -> Finding:
    """A row in which each value stands ``tiles`` times, a power of two.

    Equal logits must get equal, exact answers. p of the long row is that of the tile over ``tiles``, and
    log p is that of the tile less log(tiles). The extremes over equal entries stand for all.
    """
    tile, label = TILE.make(dtype), 5
    long = np.tile(tile, (1, tiles))
    y = np.array([label]) if subject.takes_labels else None
    answer = subject(long, y)
    if subject.function == "cross_entropy":
        log_p = _less_log(tiles, exact_values("log_softmax", tile))
        return judge(subject, dtype, answer, Exact(-log_p.high[:, label], -log_p.low[:, label]), y, limit)
    if subject.function == "log_softmax":
        exact = _less_log(tiles, exact_values("log_softmax", tile))
    else:
        p = exact_values("softmax", tile)
        exact = Exact(p.high / tiles, p.low / tiles)  # a power of two: exact
    if subject.function == "cross_entropy_grad":
        own = Exact(np.array([[exact.high[0, label] - 1.0]]), np.zeros((1, 1)))
        finding = judge(subject, dtype, answer[:, label : label + 1], own, None, limit, whole=False)
        if finding.problem:
            return finding
        answer[0, label] = answer[0, label + tile.shape[1]]
    groups = answer.reshape(tiles, tile.shape[1])
    extremes = np.stack([groups.min(axis=0), groups.max(axis=0)])
    both = Exact(*(np.repeat(part, 2, axis=0) for part in (exact.high, exact.low)))
    return judge(subject, dtype, extremes, both, None, limit, whole=False)


def _less_log(tiles: int, x: Exact) -> Exact:
    """Return x - log(tiles) of a power of two as a two-float.

    log 2 is split so that its high part times a small integer is exact.
    """
    times = tiles.bit_length() - 1
    total, error = two_sum(x.high, np.full_like(x.high, -times * 0.693147180369123816490))
    return Exact(total, error + (x.low - times * 1.90821492927058770002e-10))


def _at_first(case: RowCase, subject: Subject, dtype: np.dtype[Any], limit: float) -> Finding:
    """Rows whose label is class 0, the one that is sure."""
    rows = case.make(dtype)
    return compare(subject, rows, np.zeros(len(rows), np.int64), limit)


def _log_loss(subject: Subject, dtype: np.dtype[Any], limit: float) -> Finding:
    """Ordinary rows with every kind of label, and sure ones."""
    rows, labels = labelled(GOOD.make(dtype))
    sure = SURE.make(dtype)
    return compare(
        subject, np.concatenate([rows, sure]), np.concatenate([labels, np.zeros(len(sure), np.int64)]), limit
    )


def _zero_sum(subject: Subject, dtype: np.dtype[Any], limit: float) -> Finding:
    """The entries of each row's gradient sum to zero, to within the limit for every one of them.

    A common shift of the logits changes no loss. What is left of the sum is a step along that direction.
    Entries below the smallest normal number may be flushed: in float16 the sums of sure rows say little.
    """
    z, y = labelled(np.concatenate([GOOD.make(dtype), 5 * GOOD.make(dtype), SURE.make(dtype)]))
    gradient = subject(z, y)
    sums = np.array([math.fsum(row) if np.isfinite(row).all() else np.nan for row in gradient])
    rounding = spacing(gradient, dtype).sum(axis=1)
    off = np.where(np.isnan(sums), np.inf, np.abs(sums) / rounding)
    row = int(np.argmax(off))
    worst = float(off[row])
    problem = (
        f"the gradient does not sum to zero: at row {row}, label {int(y[row])}, it sums to {sums[row]:.3g}, "
        f"{told_apart(worst, limit, 3)[0]} times what its entries are rounded by, and training drifts along "
        f"the all-ones direction; at the target return minus the sum of the other entries"
    )
    return Finding(worst, problem if worst > limit else "")


def _with_bad_row(
    bad: float, everywhere: bool, subject: Subject, dtype: np.dtype[Any], limit: float
) -> Finding:
    """Good rows around a bad one: the bad row must be NaN, the good ones as if alone."""
    rows = GOOD.make(dtype)
    spoilt = rows[:1].copy()
    spoilt[0, 2 if not everywhere else slice(None)] = bad
    batch = np.concatenate([rows[:2], spoilt, rows[2:]])
    return compare(subject, batch, some_labels(subject, batch), limit)


def _neighbours(subject: Subject, dtype: np.dtype[Any], limit: float) -> Finding:
    """Good rows beside rows 3e4 above and below them: a global maximum underflows them."""
    rows = GOOD.make(dtype)
    far = np.full_like(rows[:1], 3e4)
    batch = np.concatenate([far, rows, -far])
    return compare(subject, batch, some_labels(subject, batch), limit)


def some_labels(subject: Subject, batch: Rows) -> Rows | None:
    """Return a label a row for a loss, and none for a function of rows."""
    return np.arange(len(batch), dtype=np.int64) % batch.shape[1] if subject.takes_labels else None


def _wide_batch(subject: Subject, dtype: np.dtype[Any], limit: float) -> Finding:
    """20,000 rows: the extremes over equal rows stand for all."""
    rows = GOOD.make(dtype)
    y = some_labels(subject, rows)
    answer = subject(np.tile(rows, (5000, 1)), None if y is None else np.tile(y, 5000))
    groups = answer.reshape(5000, len(rows), *answer.shape[1:])
    exact = exact_values(subject.function, rows, y)
    low, high = (
        judge(subject, dtype, extreme, exact, y, limit)
        for extreme in (groups.min(axis=0), groups.max(axis=0))
    )
    return max(low, high, key=lambda finding: finding.max_ulp)


def _layouts(subject: Subject, dtype: np.dtype[Any], limit: float) -> Finding:
    """The same logits strided, reversed and in Fortran order."""
    rows = GOOD.make(dtype)
    y = some_labels(subject, rows)
    strided = np.repeat(np.repeat(rows, 2, axis=0), 3, axis=1)[::2, ::3]
    backwards = np.ascontiguousarray(rows[::-1, ::-1])[::-1, ::-1]
    views = {
        "strided logits": strided,
        "negatively strided logits": backwards,
        "Fortran-ordered logits": np.asfortranarray(rows),
    }
    return worst_of(
        (name, compare(subject, rows, y, limit, computed=subject(view, y))) for name, view in views.items()
    )


def _repeated_by_strides(subject: Subject, dtype: np.dtype[Any], limit: float) -> Finding:
    """One row for all by a stride of 0, as ``expand`` and ``broadcast_to`` make it; labels out of a table."""
    row = GOOD.make(dtype)[:1]
    n, k = 6, row.shape[1]
    rows = np.repeat(row, n, axis=0)
    view = np.lib.stride_tricks.as_strided(row, (n, k), (0, row.itemsize))
    y = table = None
    if subject.takes_labels:
        table = np.arange(3 * n, dtype=np.int64).reshape(n, 3) * 5 % k
        y = np.ascontiguousarray(table[:, 1])
    answer = subject(view, None if table is None else table[:, 1])
    return compare(subject, rows, y, limit, computed=answer)


def _other_axes(subject: Subject, dtype: np.dtype[Any], limit: float) -> Finding:
    """Classes first, as a column each row, and in the middle of three axes, as pixels have them."""
    if not subject.accepts("axis"):
        raise NotOfferedError("no keyword `axis`")
    rows = GOOD.make(dtype)
    pixels = rows.reshape(2, 2, -1)
    findings = []
    for place, given, axis in (
        ("the first of two axes", rows.T, 0),
        ("the second of three axes", pixels.transpose(0, 2, 1), 1),
        ("the first of three axes", pixels.transpose(2, 0, 1), 0),
    ):
        answer = np.moveaxis(subject(np.ascontiguousarray(given), axis=axis), axis, -1)
        finding = compare(subject, rows, None, limit, computed=answer.reshape(rows.shape))
        findings.append((f"along {place}", finding))
    return worst_of(findings)


def _upstream(subject: Subject, dtype: np.dtype[Any], limit: float) -> Finding:
    """An upstream gradient a row: what reduces or weights the losses afterwards hands it back."""
    if not subject.accepts("upstream"):
        raise NotOfferedError("no keyword `upstream`")
    rows = GOOD.make(dtype)
    return _scaled(subject, rows, rows.argmin(axis=1), np.array([0.25, 0.0, 24.0, 0.75]), limit)


def _loss_scale(subject: Subject, dtype: np.dtype[Any], limit: float) -> Finding:
    """Gradients below the smallest normal number, brought above it by the scale of the loss."""
    if not subject.accepts("upstream") or dtype != np.float16:
        raise NotOfferedError("no keyword `upstream`, or a type with the range of float32")
    rows = FAINT.make(dtype)
    return _scaled(subject, rows, np.zeros(len(rows), np.int64), np.full(len(rows), FAINT_SCALE), limit)


def _scaled(
    subject: Subject, rows: Rows, y: NDArray[np.int64], upstream: NDArray[np.float64], limit: float
) -> Finding:
    """Hold gradients with an upstream gradient a row to the exact ones times it."""
    exact = exact_values(subject.function, rows, y)
    high, low = two_product(exact.high, upstream[:, None])
    times = Exact(high, low + exact.low * upstream[:, None])
    answer = subject(rows, y, upstream=upstream.astype(rows.dtype))
    return judge(subject, rows.dtype, answer, times, y, limit)


def _widths(subject: Subject, dtype: np.dtype[Any], limit: float) -> Finding:
    """Rows of each width, with labels at both ends of them; the worst stands for all."""
    findings = []
    for case in WIDTHS:
        rows = case.make(dtype)
        y = np.array([0, rows.shape[1] - 2]) if subject.takes_labels else None
        findings.append((case.name, compare(subject, rows, y, limit)))
    return worst_of(findings)


def _both_infinities(subject: Subject, dtype: np.dtype[Any], limit: float) -> Finding:
    """-inf beside +inf in one row, and the good rows around it."""
    rows = GOOD.make(dtype)
    spoilt = rows[:1].copy()
    spoilt[0, 1], spoilt[0, 2] = -np.inf, np.inf
    batch = np.concatenate([rows[:2], spoilt, rows[2:]])
    return compare(subject, batch, some_labels(subject, batch), limit)


def _after_nan(subject: Subject, dtype: np.dtype[Any], limit: float) -> Finding:
    """Good rows, then the same rows of NaN, of +inf and of -inf, then the good ones again, to the bit."""
    rows = GOOD.make(dtype)
    y = some_labels(subject, rows)
    before = subject(rows, y)
    for bad in (np.nan, np.inf, -np.inf):
        subject(np.full_like(rows, bad), y)
    after = subject(rows, y)
    if np.array_equal(before, after, equal_nan=True):
        return compare(subject, rows, y, limit, computed=after)
    place = tuple(int(i) for i in np.argwhere(before != after)[0])
    return Finding(
        float("nan"),
        f"rows of NaN and of infinities change what later calls return: {after[place]:.4g} at row "
        f"{place[0]}, where the same call gave {before[place]:.4g} before them",
    )


def _permuted(subject: Subject, dtype: np.dtype[Any], limit: float) -> Finding:
    """Classes in another order: the answers must move with them."""
    rows = GOOD.make(dtype)
    order = np.array([3, 0, 6, 1, 9, 5, 2, 8, 4, 7])
    y = some_labels(subject, rows)
    moved = subject(rows[:, order], None if y is None else np.argsort(order)[y])
    back = moved if subject.function == "cross_entropy" else moved[:, np.argsort(order)]
    return compare(subject, rows, y, limit, computed=back)


def _alone(subject: Subject, dtype: np.dtype[Any], limit: float) -> Finding:
    """Each row by itself against the same row in a batch, in ulps: a result may not depend on the company."""
    rows = np.concatenate([GOOD.make(dtype), 5 * GOOD.make(dtype)])
    y = some_labels(subject, rows)
    together = subject(rows, y)
    alone = np.concatenate(
        [subject(rows[i : i + 1], None if y is None else y[i : i + 1]) for i in range(len(rows))]
    )
    worst = float(ulp_distance(alone, together, np.zeros_like(together), dtype).max())
    problem = f"a row alone and the same row in a batch differ by {told_apart(worst, limit, 3)[0]} ulp"
    return Finding(worst, problem if worst > limit else "")


def _repeatable(subject: Subject, dtype: np.dtype[Any], limit: float) -> Finding:
    """The same call again, and from four threads at once, to the bit."""
    rows = np.tile(GOOD.make(dtype), (64, 1))
    y = some_labels(subject, rows)
    first = subject(rows, y)
    with ThreadPoolExecutor(4) as pool:
        others = [subject(rows, y), *pool.map(lambda _: subject(rows, y), range(8))]
    same = sum(np.array_equal(first, other, equal_nan=True) for other in others)
    problem = (
        ""
        if same == len(others)
        else f"{len(others) - same} of {len(others)} repeated calls (some from other threads) differ from "
        f"the first"
    )
    return Finding(float("nan"), problem)


def _long_rows_repeatable(subject: Subject, dtype: np.dtype[Any], limit: float) -> Finding:
    """Three equal long rows, again and from four threads at once: to the bit, and equal to one another.

    A library may share out a row of this length among threads of its own.
    """
    rows = np.tile(TILE.make(dtype), (3, _LONG))
    y = np.full(len(rows), 5) if subject.takes_labels else None
    first = subject(rows, y)
    if not all(np.array_equal(first[0], other, equal_nan=True) for other in first):
        return Finding(float("nan"), "equal rows of one batch get unequal answers")
    with ThreadPoolExecutor(4) as pool:
        others = [subject(rows, y), *pool.map(lambda _: subject(rows, y), range(4))]
    off = sum(not np.array_equal(first, other, equal_nan=True) for other in others)
    return Finding(
        float("nan"),
        f"{off} of {len(others)} repeated calls (most of them from other threads at once) differ from the "
        f"first on rows of {rows.shape[1]} classes"
        if off
        else "",
    )


def _input_kept(subject: Subject, dtype: np.dtype[Any], limit: float) -> Finding:
    rows = GOOD.make(dtype)
    y = some_labels(subject, rows)
    kept, labels_kept = rows.copy(), None if y is None else y.copy()
    subject(rows, y)
    changed = not np.array_equal(rows, kept) or (y is not None and not np.array_equal(y, labels_kept))  # type: ignore[arg-type]
    return Finding(float("nan"), "the call overwrites its own input" if changed else "")


def _masked(subject: Subject, dtype: np.dtype[Any], limit: float) -> Finding:
    """``where``: masked entries, huge or NaN, take no part and get 0 (log-probability -inf)."""
    if not subject.accepts("where"):
        raise NotOfferedError("no keyword `where`")
    rows = GOOD.make(dtype)
    where = np.ones(rows.shape, bool)
    where[:, [1, 4]] = False
    spoilt = rows.copy()
    spoilt[:, 1], spoilt[:, 4] = np.nan, float_format(dtype).largest
    kept = rows.copy()
    kept[~where] = -np.inf  # not by np.where, which would ask for the common type of a half type and a float
    y = np.array([0, 2, 3, 6]) if subject.takes_labels else None
    return compare(subject, kept, y, limit, computed=subject(spoilt, y, where=where))


def _soft_targets(subject: Subject, dtype: np.dtype[Any], limit: float) -> Finding:
    """Distributions that sum to 0.75 and 1.5: the loss is linear in the target, the gradient q sum(t) - t."""
    rows = GOOD.make(dtype)
    target = np.zeros(rows.shape)
    target[:, 0], target[:, 3], target[:, 5] = 0.25, 0.5, [0.0, 0.0, 0.75, 0.75]
    return compare(subject, rows, target.astype(rows.dtype), limit)


def _smoothed(subject: Subject, dtype: np.dtype[Any], limit: float) -> Finding:
    """label_smoothing=0.25 against (1 - eps) e_y + eps / K."""
    if not subject.accepts("label_smoothing"):
        raise NotOfferedError("no keyword `label_smoothing`")
    rows = GOOD.make(dtype)
    return compare(
        subject, rows, some_labels(subject, rows), limit, spec=LossSpec(smoothing=0.25), label_smoothing=0.25
    )


def _smoothed_and_weighted(subject: Subject, dtype: np.dtype[Any], limit: float) -> Finding:
    """The gradient vanishes where q is the smoothed target, with class weights too.

    The loss is least there.
    """
    if not subject.accepts("label_smoothing", "class_weight"):
        raise NotOfferedError("no keywords `label_smoothing` and `class_weight`")
    k, eps = 4, 0.25
    weight = np.array([1.0, 8.0, 1.0, 2.0])
    s = (1 - eps) * np.eye(k) + eps / k
    gradient = subject(np.log(s).astype(dtype), np.arange(k), label_smoothing=eps, class_weight=weight)
    off = float(np.abs(gradient).max())
    allowed = 32 * float_format(dtype).eps * weight.max()  # log(s) itself is rounded to the type
    problem = (
        f"at q = smoothed target the gradient is {off:.3g}, not 0: class weights multiply the terms of the "
        f"smoothed target, "
        "so the loss is least somewhere else; weight the row by its label's weight"
    )
    return Finding(float("nan"), problem if off > allowed else "")


def _label_outside(
    label: Callable[[int], int], subject: Subject, dtype: np.dtype[Any], limit: float
) -> Finding:
    """A label outside [0, K) must raise, or make its own row NaN: a number would be silent nonsense."""
    rows = GOOD.make(dtype)
    y = np.arange(len(rows), dtype=np.int64)
    y[1] = label(rows.shape[1])
    try:
        answer = subject(rows, y)
    except RaisedError:
        return Finding(float("nan"))
    bad = answer[1]
    if not np.isnan(bad).all():
        shown = float(np.ravel(bad)[int(np.argmax(~np.isnan(np.ravel(bad))))])
        return Finding(
            float("nan"),
            f"label {int(y[1])} with {rows.shape[1]} classes is accepted and gives {shown:.4g}: raise an "
            f"error",
        )
    others = np.delete(answer, 1, axis=0)
    return Finding(
        float("nan"), "a label out of range in one row makes other rows NaN" if np.isnan(others).any() else ""
    )


CHECKS: tuple[Check, ...] = (
    *(Check(case.name, case.reason, partial(_accuracy, case)) for case in HARD_ROWS),
    Check(SURE.name, SURE.reason, partial(_at_first, SURE), LOSSES),
    Check(
        "zero sum",
        "a row's gradient sums to zero: a common shift of the logits changes no loss",
        _zero_sum,
        GRADIENTS,
    ),
    Check(
        "log loss",
        "the logarithm of a loss of 1e-38 and less: a loss that has lost its digits has no logarithm left",
        _log_loss,
        LOG_LOSSES,
    ),
    Check(FAR.name, FAR.reason, partial(_at_first, FAR), LOG_LOSSES),
    Check("widths", "7, 8, 9, 31 and 33 classes: the last ones are beside a vector register's", _widths),
    Check(
        "a hundred thousand classes",
        "the vocabulary of a language model: a running sum drifts",
        partial(tiled, _HUNDRED_THOUSAND),
    ),
    Check(TILE.name, TILE.reason, partial(tiled, TILES)),
    Check("NaN row", "one NaN makes its own row NaN and no other", partial(_with_bad_row, np.nan, False)),
    Check(
        "+inf row",
        "+inf has no softmax: its row is NaN, the others untouched",
        partial(_with_bad_row, np.inf, False),
    ),
    Check(
        "-inf row",
        "nothing above -inf: no distribution, NaN as in every framework",
        partial(_with_bad_row, -np.inf, True),
    ),
    Check("+inf beside -inf", "-inf is a mask, +inf is none: the row is NaN", _both_infinities),
    Check(
        "after NaN", "a call keeps nothing of the calls before it, of NaN and of infinities least", _after_nan
    ),
    Check("far neighbours", "rows far above and below: the maximum must be the row's own", _neighbours),
    Check("wide batch", "twenty thousand rows: indices, blocks and threads", _wide_batch),
    Check("memory layout", "strided, reversed and Fortran-ordered logits", _layouts),
    Check(
        "repeated by strides",
        "one row for all by a stride of 0, and labels that are a column of a table",
        _repeated_by_strides,
    ),
    Check(
        "other axes",
        "classes along the first of two axes, and of three: layouts have kernels of their own",
        _other_axes,
        ("softmax", "log_softmax"),
    ),
    Check("permutation", "classes in another order give the same answers in that order", _permuted),
    Check("row alone", "a row's result does not depend on the batch it is in", _alone),
    Check("repeatable", "the same call gives the same bits, also from several threads", _repeatable),
    Check(
        "long rows repeatable",
        "a row's sum that threads share out is added in one order, whenever it is asked for",
        _long_rows_repeatable,
    ),
    Check("input kept", "the caller's arrays are not written to", _input_kept),
    Check("mask", "classes masked by `where`, with anything in them", _masked),
    Check(
        "upstream gradients",
        "an upstream gradient a row, 0 among them: each row's own factor",
        _upstream,
        ("cross_entropy_grad",),
    ),
    Check(FAINT.name, FAINT.reason, _loss_scale, ("cross_entropy_grad",)),
    Check("soft targets", "distributions that do not sum to one", _soft_targets, LOSSES),
    Check(
        "label smoothing", "normalised over all K classes, the target's own share included", _smoothed, LOSSES
    ),
    Check(
        "smoothing with weights",
        "class weights must not move the optimum",
        _smoothed_and_weighted,
        ("cross_entropy_grad",),
    ),
    Check("label K", "one past the last class", partial(_label_outside, lambda k: k), LOSSES),
    Check(
        "label -1", "a negative label would index from the end", partial(_label_outside, lambda k: -1), LOSSES
    ),
)
