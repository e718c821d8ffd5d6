"""The checks are tested by mutation: every planted fault is caught, an exact implementation is cleared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import softmax_lab as sl
from softmax_lab import audit
from softmax_lab.audit.subject import FUNCTIONS

from .implementations import Array, ExactlyRounded, Good

FAST = {"dtypes": ["float32", "float64"], "progress": False}


def _one_hot(z: Array, y: Array) -> Array:
    # no rows of an identity matrix: of many classes it fills the memory
    return (np.arange(z.shape[1]) == y[:, None]).astype(z.dtype) if y.ndim == 1 else y


# ---- the planted faults: each is the good implementation with one thing wrong ----


class NaiveExp(Good):
    def softmax(self, z: Array, where: Array | None = None) -> Array:  # type: ignore[override]
        e = np.exp(z)
        return e / e.sum(axis=1, keepdims=True)


class GlobalMaximum(Good):
    def softmax(self, z: Array, where: Array | None = None) -> Array:  # type: ignore[override]
        e = np.exp(z - z.max())
        return e / e.sum(axis=1, keepdims=True)


class EpsilonInTheDenominator(Good):
    def softmax(self, z: Array, where: Array | None = None) -> Array:  # type: ignore[override]
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / (e.sum(axis=1, keepdims=True) + 1e-8)


class WrongAxis(Good):
    def softmax(self, z: Array, where: Array | None = None) -> Array:  # type: ignore[override]
        return sl.softmax(z, axis=0)


class DroppedClass(Good):
    def softmax(self, z: Array, where: Array | None = None) -> Array:  # type: ignore[override]
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e[:, : max(1, z.shape[1] - 1)].sum(axis=1, keepdims=True)


class HalfAccumulator(Good):
    def softmax(self, z: Array, where: Array | None = None) -> Array:  # type: ignore[override]
        e = np.exp(z - z.max(axis=1, keepdims=True)).astype(np.float16)
        return (e / e.sum(axis=1, keepdims=True, dtype=np.float16)).astype(z.dtype)


class RunningSum(Good):
    """A sum one term after the other, in the type itself: it drifts with the number of classes."""

    def softmax(self, z: Array, where: Array | None = None) -> Array:  # type: ignore[override]
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / np.cumsum(e, axis=1)[:, -1:]


class NanSwallowed(Good):
    def softmax(self, z: Array, where: Array | None = None) -> Array:  # type: ignore[override]
        return np.nan_to_num(sl.softmax(z, where=where))


class Clipped(Good):
    def log_softmax(self, z: Array, where: Array | None = None) -> Array:  # type: ignore[override]
        return np.log(np.clip(sl.softmax(z, where=where), 1e-7, 1))


class LogOfSoftmax(Good):
    def log_softmax(self, z: Array, where: Array | None = None) -> Array:  # type: ignore[override]
        return np.log(sl.softmax(z, where=where))


class PlainLog(Good):
    """z - max - log(sum): the maximum's own term drowns the others."""

    def log_softmax(self, z: Array, where: Array | None = None) -> Array:  # type: ignore[override]
        shifted = z - z.max(axis=1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


class WrongBase(Good):
    def log_softmax(self, z: Array, where: Array | None = None) -> Array:  # type: ignore[override]
        return sl.log_softmax(z, where=where) / np.log(2).astype(z.dtype)


class ProbabilityMinusOne(Good):
    def cross_entropy_grad(  # type: ignore[override]
        self,
        z: Array,
        y: Array,
        label_smoothing: float = 0.0,
        class_weight: Any = 1.0,
        where: Array | None = None,
    ) -> Array:
        if y.ndim == 1 and ((y < 0) | (y >= z.shape[1])).any():
            raise IndexError("label out of range")
        return sl.softmax(z) - _one_hot(z, y)


class ShiftedLabels(Good):
    def cross_entropy_grad(self, z: Array, y: Array, **options: Any) -> Array:  # type: ignore[override]
        return super().cross_entropy_grad(z, (y + 1) % z.shape[1] if y.ndim == 1 else y, **options)


class Sign(Good):
    def cross_entropy_grad(self, z: Array, y: Array, **options: Any) -> Array:  # type: ignore[override]
        return -super().cross_entropy_grad(z, y, **options)


class MeanGradient(Good):
    def cross_entropy_grad(self, z: Array, y: Array, **options: Any) -> Array:  # type: ignore[override]
        return super().cross_entropy_grad(z, y, **options) / len(z)


class NormalisedSoftTarget(Good):
    """The gradient p - t, right only where t sums to one."""

    def cross_entropy_grad(self, z: Array, y: Array, **options: Any) -> Array:  # type: ignore[override]
        return sl.softmax(z) - y if y.ndim == 2 else super().cross_entropy_grad(z, y, **options)


class SmoothingOverTheOthers(Good):
    """eps / (K - 1) on the other classes: another loss than (1 - eps) e_y + eps / K."""

    def cross_entropy(self, z: Array, y: Array, label_smoothing: float = 0.0, **options: Any) -> Array:  # type: ignore[override]
        k = z.shape[1]
        return super().cross_entropy(z, y, label_smoothing=label_smoothing * k / max(k - 1, 1), **options)


class TorchWeights(Good):
    """Class weights times the terms of the smoothed target."""

    def cross_entropy_grad(  # type: ignore[override]
        self, z: Array, y: Array, label_smoothing: float = 0.0, class_weight: Any = 1.0, where: Any = None
    ) -> Array:
        if y.ndim == 2 or label_smoothing == 0:
            return super().cross_entropy_grad(z, y, label_smoothing, class_weight, where)
        k = z.shape[1]
        s = ((1 - label_smoothing) * np.eye(k)[y] + label_smoothing / k) * class_weight
        return super().cross_entropy_grad(z, s)


class WrapsNegativeLabels(Good):
    def cross_entropy(self, z: Array, y: Array, **options: Any) -> Array:  # type: ignore[override]
        if y.ndim == 1:
            y = np.where(y < 0, y + z.shape[1], y)
        return super().cross_entropy(z, y, **options)


class ClampsLabels(Good):
    def cross_entropy(self, z: Array, y: Array, **options: Any) -> Array:  # type: ignore[override]
        return super().cross_entropy(z, np.clip(y, 0, z.shape[1] - 1) if y.ndim == 1 else y, **options)


class MeanLoss(Good):
    def cross_entropy(self, z: Array, y: Array, **options: Any) -> Array:  # type: ignore[override]
        return np.asarray(super().cross_entropy(z, y, **options).mean())


class Overwrites(Good):
    def softmax(self, z: Array, where: Array | None = None) -> Array:  # type: ignore[override]
        return sl.softmax(z, where=where, out=z if z.flags.writeable and where is None else None)


class Forgetful(Good):
    """A buffer kept between calls: right when called once, wrong from several threads."""

    def __init__(self) -> None:
        self.calls = 0

    def softmax(self, z: Array, where: Array | None = None) -> Array:  # type: ignore[override]
        self.calls += 1
        return sl.softmax(z, where=where) * z.dtype.type(1 + 2e-7 * (self.calls % 2))


class AssumesContiguous(Good):
    """Reads the buffer under a strided view as if it were packed."""

    def softmax(self, z: Array, where: Array | None = None) -> Array:  # type: ignore[override]
        base = z.base if z.base is not None and not z.flags.c_contiguous else z
        return sl.softmax(np.ravel(base)[: z.size].reshape(z.shape), where=where)


class MaskForgotten(Good):
    def softmax(self, z: Array, where: Array | None = None) -> Array:  # type: ignore[override]
        p = sl.softmax(z)
        return p if where is None else np.where(where, p, 0)


class BatchDependent(Good):
    def softmax(self, z: Array, where: Array | None = None) -> Array:  # type: ignore[override]
        return sl.softmax(z, where=where) * z.dtype.type(1.0 if len(z) > 1 else 1 + 1e-5)


class Narrowed(Good):
    def softmax(self, z: Array, where: Array | None = None) -> Array:  # type: ignore[override]
        return sl.softmax(z.astype(np.float32), where=where)


class BestCaseOnly(Good):
    """Fails outright on one class."""

    def softmax(self, z: Array, where: Array | None = None) -> Array:  # type: ignore[override]
        if z.shape[1] == 1:
            raise ZeroDivisionError("degrees of freedom")
        return sl.softmax(z, where=where)


class PlainLogLoss(Good):
    """log(sum exp(z - max)) less the label's shifted logit: right until the others fall below eps."""

    def cross_entropy(self, z: Array, y: Array, **options: Any) -> Array:  # type: ignore[override]
        if y.ndim == 2 or options or ((y < 0) | (y >= z.shape[1])).any():
            return super().cross_entropy(z, y, **options)
        shifted = z - z.max(axis=1, keepdims=True)
        own = np.take_along_axis(shifted, y[:, None], axis=1)[:, 0]
        return np.log(np.exp(shifted).sum(axis=1)) - own


class LostAtTheTarget(Good):
    """p_y - 1 at the target, formed in the type itself from a softmax that is right."""

    def cross_entropy_grad(self, z: Array, y: Array, **options: Any) -> Array:  # type: ignore[override]
        gradient = super().cross_entropy_grad(z, y, **options)
        if y.ndim == 1 and not options:
            row = np.arange(len(y))
            gradient[row, y] = sl.softmax(z)[row, y] - z.dtype.type(1)
        return gradient


class Unbalanced(Good):
    """Every entry at its target is a thousandth too large."""

    def cross_entropy_grad(self, z: Array, y: Array, **options: Any) -> Array:  # type: ignore[override]
        gradient = super().cross_entropy_grad(z, y, **options)
        if y.ndim == 1:
            gradient[np.arange(len(y)), y] *= z.dtype.type(1.001)
        return gradient


class Shifted(Good):
    """A common shift: far below every entry's own size, and above what they are rounded by."""

    def log_cross_entropy_grad(self, z: Array, y: Array) -> Array:
        gradient = super().log_cross_entropy_grad(z, y)
        return gradient + z.dtype.type(2e-6) * np.abs(gradient).max(axis=1, keepdims=True)


class LogOfTheLoss(Good):
    def log_cross_entropy(self, z: Array, y: Array) -> Array:
        return np.log(np.asarray(sl.cross_entropy(z, y, reduction="none")))


class ClippedLog(Good):
    def log_cross_entropy(self, z: Array, y: Array) -> Array:
        return np.log(np.maximum(np.asarray(sl.cross_entropy(z, y, reduction="none")), 1e-12))


class GradientOverLoss(Good):
    def log_cross_entropy_grad(self, z: Array, y: Array) -> Array:
        value, gradient = sl.cross_entropy_grad(z, y, reduction="none")
        return gradient / np.asarray(value)[:, None]


class LogGradientOfTheMean(Good):
    def log_cross_entropy_grad(self, z: Array, y: Array) -> Array:
        return sl.log_cross_entropy_grad(z, y)[1]


class LastOfNine(Good):
    """A loop of eight lanes that forgets the one class left over."""

    def softmax(self, z: Array, where: Array | None = None) -> Array:  # type: ignore[override]
        e = np.exp(z - z.max(axis=1, keepdims=True))
        kept = z.shape[1] - (z.shape[1] % 8 == 1 and z.shape[1] > 8)
        return e / e[:, :kept].sum(axis=1, keepdims=True)


class SixteenBitIndex(Good):
    def softmax(self, z: Array, where: Array | None = None) -> Array:  # type: ignore[override]
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e[:, : 2**16].sum(axis=1, keepdims=True)


class InfinitiesMasked(Good):
    """Where a row has a mask of -inf, whatever is infinite in it is taken for masked."""

    def softmax(self, z: Array, where: Array | None = None) -> Array:  # type: ignore[override]
        some = (z == -np.inf).any(axis=1, keepdims=True) & np.isfinite(z).any(axis=1, keepdims=True)
        return sl.softmax(z, where=np.isfinite(z) | ~some)


class Poisoned(Good):
    """A scratch array that a batch of NaN stays in."""

    def __init__(self) -> None:
        self.scratch = 0.0

    def softmax(self, z: Array, where: Array | None = None) -> Array:  # type: ignore[override]
        self.scratch += np.nan if np.isnan(z).all() else 0.0
        return sl.softmax(z, where=where) + z.dtype.type(self.scratch)


class PackedLabels(Good):
    """Reads labels one beside the other, whatever their stride."""

    def cross_entropy(self, z: Array, y: Array, **options: Any) -> Array:  # type: ignore[override]
        packed = y if y.base is None or y.flags.c_contiguous else np.ravel(y.base)[: len(y)]
        return super().cross_entropy(z, packed, **options)


class LastAxisOnly(Good):
    """Moves the axis of a matrix, and takes the last one of anything larger."""

    def softmax(self, z: Array, where: Array | None = None, axis: int = -1) -> Array:
        return sl.softmax(z, where=where, axis=axis if z.ndim == 2 else -1)


class FirstUpstream(Good):
    """Takes the first row's upstream gradient for every row's: a stride of 0."""

    def cross_entropy_grad(self, z: Array, y: Array, upstream: Any = None, **options: Any) -> Array:  # type: ignore[override]
        first = None if upstream is None else np.full_like(upstream, upstream[0])
        return super().cross_entropy_grad(z, y, upstream=first, **options)


class RoundedBeforeTheScale(Good):
    """A gradient in the type of the logits, then multiplied."""

    def cross_entropy_grad(self, z: Array, y: Array, upstream: Any = None, **options: Any) -> Array:  # type: ignore[override]
        gradient = super().cross_entropy_grad(z, y, **options)
        return gradient if upstream is None else gradient * upstream[:, None]


class InWhateverOrder(Good):
    """Threads add up their shares of a long row in the order in which they are done."""

    def __init__(self) -> None:
        self.calls = 0

    def softmax(self, z: Array, where: Array | None = None) -> Array:  # type: ignore[override]
        if z.shape[1] < 10_000:
            return sl.softmax(z, where=where)
        self.calls += 1
        e = np.exp(z - z.max(axis=1, keepdims=True))
        shares = [e[:, i : i + 1024].sum(axis=1, keepdims=True) for i in range(0, z.shape[1], 1024)]
        return e / sum(shares[:: 1 if self.calls % 2 else -1])


#: fault -> (function that it is in, a case that must catch it, words that the verdict must hold)
FAULTS: dict[type[Good], tuple[str, str, str]] = {
    NaiveExp: ("softmax", "offset 1e4", "own maximum"),
    GlobalMaximum: ("softmax", "far neighbours", "own"),
    EpsilonInTheDenominator: ("softmax", "one class", "ulp off"),
    WrongAxis: ("softmax", "moderate", "axis"),
    DroppedClass: ("softmax", "tied", "sum to"),
    HalfAccumulator: ("softmax", "moderate", "ulp off"),
    RunningSum: ("softmax", "a million classes", "ulp off"),
    NanSwallowed: ("softmax", "NaN row", "must be NaN"),
    Clipped: ("log_softmax", "-inf", "hides an impossible class"),
    LogOfSoftmax: ("log_softmax", "wide", "logsumexp"),
    PlainLog: ("log_softmax", "confident", "log1p"),
    WrongBase: ("log_softmax", "moderate", "1.443 times"),
    ProbabilityMinusOne: ("cross_entropy_grad", "confident", "not p_y - 1"),
    ShiftedLabels: ("cross_entropy_grad", "permutation", "labels are shifted"),
    Sign: ("cross_entropy_grad", "moderate", "sign is reversed"),
    MeanGradient: ("cross_entropy_grad", "permutation", "not the mean's"),
    NormalisedSoftTarget: ("cross_entropy_grad", "soft targets", "wrong beyond rounding"),
    SmoothingOverTheOthers: ("cross_entropy", "label smoothing", "wrong beyond rounding"),
    TorchWeights: ("cross_entropy_grad", "smoothing with weights", "weight the row"),
    WrapsNegativeLabels: ("cross_entropy", "label -1", "raise an error"),
    ClampsLabels: ("cross_entropy", "label K", "raise an error"),
    MeanLoss: ("cross_entropy", "moderate", "one loss a row"),
    Overwrites: ("softmax", "input kept", "overwrites its own input"),
    Forgetful: ("softmax", "repeatable", "differ from the first"),
    AssumesContiguous: ("softmax", "memory layout", "strided logits"),
    MaskForgotten: ("softmax", "mask", "NaN"),
    BatchDependent: ("softmax", "row alone", "in a batch differ"),
    Narrowed: ("softmax", "moderate", "ulp off"),
    PlainLogLoss: ("cross_entropy", "lost gradient", "log1p"),
    LostAtTheTarget: ("cross_entropy_grad", "lost gradient", "not p_y - 1"),
    Unbalanced: ("cross_entropy_grad", "zero sum", "all-ones direction"),
    Shifted: ("log_cross_entropy_grad", "zero sum", "does not sum to zero"),
    ClippedLog: ("log_cross_entropy", "log loss", "wrong beyond rounding"),
    LogGradientOfTheMean: ("log_cross_entropy_grad", "log loss", "wrong beyond rounding"),
    LogOfTheLoss: ("log_cross_entropy", "log loss, far", "the loss was 0 before its logarithm"),
    GradientOverLoss: ("log_cross_entropy_grad", "log loss, far", "the loss was 0 before its logarithm"),
    LastOfNine: ("softmax", "widths", "9 classes: "),
    SixteenBitIndex: ("softmax", "a hundred thousand classes", "every entry is 1.906 times"),
    InfinitiesMasked: ("softmax", "+inf beside -inf", "must be NaN"),
    Poisoned: ("softmax", "after NaN", "change what later calls return: nan"),
    PackedLabels: ("cross_entropy", "repeated by strides", "wrong beyond rounding"),
    LastAxisOnly: ("softmax", "other axes", "along the second of three axes: "),
    FirstUpstream: ("cross_entropy_grad", "upstream gradients", "wrong beyond rounding"),
    InWhateverOrder: ("softmax", "long rows repeatable", "differ from the first on rows of 31232 classes"),
    BestCaseOnly: ("softmax", "one class", "raises ZeroDivisionError: degrees of freedom"),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_every_planted_fault_is_caught_and_named(fault: type[Good]) -> None:
    function, case, words = FAULTS[fault]
    frame = audit.run({"fault": fault()}, functions=[function], **FAST)  # type: ignore[arg-type]
    caught = frame[(frame.case == case) & ~frame.ok]
    assert len(caught), f"not caught by {case}"
    assert caught.problem.str.contains(words, regex=False).any(), caught.problem.tolist()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_the_lost_gradient_is_caught_in_every_type(dtype: str) -> None:
    """Rows that are sure in a type are there for each: a fault of one type alone is caught in it alone."""

    class InOneType(Good):
        def cross_entropy_grad(self, z: Array, y: Array, **options: Any) -> Array:  # type: ignore[override]
            faulty = LostAtTheTarget() if z.dtype.name == dtype else Good()
            return faulty.cross_entropy_grad(z, y, **options)

    frame = audit.run({"fault": InOneType()}, functions=["cross_entropy_grad"], progress=False)
    failed = frame[~frame.ok & (frame.case == "lost gradient")]
    assert failed.dtype.tolist() == [dtype]
    # where float16's small entries may be flushed, their sum may be off by as much
    sums = frame[~frame.ok & (frame.case == "zero sum") & (frame.dtype != "float16")]
    assert sums.dtype.tolist() == [dtype] * (dtype != "float16")


def test_what_is_rounded_before_the_scale_of_a_loss_is_caught() -> None:
    """In float16 alone: what is too small for the others is scaled by no one."""
    frame = audit.run({"fault": RoundedBeforeTheScale()}, functions=["cross_entropy_grad"], progress=False)
    asked = frame[frame.case == "loss scale"]
    assert asked.dtype.tolist() == ["float16"]
    assert not asked.ok.any()
    assert not asked.wrong.any()  # digits, and no sign
    assert asked.problem.str.contains("ulp off|wrong beyond rounding").all()


def test_a_sum_is_counted_in_what_the_entries_are_rounded_by() -> None:
    """An entry that is off by n of its own ulps leaves a sum of n ulps over those of all entries."""

    class Off(Good):
        def cross_entropy_grad(self, z: Array, y: Array, **options: Any) -> Array:  # type: ignore[override]
            gradient = np.zeros(z.shape)
            gradient[:, 0], gradient[:, 1] = 0.75 + 8 * 2.0**-53, -0.75
            return gradient

    frame = audit.run({"off": Off()}, functions=["cross_entropy_grad"], dtypes=["float64"], progress=False)
    # eight entries of 0 count the smallest normal number each, which is nothing beside 2^-53
    assert frame[frame.case == "zero sum"].max_ulp.tolist() == [4.0]


def test_there_are_faults_enough() -> None:
    assert len(FAULTS) >= 20
    assert {function for function, _, _ in FAULTS.values()} == set(FUNCTIONS)


def test_the_good_implementation_is_cleared() -> None:
    frame = audit.run({"good": Good()}, progress=False)
    assert frame.ok.all(), frame[~frame.ok].to_string()
    assert set(frame.case) == {check.name for check in audit.CHECKS}


def test_an_exact_implementation_is_cleared() -> None:
    frame = audit.run({"exact": ExactlyRounded()}, progress=False)
    assert frame.ok.all(), frame[~frame.ok].to_string()
    assert frame.max_ulp.max() <= 0.5 + 1e-9  # one rounding, to float64


def test_the_masked_case_needs_no_common_type_of_half_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy 1.26 knows none for bfloat16 and a float: nothing of the audit's own may ask for one."""

    def where(condition: Any, one: Any, other: Any) -> Array:
        assert getattr(one, "dtype", np.dtype(float)).itemsize > 2, "np.where of half precision"
        return original(condition, one, other)

    original = np.where
    monkeypatch.setattr(np, "where", where)
    frame = audit.run({"good": Good()}, dtypes=["bfloat16", "float16"], functions=["softmax"], progress=False)
    assert frame.ok.all()
    assert "mask" in set(frame.case)


# ---- one case by itself, and what is wrong beyond lost digits ----

CASE = {check.name: check for check in audit.CHECKS}


@pytest.mark.parametrize("check", audit.CHECKS, ids=lambda check: check.name)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_ones_own_implementation_against_every_case(check: audit.Check, function: str) -> None:
    """As the API page shows it."""
    finding = check.run(Good(), function, "float32")
    if finding is None:
        pytest.skip("the case is not about this function")
    assert not finding.problem, finding.problem
    assert not finding.wrong


def test_a_case_that_does_not_apply_is_none() -> None:
    class Only:
        def softmax(self, z: Array) -> Array:
            return sl.softmax(z)

    assert CASE["label K"].run(Good(), "softmax", "float32") is None
    assert CASE["mask"].run(Only(), "softmax", "float32") is None  # names no `where`
    assert CASE["moderate"].run(Only(), "log_softmax", "float32") is None
    found = CASE["moderate"].run(Only(), "softmax", "bfloat16")
    assert found is not None
    assert 0.4 < found.max_ulp <= 0.5  # rounded once
    assert (found.problem, found.wrong) == ("", False)


def test_the_limit_is_that_of_the_call() -> None:
    assert CASE["moderate"].run(Good(), "softmax", "float64", limit_ulp=0.01).problem  # type: ignore[union-attr]


#: fault -> a case, and whether more than digits is lost there
WRONG: dict[type[Good], tuple[str, str, bool]] = {
    NaiveExp: ("softmax", "offset 1e4", True),
    Clipped: ("log_softmax", "-inf", True),
    LostAtTheTarget: ("cross_entropy_grad", "lost gradient", True),
    PlainLogLoss: ("cross_entropy", "lost gradient", True),
    Sign: ("cross_entropy_grad", "moderate", True),
    ClampsLabels: ("cross_entropy", "label K", True),
    Forgetful: ("softmax", "repeatable", True),
    MeanLoss: ("cross_entropy", "moderate", True),
    Narrowed: ("softmax", "moderate", False),
    RunningSum: ("softmax", "a million classes", False),
    Unbalanced: ("cross_entropy_grad", "zero sum", False),
    BatchDependent: ("softmax", "row alone", False),
    LastOfNine: ("softmax", "widths", False),
    SixteenBitIndex: ("softmax", "a hundred thousand classes", False),
    InfinitiesMasked: ("softmax", "+inf beside -inf", True),
    Poisoned: ("softmax", "after NaN", True),
    InWhateverOrder: ("softmax", "long rows repeatable", True),
    FirstUpstream: ("cross_entropy_grad", "upstream gradients", True),
}


@pytest.mark.parametrize("fault", WRONG, ids=lambda fault: fault.__name__)
def test_lost_digits_are_not_wrong(fault: type[Good]) -> None:
    function, case, wrong = WRONG[fault]
    dtype = "float64" if fault is Narrowed else "float32"
    finding = CASE[case].run(fault(), function, dtype)
    assert finding is not None
    assert finding.problem
    assert finding.wrong is wrong
