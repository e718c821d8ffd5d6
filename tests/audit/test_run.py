"""The audit's runs: what is audited, in which types, by which names, and what is refused."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import softmax_lab as sl
from softmax_lab import audit
from softmax_lab.audit.subject import FUNCTIONS

from .implementations import Array, Good


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
