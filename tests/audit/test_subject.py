"""A function under audit: called safely, and its answer taken, or refused with what was expected."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from softmax_lab.audit.subject import BrokenError, ExitError, NotOfferedError, RaisedError, Subject, contained

from ..ulps import dtype_of
from .implementations import Array, Good


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


def test_what_a_function_names_is_what_it_accepts() -> None:
    def takes_anything(z: Array, **keywords: Any) -> Array:
        return z

    assert Subject(Good(), "softmax").accepts("where")
    assert Subject(Good(), "cross_entropy").accepts("label_smoothing", "class_weight")
    assert not Subject(Good(), "softmax").accepts("where", "label_smoothing")
    assert not Subject(SimpleNamespace(softmax=takes_anything), "softmax").accepts("where")
    assert not Subject(SimpleNamespace(softmax=np.exp), "softmax").accepts("where_not")
    assert not Subject(SimpleNamespace(), "softmax").accepts("where")


def test_the_kinds_of_failure_are_told_apart() -> None:
    def failing(error: BaseException) -> Subject:
        def softmax(z: Array) -> Array:
            raise error

        return Subject(SimpleNamespace(softmax=softmax), "softmax")

    with pytest.raises(NotOfferedError, match="no half types"):
        failing(NotImplementedError("no half types"))(Z)
    with pytest.raises(RaisedError, match=r"^raises ValueError: the first line$"):
        failing(ValueError("the first line\nthe second"))(Z)
    with pytest.raises(BrokenError, match=r"^raises SystemExit \(3\), which ends") as ended:
        failing(SystemExit(3))(Z)
    assert not isinstance(ended.value, RaisedError)  # a caller cannot catch it as an error
    with pytest.raises(KeyboardInterrupt):
        failing(KeyboardInterrupt())(Z)


def test_what_ends_the_program_is_contained_and_all_else_passes() -> None:
    with pytest.raises(ExitError, match=r"raises GeneratorExit \(no message\)"), contained():
        raise GeneratorExit
    with pytest.raises(ZeroDivisionError), contained():
        raise ZeroDivisionError
