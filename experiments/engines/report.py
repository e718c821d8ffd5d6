"""What the stored findings say of engines: severities, questions, kinds of fault, sentences."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd

from experiments.sentences import listed

from . import stored
from .article import ARTICLE_TABLE, NAMES
from .cases import ASKED
from .running import LIMIT_ULP

__all__ = [
    "DIGITS",
    "FUNCTIONS",
    "KINDS",
    "OTHER",
    "QUESTIONS",
    "SEVERITIES",
    "WRONG",
    "alike",
    "at_most",
    "cells",
    "kind",
    "label",
    "listed",
    "order",
    "overview",
    "question",
    "questions_table",
    "rows",
    "severity",
    "shares",
    "ulp_words",
    "who",
    "wrong_at",
]

#: what a user asks -> the audit's cases that answer it; what a model meets first comes first
QUESTIONS: dict[str, tuple[str, ...]] = {
    "NaN": ("NaN row", "after NaN"),
    "+inf": ("+inf row", "+inf beside -inf"),
    "all masked": ("-inf row",),
    "one masked": ("-inf", "mask"),
    "ordinary rows": ("moderate", "offset 100", "offset 1e4", "one class"),
    "ties": ("tied", "nearly tied"),
    "confident": ("confident", "two classes", "lost gradient", "log loss", "log loss, far"),
    "far apart": ("wide", "uneven", "huge"),
    "subnormal": ("tiny", "underflow"),
    "widths": ("widths",),
    "long rows": ("many classes", "a hundred thousand classes", "a million classes"),
    "in company": (
        "far neighbours",
        "wide batch",
        "memory layout",
        "other axes",
        "repeated by strides",
        "permutation",
        "row alone",
        "repeatable",
        "long rows repeatable",
        "input kept",
    ),
    "labels": ("label K", "label -1", "soft targets", "label smoothing", "smoothing with weights"),
    "gradient": ("zero sum", "loss scale", "upstream gradients"),
}
#: the question of a case that none of these has: what is new in the audit is shown before it has its place
OTHER = "other cases"
#: the least error in ulp of each severity but the first and the last
_STEPS = (LIMIT_ULP, 1e2, 1e4)
SEVERITIES = ("right within 4 ulp", "over 4 ulp", "over 100 ulp", "over 10,000 ulp", "wrong")
WRONG = len(SEVERITIES) - 1
FUNCTIONS = {
    "softmax": "softmax",
    "log_softmax": "log-softmax",
    "cross_entropy": "loss",
    "cross_entropy_grad": "gradient",
}
SINGLE = ("float32", "float64")

Rule = Callable[[Any], bool]
_IN_COMPANY = ("after NaN", *QUESTIONS["in company"])
_RAW = ("log_softmax", "cross_entropy")  # in units of logits
#: cases with logits of -inf, each beside one or a few that are none
_MASKS = (*QUESTIONS["one masked"], "widths")
#: cases with logits so large that little is left beside them of the logarithm of a sum
_LARGE = ("offset 100", "offset 1e4", "huge", "far neighbours")
_UNLIKELY = 1e-3
_FAR = 50.0  # a gap of logits
#: how the audit's words name the two values
_PAIRS = (
    re.compile(r"(?P<computed>\S+) where (?P<exact>\S+) is exact"),
    re.compile(r"(?P<computed>\S+) at row .*; the exact value is (?P<exact>[^:\s]+):"),
)


def _pair(row: Any) -> tuple[float, float]:
    """Return the sizes of the computed and of the exact value, NaN where the words name none."""
    found = next((found for words in _PAIRS if (found := words.search(row.problem))), None)
    return (abs(float(found["computed"])), abs(float(found["exact"]))) if found else (math.nan, math.nan)


def _mask_counts(row: Any) -> bool:
    """Whether a class of -inf has a share, a finite logarithm, or a part of the gradient."""
    computed, exact = _pair(row)
    return row.case in _MASKS and computed > 0 and math.isfinite(computed) and exact in (0.0, math.inf)


def _gap_cut(row: Any) -> bool:
    """Whether a far class counts as if it were nearer: twice its share or more, or a tenth off its gap."""
    computed, exact = _pair(row)
    if row.function in _RAW:
        return exact > _FAR and computed <= 0.9 * exact
    # a long row whose sum is too small has shares that are too large, and no cut
    return exact <= computed / 2 and computed < _UNLIKELY and row.case not in QUESTIONS["long rows"]


#: kind of fault -> whether a failing row is of it; the first that fits. The words are those of the audit.
KINDS: dict[str, Rule] = {
    "ended": lambda row: "the program was ended" in row.problem,
    "no row left": lambda row: row.case == "-inf row" and "the row must be NaN" in row.problem,
    "NaN unseen": lambda row: row.case == "NaN row" and "the row must be NaN" in row.problem,
    "infinity unseen": lambda row: "the row must be NaN" in row.problem,
    "label accepted": lambda row: row.case in ("label K", "label -1"),
    # what loses digits alone does so in company too. Rows far from zero do, beside far neighbours
    "company": lambda row: (
        "leaks into it" in row.problem
        or "the same row in a batch differ" in row.problem
        or (row.wrong and row.case in _IN_COMPANY and row.case != "far neighbours")
    ),
    "masked class": _mask_counts,
    "gap cut off": _gap_cut,
    "NaN made": lambda row: "NaN at row" in row.problem and "; the exact value is" in row.problem,
    "log of a probability": lambda row: "logarithm of a probability" in row.problem,
    "sum not one": lambda row: "probabilities sum to" in row.problem,
    "confidence lost": lambda row: (
        row.wrong and ("of a confident class" in row.problem or "gradient at the target" in row.problem)
    ),
    "sum beside a large logit": lambda row: (
        row.wrong and row.case in _LARGE and row.function != "softmax" and "NaN" not in row.problem
    ),
    "small made 0": lambda row: row.wrong and "lost to underflow" in row.problem,
    "optimum moved": lambda row: "class weights multiply the terms" in row.problem,
    "sum of targets": lambda row: (
        row.case == "soft targets"
        and row.function == "cross_entropy_grad"
        and "beyond rounding" in row.problem
    ),
    "otherwise wrong": lambda row: bool(row.wrong),
    "sum of a gradient": lambda row: "the gradient does not sum to zero" in row.problem,
    "digits lost": lambda row: True,
}
#: the kinds whose answers are numbers of the right kind, a few digits off
DIGITS = ("sum of a gradient", "digits lost")


def rows(engines: Iterable[str] | None = None) -> pd.DataFrame:
    """Return the findings of the article's frameworks and of the engines, each at the version stored last.

    Parameters
    ----------
    engines : iterable of str, optional
        Only these.
    """
    table = pd.concat([stored.read(ARTICLE_TABLE), stored.read()], ignore_index=True)
    if engines is not None:
        table = table[table["engine"].isin(list(engines))]
    last = table.groupby(["engine", "variant"], sort=False)["version"].transform("last")
    return table[table["version"] == last].reset_index(drop=True)


def question(case: str) -> str:
    """Return which question a case answers."""
    return next((name for name, cases in QUESTIONS.items() if case in cases), OTHER)


def questions_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return the cases of each question that was asked, and what is hard about them."""
    reasons = {check.name: check.reason for check in ASKED}
    asked = list(dict.fromkeys(table["case"]))
    lines = [
        {"question": name, "case": case, "what is hard about it": reasons.get(case, "")}
        for name in (*QUESTIONS, OTHER)
        for case in asked
        if question(case) == name
    ]
    return pd.DataFrame(lines).set_index("question")


def severity(ok: bool, wrong: bool, max_ulp: float) -> int:
    """Return the place in ``SEVERITIES`` of a finding.

    Whether it is wrong is the audit's judgment, see :class:`softmax_lab.audit.Finding`.

    Examples
    --------
    >>> SEVERITIES[severity(ok=False, wrong=False, max_ulp=53.0)]
    'over 4 ulp'
    """
    if ok:
        return 0
    return WRONG if wrong else max(1, sum(max_ulp > step for step in _STEPS))


def kind(row: Any) -> str:
    """Return which kind of fault a row of the table is, or "" where it is right."""
    return "" if row.ok else next(name for name, fits in KINDS.items() if fits(row))


def label(engine: str, variant: str) -> str:
    """Return the name of an engine in one of its modes."""
    return f"{engine} ({variant})" if variant else engine


def cells(table: pd.DataFrame, function: str, dtypes: Sequence[str] = SINGLE) -> pd.DataFrame:
    """Return a row a way to run an engine and question: the worst of the question's cases.

    Of several types the first that is offered stands for all.

    Returns
    -------
    pandas.DataFrame
        The table's columns of the worst case, ``question`` and ``severity``.
    """
    asked = table[(table["function"] == function) & table["dtype"].isin(list(dtypes))]
    place = asked["dtype"].map({dtype: place for place, dtype in enumerate(dtypes)})
    first = place.groupby([asked["engine"], asked["variant"]]).transform("min")
    own = asked[place == first]
    own = own.assign(
        question=own["case"].map(question),
        severity=[severity(row.ok, row.wrong, row.max_ulp) for row in own.itertuples()],
    )
    worst = own.sort_values(["severity", "max_ulp"], na_position="first", kind="stable")
    worst = worst.groupby(["engine", "variant", "question"], sort=False).tail(1)
    return worst.sort_index().reset_index(drop=True)


def alike(found: pd.DataFrame) -> dict[str, str]:
    """Map each mode of an engine that has the verdicts of an earlier mode in every cell to that mode."""
    same: dict[str, str] = {}
    for engine, own in found.groupby("engine", sort=False):
        known: dict[tuple[tuple[str, int], ...], str] = {}
        for variant, each in own.groupby("variant", sort=False):
            verdicts = tuple(zip(each["question"], each["severity"], strict=True))
            name = label(str(engine), str(variant))
            if known.setdefault(verdicts, name) != name:
                same[name] = known[verdicts]
    return same


def order(found: pd.DataFrame) -> list[tuple[str, str]]:
    """Return (engine, variant) as they are drawn, those that do the same as an earlier mode left out.

    The article's frameworks come first, in its order. Of the others come first those with most wrong
    answers, then those that lose most digits.
    """
    same = alike(found)
    modes = found[["engine", "variant"]].drop_duplicates().itertuples(index=False, name=None)
    drawn = [(str(engine), str(mode)) for engine, mode in modes if label(str(engine), str(mode)) not in same]

    def weight(each: tuple[str, str]) -> tuple[float, ...]:
        own = found[(found["engine"] == each[0]) & (found["variant"] == each[1])]
        counts = [-int((own["severity"] == degree).sum()) for degree in range(WRONG, 0, -1)]
        article = NAMES.index(each[0]) if each[0] in NAMES else len(NAMES)
        return (article, *(counts if article == len(NAMES) else ()))

    return sorted(drawn, key=weight)


def at_most(table: pd.DataFrame, function: str, degree: int, dtypes: Sequence[str] = SINGLE) -> list[str]:
    """Return the ways to run an engine that are nowhere beyond a severity, as they are drawn."""
    found = cells(table, function, dtypes)
    worst = found.groupby(["engine", "variant"])["severity"].max()
    return [label(*each) for each in order(found) if worst[each] <= degree]


def wrong_at(table: pd.DataFrame, function: str, asked: str, dtypes: Sequence[str] = SINGLE) -> str:
    """Return in a phrase how many engines are wrong at a question, in one of their modes at least.

    Examples
    --------
    >>> wrong_at(pd.DataFrame(columns=["engine", "variant", "function", "dtype"]), "softmax", "NaN")
    '0 of 0'
    """
    found = cells(table, function, dtypes) if len(table) else pd.DataFrame({"question": [], "engine": []})
    own = found[found["question"] == asked]
    wrong = own[own["severity"] == WRONG]["engine"].nunique() if len(own) else 0
    return f"{wrong} of {own['engine'].nunique()}"


def shares(table: pd.DataFrame) -> dict[str, int]:
    """Return how many findings are right, over the limit, and wrong."""
    wrong = int(table["wrong"].sum())
    ok = int(table["ok"].sum())
    return {"right": ok, "over": len(table) - ok - wrong, "wrong": wrong}


def overview(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row a way to run an engine: version, types, and counts of right, over the limit and wrong."""
    found = {}
    for (engine, variant), own in table.groupby(["engine", "variant"], sort=False):
        found[label(str(engine), str(variant))] = {
            "version": own["version"].iloc[0],
            "types": ", ".join(dict.fromkeys(own["dtype"])),
            "cases": len(own),
            "right within 4 ulp": shares(own)["right"],
            "over 4 ulp": shares(own)["over"],
            "wrong": shares(own)["wrong"],
        }
    return pd.DataFrame(found).T


def who(table: pd.DataFrame, fault: str, functions: Iterable[str] = tuple(FUNCTIONS)) -> str:
    """Return in a phrase which engines have a kind of fault, function by function.

    An engine's types are named where it has the fault in some of them only.
    """
    parts = []
    for function in functions:
        own = table[table["function"] == function]
        kinds = pd.Series([kind(row) for row in own.itertuples()], index=own.index, dtype=object)
        faulty = own[kinds == fault]
        names = []
        for engine, each in faulty.groupby("engine", sort=False):
            offered = set(own.loc[own["engine"] == engine, "dtype"])
            types = list(dict.fromkeys(each["dtype"]))
            names.append(str(engine) + (f" ({', '.join(types)})" if len(types) < len(offered) else ""))
        if names:
            parts.append(f"{FUNCTIONS[function]}: {listed(names)}")
    return "; ".join(parts) or "none of these"


def ulp_words(max_ulp: float) -> str:
    """Return an error in a cell's few characters."""
    if math.isnan(max_ulp) or math.isinf(max_ulp):
        return ""
    if max_ulp < 1e4:
        return f"{max_ulp:.1f}" if max_ulp < 10 else f"{max_ulp:.0f}"
    return f"1e{math.floor(math.log10(max_ulp))}"
