"""The audit is itself tested by mutation: every planted fault is caught, an exact implementation is
cleared.
"""

# a planted fault overrides one function and passes the rest through: its signature is looser than the
# original mypy: disable-error-code="override, arg-type"

from __future__ import annotations

import sys
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import softmax_lab as sl
from softmax_lab import LossSpec, audit
from softmax_lab.audit.subject import BrokenError, Subject
from softmax_lab.audit.values import FUNCTIONS, exact_values

from ..ulps import dtype_of

Array = np.ndarray
FAST = {"dtypes": ["float32", "float64"], "progress": False}


class Good:
    """The package under the audit's names: what the faults are planted in."""

    def softmax(self, z: Array, where: Array | None = None) -> Array:
        return sl.softmax(z, where=where)

    def log_softmax(self, z: Array, where: Array | None = None) -> Array:
        return sl.log_softmax(z, where=where)

    def cross_entropy(
        self,
        z: Array,
        y: Array,
        label_smoothing: float = 0.0,
        class_weight: Any = 1.0,
        where: Array | None = None,
    ) -> Array:
        spec = LossSpec(smoothing=label_smoothing, class_weight=class_weight)
        return np.asarray(sl.cross_entropy(z, y, spec, reduction="none", where=where))

    def cross_entropy_grad(
        self,
        z: Array,
        y: Array,
        label_smoothing: float = 0.0,
        class_weight: Any = 1.0,
        where: Array | None = None,
    ) -> Array:
        spec = LossSpec(smoothing=label_smoothing, class_weight=class_weight)
        return sl.cross_entropy_grad(z, y, spec, reduction="none", where=where)[1]


def _one_hot(z: Array, y: Array) -> Array:
    return np.eye(z.shape[1], dtype=z.dtype)[y] if y.ndim == 1 else y


class ExactlyRounded:
    """The oracle itself, rounded: what no implementation can beat must pass whole."""

    def _call(self, function: str, z: Array, y: Array | None = None) -> Array:
        if z.shape[1] > 10_000 or len(z) > 1000:
            raise NotImplementedError("the oracle would take minutes")
        if y is not None and y.ndim == 1 and ((y < 0) | (y >= z.shape[1])).any():
            raise IndexError("label out of range")
        exact = exact_values(function, z, y)
        return exact.high + exact.low

    def softmax(self, z: Array) -> Array:
        return self._call("softmax", z)

    def log_softmax(self, z: Array) -> Array:
        return self._call("log_softmax", z)

    def cross_entropy(self, z: Array, y: Array) -> Array:
        return self._call("cross_entropy", z, y)

    def cross_entropy_grad(self, z: Array, y: Array) -> Array:
        return self._call("cross_entropy_grad", z, y)


# ---- the planted faults: each is the good implementation with one thing wrong ----


class NaiveExp(Good):
    def softmax(self, z: Array, where: Array | None = None) -> Array:
        e = np.exp(z)
        return e / e.sum(axis=1, keepdims=True)


class GlobalMaximum(Good):
    def softmax(self, z: Array, where: Array | None = None) -> Array:
        e = np.exp(z - z.max())
        return e / e.sum(axis=1, keepdims=True)


class EpsilonInTheDenominator(Good):
    def softmax(self, z: Array, where: Array | None = None) -> Array:
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / (e.sum(axis=1, keepdims=True) + 1e-8)


class WrongAxis(Good):
    def softmax(self, z: Array, where: Array | None = None) -> Array:
        return sl.softmax(z, axis=0)


class DroppedClass(Good):
    def softmax(self, z: Array, where: Array | None = None) -> Array:
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e[:, : max(1, z.shape[1] - 1)].sum(axis=1, keepdims=True)


class HalfAccumulator(Good):
    def softmax(self, z: Array, where: Array | None = None) -> Array:
        e = np.exp(z - z.max(axis=1, keepdims=True)).astype(np.float16)
        return (e / e.sum(axis=1, keepdims=True, dtype=np.float16)).astype(z.dtype)


class RunningSum(Good):
    """A sum one term after the other, in the type itself: it drifts with the number of classes."""

    def softmax(self, z: Array, where: Array | None = None) -> Array:
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / np.cumsum(e, axis=1)[:, -1:]


class NanSwallowed(Good):
    def softmax(self, z: Array, where: Array | None = None) -> Array:
        return np.nan_to_num(sl.softmax(z, where=where))


class Clipped(Good):
    def log_softmax(self, z: Array, where: Array | None = None) -> Array:
        return np.log(np.clip(sl.softmax(z, where=where), 1e-7, 1))


class LogOfSoftmax(Good):
    def log_softmax(self, z: Array, where: Array | None = None) -> Array:
        return np.log(sl.softmax(z, where=where))


class PlainLog(Good):
    """z - max - log(sum): the maximum's own term drowns the others."""

    def log_softmax(self, z: Array, where: Array | None = None) -> Array:
        shifted = z - z.max(axis=1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


class WrongBase(Good):
    def log_softmax(self, z: Array, where: Array | None = None) -> Array:
        return sl.log_softmax(z, where=where) / np.log(2).astype(z.dtype)


class ProbabilityMinusOne(Good):
    def cross_entropy_grad(
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

    def cross_entropy_grad(
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
    def softmax(self, z: Array, where: Array | None = None) -> Array:
        return sl.softmax(z, where=where, out=z if z.flags.writeable and where is None else None)


class Forgetful(Good):
    """A buffer kept between calls: right when called once, wrong from several threads."""

    def __init__(self) -> None:
        self.calls = 0

    def softmax(self, z: Array, where: Array | None = None) -> Array:
        self.calls += 1
        return sl.softmax(z, where=where) * z.dtype.type(1 + 2e-7 * (self.calls % 2))


class AssumesContiguous(Good):
    """Reads the buffer under a strided view as if it were packed."""

    def softmax(self, z: Array, where: Array | None = None) -> Array:
        base = z.base if z.base is not None and not z.flags.c_contiguous else z
        return sl.softmax(np.ravel(base)[: z.size].reshape(z.shape), where=where)


class MaskForgotten(Good):
    def softmax(self, z: Array, where: Array | None = None) -> Array:
        p = sl.softmax(z)
        return p if where is None else np.where(where, p, 0)


class BatchDependent(Good):
    def softmax(self, z: Array, where: Array | None = None) -> Array:
        return sl.softmax(z, where=where) * z.dtype.type(1.0 if len(z) > 1 else 1 + 1e-5)


class Narrowed(Good):
    def softmax(self, z: Array, where: Array | None = None) -> Array:
        return sl.softmax(z.astype(np.float32), where=where)


class BestCaseOnly(Good):
    """Fails outright on one class."""

    def softmax(self, z: Array, where: Array | None = None) -> Array:
        if z.shape[1] == 1:
            raise ZeroDivisionError("degrees of freedom")
        return sl.softmax(z, where=where)


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
    BestCaseOnly: ("softmax", "one class", "raises ZeroDivisionError: degrees of freedom"),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_every_planted_fault_is_caught_and_named(fault: type[Good]) -> None:
    function, case, words = FAULTS[fault]
    frame = audit.run({"fault": fault()}, functions=[function], **FAST)  # type: ignore[arg-type]
    caught = frame[(frame.case == case) & ~frame.ok]
    assert len(caught), f"not caught by {case}"
    assert caught.problem.str.contains(words, regex=False).any(), caught.problem.tolist()


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


def test_a_stricter_limit_fails_more() -> None:
    frame = audit.run(
        {"good": Good()}, limit_ulp=0.1, functions=["softmax"], dtypes=["float64"], progress=False
    )
    assert not frame.ok.all()


def test_what_raises_not_implemented_is_left_out() -> None:
    class HardOnly(Good):
        def cross_entropy(self, z: Array, y: Array, **options: Any) -> Array:  # type: ignore[override]
            if y.ndim == 2:
                raise NotImplementedError("no soft targets")
            return super().cross_entropy(z, y, **options)

    frame = audit.run({"hard": HardOnly()}, functions=["cross_entropy"], dtypes=["float32"], progress=False)
    assert frame.ok.all()
    assert "soft targets" not in set(frame.case)


def test_an_object_says_which_dtypes_it_takes() -> None:
    class Single(Good):
        dtypes = ("float32",)

    assert set(audit.run({"single": Single()}, functions=["softmax"], progress=False).dtype) == {"float32"}


def test_one_function_is_enough_and_none_is_too_few() -> None:
    class Only:
        softmax = staticmethod(sl.softmax)

    assert set(audit.run({"only": Only}, dtypes=["float64"], progress=False).function) == {"softmax"}
    with pytest.raises(TypeError, match="nothing must have at least one callable of softmax"):
        audit.run({"nothing": object()})
    with pytest.raises(ValueError, match="at least one; got none"):
        audit.run({})


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"dtypes": ["float8"]}, "each of dtypes must be one of 'float16'"),
        ({"functions": "relu"}, "each of functions must be one of 'softmax'"),
        ({"limit_ulp": -1}, "limit_ulp must be finite and >= 0"),
    ],
)
def test_bad_options(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        audit.run({"good": Good()}, **options)


class Unreadable:
    """As a tensor with a gradient, or one on a GPU, is to NumPy."""

    def __array__(self, *arguments: Any, **keywords: Any) -> Array:
        raise RuntimeError("call detach() first\nand more")


class Exits:
    def __array__(self, *arguments: Any, **keywords: Any) -> Array:
        raise SystemExit(0)


Z = np.zeros((2, 3))
#: what a softmax may return -> the finding
ANSWERS: dict[str, tuple[Any, str]] = {
    "text": ("text", "returns a str with dtype <U4; expected an array of real numbers"),
    "numbers in text": ([["0.1"] * 3] * 2, "returns a list with dtype <U3; expected"),
    "nothing": (None, "returns a NoneType with dtype object; expected"),
    "a dictionary": ({"p": Z}, "returns a dict with dtype object; expected"),
    "a generator": ((row for row in Z), "returns a generator with dtype object; expected"),
    "ragged lists": ([[1.0], [1.0, 2.0]], "returns a list that NumPy cannot read (ValueError: "),
    "two answers": ((Z, Z[0]), "returns a tuple that NumPy cannot read (ValueError: "),
    "a tensor with a gradient": (
        Unreadable(),
        "returns a Unreadable that NumPy cannot read (RuntimeError: call detach() first); expected",
    ),
    "what ends the program": (
        Exits(),
        "returns a Exits that NumPy cannot read (ExitError: raises SystemExit (0), which ends",
    ),
    "complex numbers": (Z + 0j, "returns a ndarray with dtype complex128; expected"),
    "truth values": (Z == 0, "returns a ndarray with dtype bool; expected"),
    "dates": (Z.astype("M8[s]"), "returns a ndarray with dtype datetime64[s]; expected"),
    "a hole among numbers": ([[0.5, 0.5, None]] * 2, "returns a list with dtype object; expected"),
    "a number beyond every float": (
        [[10**400, 0, 0]] * 2,
        "returns a list that NumPy cannot read (OverflowError: ",
    ),
    "masked entries": (
        np.ma.masked_equal(Z, 0),
        "returns a MaskedArray with dtype float64 and masked entries; expected",
    ),
    "a column": (Z[:, :1], "returns shape (2, 1) for (2, 3) logits; expected (2, 3), one entry a logit"),
    "one number": (1.5, "returns shape () for (2, 3) logits; expected (2, 3), one entry a logit"),
    "an empty list": ([], "returns shape (0,) for (2, 3) logits; expected (2, 3), one entry a logit"),
}


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.filterwarnings("error")
def test_an_answer_of_the_wrong_form_is_a_finding(answer: str) -> None:
    returned, words = ANSWERS[answer]
    with pytest.raises(BrokenError) as found:
        Subject(SimpleNamespace(softmax=lambda z: returned), "softmax")(Z)
    assert str(found.value).startswith(words)
    assert "\n" not in str(found.value)


def test_a_torch_tensor_is_read_where_numpy_can() -> None:
    torch = pytest.importorskip("torch", reason="needs torch")
    answers = {
        "plain": torch.zeros(2, 3),
        "graph": torch.zeros(2, 3, requires_grad=True),
        "bf16": torch.zeros(2, 3, dtype=torch.bfloat16),
    }
    subject = {
        name: Subject(SimpleNamespace(softmax=lambda z, a=answer: a), "softmax")
        for name, answer in answers.items()
    }
    np.testing.assert_array_equal(subject["plain"](Z), Z)
    for name, error in (("graph", "RuntimeError: .*requires grad"), ("bf16", "TypeError: .*BFloat16")):
        with pytest.raises(BrokenError, match=rf"returns a Tensor that NumPy cannot read \({error}"):
            subject[name](Z)


@pytest.mark.parametrize(
    "answer",
    [
        [[0.0] * 3] * 2,
        Z.astype(int),
        Z.astype(np.longdouble),
        Z.astype(dtype_of("bfloat16")),
        [[Fraction(0)] * 3] * 2,
        np.ma.array(Z),
    ],
    ids=lambda answer: type(answer).__name__,
)
def test_an_answer_of_real_numbers_is_taken(answer: Any) -> None:
    result = Subject(SimpleNamespace(softmax=lambda z: answer), "softmax")(Z)
    assert result.dtype == np.float64
    np.testing.assert_array_equal(result, Z)


def test_one_row_may_have_a_loss_without_an_axis_and_a_gradient_beside_its_value() -> None:
    z, y = np.zeros((1, 3)), np.zeros(1, int)
    odd = SimpleNamespace(cross_entropy=lambda z, y: 1.5, cross_entropy_grad=lambda z, y: (0.0, z))
    assert Subject(odd, "cross_entropy")(z, y).tolist() == [1.5]
    assert Subject(odd, "cross_entropy_grad")(z, y).shape == (1, 3)


def _gone(*arguments: Any, **keywords: Any) -> Any:
    sys.exit(0)


class GoneWhenLookedUp:
    @property
    def softmax(self) -> Any:
        sys.exit(0)


@pytest.mark.parametrize(
    "implementation", [SimpleNamespace(softmax=_gone), GoneWhenLookedUp()], ids=["called", "looked up"]
)
def test_a_function_that_ends_the_program_fails_every_case(implementation: Any) -> None:
    frame = audit.run({"gone": implementation}, dtypes=["float32"], functions=["softmax"], progress=False)
    assert len(frame) > 20
    assert not frame.ok.any()
    assert set(frame.problem) == {"raises SystemExit (0), which ends the program: raise an Exception"}


def test_a_label_out_of_range_must_not_end_the_program() -> None:
    class Strict(Good):
        def cross_entropy(self, z: Array, y: Array, **options: Any) -> Array:  # type: ignore[override]
            if y.ndim == 1 and ((y < 0) | (y >= z.shape[1])).any():
                sys.exit("label out of range")
            return super().cross_entropy(z, y, **options)

    frame = audit.run({"strict": Strict()}, dtypes=["float32"], functions=["cross_entropy"], progress=False)
    assert set(frame[~frame.ok].case) == {"label K", "label -1"}
    assert (
        frame[~frame.ok]
        .problem.str.startswith("raises SystemExit (label out of range), which ends the program")
        .all()
    )


def test_an_interruption_is_no_finding() -> None:
    def interrupted(z: Array) -> Array:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit.run({"slow": SimpleNamespace(softmax=interrupted)}, progress=False)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_bare_function_is_an_implementation_of_what_it_is_called(function: str) -> None:
    bare = getattr(Good(), function)
    for name, given in (
        ("mine", bare),
        (f"my_module:inner.{function}", lambda *arguments: bare(*arguments)),
        (function, bare),
    ):
        frame = audit.run({name: given}, dtypes=["float64"], progress=False)
        assert set(frame.function) == {function}
        assert set(frame.implementation) == {name}
        assert frame.ok.all(), frame[~frame.ok].to_string()


@pytest.mark.parametrize("given", [np.tanh, lambda z: z, 3, "softmax"])
def test_a_function_of_another_name_is_refused(given: Any) -> None:
    with pytest.raises(
        TypeError,
        match=r"mine must have at least one callable of softmax, .*, or be a function of one of these names",
    ):
        audit.run({"mine": given})


@pytest.mark.parametrize(
    ("dtypes", "got"), [("float8", "'float8'"), ((np.float32,), "<class"), (3, "3"), (np, "<module")]
)
def test_types_that_are_no_names_are_refused(dtypes: Any, got: str) -> None:
    with pytest.raises(
        TypeError, match=rf"mine.dtypes must hold names of float16, bfloat16, float32, float64; got {got}"
    ):
        audit.run({"mine": SimpleNamespace(softmax=sl.softmax, dtypes=dtypes)})


def test_one_type_may_be_named_alone() -> None:
    frame = audit.run({"half": SimpleNamespace(softmax=sl.softmax, dtypes="bfloat16")}, progress=False)
    assert set(frame.dtype) == {"bfloat16"}  # and not float16, whose name is a part of it


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


def test_columns_and_order() -> None:
    frame = audit.run(
        {"b": Good(), "a": Good()},
        functions=["log_softmax", "softmax"],
        dtypes=["float64", "float32"],
        progress=False,
    )
    assert tuple(frame.columns) == audit.COLUMNS
    assert list(dict.fromkeys(frame.implementation)) == ["b", "a"]
    assert list(dict.fromkeys(frame.function)) == ["softmax", "log_softmax"]
    assert list(dict.fromkeys(frame.dtype)) == ["float32", "float64"]
    assert frame.reason.str.len().min() > 10
