"""Severities, questions and kinds of fault follow from the rows; every stored fault has a kind."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pandas", reason="the audit needs pandas")

import pandas as pd

import softmax_lab as sl
from experiments.engines import report
from experiments.engines.report import KINDS, OTHER, QUESTIONS, SEVERITIES, WRONG
from softmax_lab.audit import CHECKS

Row = tuple[str, str, str, str, str, float, bool, str]


def table_of(*rows: Row) -> Any:
    """Return a table: engine, variant, function, type, case, ulp, wrong, problem."""
    columns = ["engine", "variant", "function", "dtype", "case", "max_ulp", "wrong", "problem"]
    table = pd.DataFrame(rows, columns=columns)
    about = {"version": "1", "processor": "one", "date": "2026-01-01"}
    return table.assign(ok=table["problem"] == "", **about)


def softmax(engine: str, case: str, ulp: float = 0.5, wrong: bool = False, problem: str = "") -> Row:
    return (engine, "", "softmax", "float32", case, ulp, wrong, problem)


def test_a_severity_is_a_step_of_the_error_and_wrong_is_the_last() -> None:
    degrees = [report.severity(False, False, ulp) for ulp in (4.1, 99.0, 101.0, 9e3, 2e4, 1e9)]
    assert degrees == [1, 1, 2, 2, 3, 3]
    assert report.severity(True, False, np.nan) == 0
    assert report.severity(False, True, 5.0) == WRONG == len(SEVERITIES) - 1


def test_no_case_answers_two_questions_and_a_new_one_is_shown() -> None:
    cases = [case for cases in QUESTIONS.values() for case in cases]
    assert len(cases) == len(set(cases))
    assert report.question("moderate") == "ordinary rows"
    assert report.question("what nobody has asked") == OTHER


def test_a_cell_is_the_worst_of_its_cases_in_the_first_type_that_is_offered() -> None:
    table = table_of(
        softmax("a", "NaN row"),
        softmax("a", "after NaN", np.nan, True, "the call before it"),
        softmax("a", "wide", 53.0, False, "53 ulp off"),
        softmax("a", "uneven", 7.0, False, "7 ulp off"),
        ("a", "", "softmax", "float64", "wide", 2e5, False, "2e5 ulp off"),
        ("b", "", "softmax", "float64", "wide", 2e5, False, "2e5 ulp off"),
    )
    found = report.cells(table, "softmax").set_index(["engine", "question"])
    assert found.loc[("a", "NaN"), "severity"] == WRONG
    assert found.loc[("a", "far apart"), "max_ulp"] == 53.0
    assert found.loc[("b", "far apart"), "severity"] == 3
    assert report.cells(table, "log_softmax").empty


def test_wrong_answers_come_first_then_lost_digits_and_the_article_before_all() -> None:
    table = table_of(
        softmax("right", "wide"),
        softmax("far", "wide", 200.0, False, "200 ulp off"),
        softmax("off", "wide", 5.0, False, "5 ulp off"),
        softmax("bad", "wide", np.inf, True, "NaN at row 0"),
        softmax("jax", "wide"),
        softmax("torch", "wide"),
        ("bad", "again", "softmax", "float32", "wide", np.inf, True, "NaN at row 1"),
        ("bad", "mended", "softmax", "float32", "wide", 0.5, False, ""),
    )
    found = report.cells(table, "softmax")
    drawn = [report.label(*each) for each in report.order(found)]
    assert drawn == ["torch", "jax", "bad", "far", "off", "right", "bad (mended)"]
    assert report.alike(found) == {"bad (again)": "bad"}
    assert report.at_most(table, "softmax", 0) == ["torch", "jax", "right", "bad (mended)"]
    assert report.wrong_at(table, "softmax", "far apart") == "1 of 6"
    assert report.shares(table) == {"right": 4, "over": 2, "wrong": 2}
    assert report.overview(table).loc["bad (mended)", "wrong"] == 0


class Faulty:
    """A softmax with one fault, for the audit to find."""

    dtypes = ("float32",)

    def __init__(self, fault: str) -> None:
        self.fault = fault

    def softmax(self, z: Any) -> Any:
        z = np.asarray(z, np.float32)
        p = sl.softmax(z)
        bad = np.isnan(p).any(axis=1)
        if self.fault == "NaN unseen":
            p[np.isnan(z).any(axis=1)] = 0.1
        elif self.fault == "infinity unseen":
            p[np.isposinf(z).any(axis=1)] = 0.1
        elif self.fault == "no row left":
            p[bad & np.isneginf(z).all(axis=1)] = 0.1
        elif self.fault == "masked class":
            p[np.isneginf(z) & ~bad[:, None]] = 1e-4
        elif self.fault == "gap cut off":
            p = sl.softmax(np.maximum(z - z.max(axis=1, keepdims=True), np.float32(-20)))
        elif self.fault == "NaN made":
            p[(p == 0).any(axis=1)] = np.nan
        elif self.fault == "sum not one":
            p[:, 0] *= np.float32(1.5)
        elif self.fault == "small made 0":
            p[p < 1e-3] = 0
        elif self.fault == "digits lost":
            p *= np.float32(1 + 2e-6)
        return p


def kinds(fault: str, cases: Iterable[str]) -> set[str]:
    """Return the kinds of what the audit finds in some cases."""
    found = sl.audit.run({"faulty": Faulty(fault)}, functions=["softmax"], progress=False)
    found = found[found["case"].isin(list(cases)) & ~found["ok"]]
    assert len(found)
    return {report.kind(row) for row in found.itertuples()}


@pytest.mark.parametrize(
    ("fault", "cases"),
    [
        ("NaN unseen", ["NaN row"]),
        ("infinity unseen", ["+inf row", "+inf beside -inf"]),
        ("no row left", ["-inf row"]),
        ("masked class", ["-inf", "widths"]),
        ("gap cut off", ["confident", "wide", "underflow", "huge"]),
        ("NaN made", ["-inf", "huge", "widths"]),
        ("sum not one", ["moderate"]),
        ("small made 0", ["moderate", "wide"]),
        ("digits lost", ["moderate"]),
    ],
)
def test_a_planted_fault_is_of_its_kind(fault: str, cases: list[str]) -> None:
    assert kinds(fault, cases) == {fault}


UNSEEN = "at row 2, class 0, whose logits hold NaN or +inf or nothing above -inf: the row must be NaN, or"
CLIPPED = "the exact value is {}: clipping or an added epsilon hides an impossible class"
RAW = "compute z - logsumexp(z), not the logarithm of a probability that underflowed"
NAN = "subtract each row's own maximum before exp, and treat -inf apart (inf - inf, 0 * inf)"
LOST = "it was lost to underflow or to a maximum that is not the row's own"

#: kind, function, case, whether it is wrong, and the audit's words
KNOWN = [
    ("ended", "log_softmax", "one class", True, "the program was ended by SIGSEGV before it answered"),
    ("no row left", "softmax", "-inf row", True, f"returns 0 {UNSEEN}"),
    ("NaN unseen", "log_softmax", "NaN row", True, f"returns -inf {UNSEEN}"),
    ("infinity unseen", "cross_entropy_grad", "+inf row", True, f"returns 0 {UNSEEN}"),
    ("infinity unseen", "softmax", "+inf beside -inf", True, f"returns 1 {UNSEEN}"),
    ("label accepted", "cross_entropy", "label -1", True, "label -1 with 10 classes is accepted and gives 2"),
    (
        "company",
        "log_softmax",
        "row alone",
        False,
        "a row alone and the same row in a batch differ by 18 ulp",
    ),
    (
        "masked class",
        "softmax",
        "-inf",
        True,
        "wrong beyond rounding at row 1, class 0: 1e-28 where 0 is exact",
    ),
    (
        "masked class",
        "softmax",
        "mask",
        True,
        "wrong beyond rounding at row 1, class 0: 0.1 where 0 is exact",
    ),
    ("masked class", "log_softmax", "-inf", True, f"-64 at row 0, class 1; {CLIPPED.format('-inf')}"),
    ("masked class", "cross_entropy", "widths", True, f"7 classes: 64 at row 0; {CLIPPED.format('inf')}"),
    ("gap cut off", "cross_entropy", "huge", True, f"64 at row 3; {CLIPPED.format('inf')}"),
    (
        "gap cut off",
        "cross_entropy",
        "uneven",
        False,
        "wrong beyond rounding at row 1: 64.04 where 106.04 is exact",
    ),
    (
        "gap cut off",
        "softmax",
        "wide",
        False,
        "wrong beyond rounding at row 7, class 8: 1e-28 where 1e-37 is exact",
    ),
    (
        "gap cut off",
        "cross_entropy_grad",
        "huge",
        True,
        "wrong beyond rounding at row 2: 1e-28 where 0 is exact",
    ),
    ("NaN made", "cross_entropy", "-inf", True, f"NaN at row 0; the exact value is 0.4741: {NAN}"),
    ("NaN made", "cross_entropy", "huge", True, f"NaN at row 2; the exact value is 0: {NAN}"),
    (
        "NaN made",
        "cross_entropy",
        "widths",
        True,
        f"7 classes: NaN at row 1; the exact value is 2.336: {NAN}",
    ),
    (
        "log of a probability",
        "log_softmax",
        "wide",
        True,
        f"-inf at row 0, class 0; the exact value is -96.7: {RAW}",
    ),
    (
        "sum not one",
        "softmax",
        "many classes",
        False,
        "row 0's probabilities sum to 1.5, not 1: a class is missing",
    ),
    (
        "confidence lost",
        "cross_entropy",
        "wide",
        True,
        "the loss of a confident class, row 7, is returned as 0",
    ),
    (
        "confidence lost",
        "cross_entropy_grad",
        "confident",
        True,
        "the gradient at the target, row 1, is returned as 0",
    ),
    (
        "sum beside a large logit",
        "cross_entropy",
        "huge",
        True,
        f"0 at row 0; the exact value is 0.6931: {LOST}",
    ),
    (
        "sum beside a large logit",
        "cross_entropy",
        "offset 1e4",
        True,
        "every entry is 0 times the exact value",
    ),
    (
        "sum beside a large logit",
        "cross_entropy_grad",
        "huge",
        True,
        "wrong beyond rounding at row 5, class 1: 1 where 0.333333 is exact",
    ),
    (
        "small made 0",
        "softmax",
        "underflow",
        True,
        f"0 at row 2, class 1; the exact value is 1.283e-38: {LOST}",
    ),
    (
        "optimum moved",
        "cross_entropy_grad",
        "smoothing with weights",
        True,
        "at q = smoothed target the gradient is 1.01, not 0: class weights multiply the terms of it",
    ),
    (
        "sum of targets",
        "cross_entropy_grad",
        "soft targets",
        False,
        "wrong beyond rounding at row 3, class 7: 0.02 where 0.03 is exact",
    ),
    ("otherwise wrong", "softmax", "moderate", True, "the sign is reversed"),
    (
        "sum of a gradient",
        "cross_entropy_grad",
        "zero sum",
        False,
        "the gradient does not sum to zero: at row 38",
    ),
    # a confident class that keeps some digits, and half precision that keeps one
    (
        "digits lost",
        "log_softmax",
        "uneven",
        False,
        "log p of a confident class, row 0, is returned as -0.03995",
    ),
    (
        "digits lost",
        "softmax",
        "wide",
        False,
        "wrong beyond rounding at row 7, class 8: 1.2e-37 where 1.6e-37 is exact",
    ),
    (
        "digits lost",
        "softmax",
        "a hundred thousand classes",
        False,
        "wrong beyond rounding at row 0, class 6: 3.1e-08 where 1.1e-08 is exact",
    ),
    (
        "digits lost",
        "cross_entropy",
        "offset 100",
        False,
        "wrong beyond rounding at row 12: 0.56 where 0.59 is exact",
    ),
    (
        "digits lost",
        "softmax",
        "wide",
        False,
        "53 ulp off at row 7 (relative 4e-06): 1.5681e-37 where 1.5682e-37 is exact",
    ),
]


@pytest.mark.parametrize(
    ("fault", "function", "case", "wrong", "words"),
    KNOWN,
    ids=[f"{fault}, {function}, {case}" for fault, function, case, *_ in KNOWN],
)
def test_a_finding_is_of_the_kind_that_its_words_say(
    fault: str, function: str, case: str, wrong: bool, words: str
) -> None:
    (row,) = table_of(("a", "", function, "float32", case, np.nan, wrong, words)).itertuples()
    assert report.kind(row) == fault


def test_every_kind_has_a_finding_of_a_known_answer() -> None:
    assert {fault for fault, *_ in KNOWN} == set(KINDS)
    assert set(report.DIGITS) < set(KINDS)


def test_every_stored_wrong_answer_is_of_a_named_kind() -> None:
    table = report.rows()
    assert report.who(table, "otherwise wrong") == "none of these"
    digits = table[[report.kind(row) in report.DIGITS for row in table.itertuples()]]
    assert not digits["wrong"].any()


def test_every_stored_fault_has_a_kind_and_only_faults_have() -> None:
    table = report.rows()
    found = [report.kind(row) for row in table.itertuples()]
    assert [bool(name) for name in found] == (~table["ok"]).tolist()
    assert set(found) <= {"", *KINDS}
    for name in KINDS:
        assert (report.who(table, name) == "none of these") == (name not in found)


def test_lost_digits_beside_other_rows_are_no_matter_of_company() -> None:
    far, leak = "626 ulp off at row 0", "another row leaks into it; 0 at row 1"
    differ = "a row alone and the same row in a batch differ by 257 ulp"
    ended = "the program was ended by SIGSEGV before it answered"
    table = table_of(
        softmax("a", "far neighbours", 626.0, False, far),
        softmax("a", "far neighbours", np.inf, True, leak),
        softmax("a", "row alone", 257.0, False, differ),
        softmax("a", "permutation", 4.4, False, "wrong beyond rounding at row 2"),
        softmax("a", "permutation", np.inf, True, "NaN at row 2"),
        softmax("a", "after NaN", np.inf, True, "NaN at row 2"),
        softmax("a", "row alone", np.inf, True, ended),
    )
    found = [report.kind(row) for row in table.itertuples()]
    assert found == ["digits lost", "company", "company", "digits lost", "company", "company", "ended"]


def test_who_names_the_types_where_only_some_have_the_fault() -> None:
    words = "the row must be NaN, or the fault stays unseen"
    table = table_of(
        softmax("a", "NaN row", np.inf, True, words),
        ("a", "", "softmax", "float64", "NaN row", 0.5, False, ""),
        softmax("b", "NaN row", np.inf, True, words),
    )
    assert report.who(table, "NaN unseen") == "softmax: a (float32) and b"
    assert report.who(table, "digits lost") == "none of these"


def test_the_questions_have_the_reasons_of_the_audit() -> None:
    table = report.questions_table(report.rows())
    reasons = {check.name: check.reason for check in CHECKS}
    for row in table.itertuples():
        assert row[2] == reasons.get(row.case, row[2])
    assert next(iter(dict.fromkeys(table.index))) == "NaN"


def test_an_error_fits_its_cell() -> None:
    told = [report.ulp_words(ulp) for ulp in (4.37, 53.1, 309.6, 1.6e7, np.inf)]
    assert told == ["4.4", "53", "310", "1e7", ""]
