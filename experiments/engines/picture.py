"""The picture of the atlas: engines down, questions across, one scale of severity; and its words."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from softmax_lab.plotting import COLORS

from .article import NAMES
from .report import (
    FUNCTIONS,
    OTHER,
    QUESTIONS,
    SEVERITIES,
    SINGLE,
    WRONG,
    alike,
    cells,
    label,
    listed,
    order,
    ulp_words,
)

__all__ = ["SCALE", "alternative", "atlas", "folded"]

#: from right to wrong: hues and lightness apart for colour-blind eyes (Okabe and Ito), marks say it too
SCALE = (COLORS["blue"], COLORS["yellow"], COLORS["orange"], COLORS["vermillion"], "#000000")
_INK = ("white", "black", "black", "white", "white")


def atlas(table: pd.DataFrame, function: str, dtypes: Sequence[str] = SINGLE) -> Figure:
    """Draw what each engine answers to each question, the worst of the question's cases.

    Parameters
    ----------
    table : pandas.DataFrame
        As ``report.rows`` returns it.
    function : str
        Of the audit's.
    dtypes : sequence of str
        The first of them that an engine offers stands for it.

    Returns
    -------
    matplotlib.figure.Figure
        A tick is right within 4 ulp, a number the error in ulp, a cross wrong. White is not asked or not
        offered.
    """
    found = cells(table, function, dtypes)
    names, asked = order(found), _asked(found)
    if not names:
        return _nobody(function, dtypes)
    degrees = np.full((len(names), len(asked)), np.nan)
    figure = Figure(figsize=(1.75 + 0.3 * len(asked), 1.9 + 0.27 * len(names)), layout="constrained")
    axis = figure.subplots()
    for row in found.itertuples():
        if (row.engine, row.variant) in names:
            i, j = names.index((row.engine, row.variant)), asked.index(row.question)
            degrees[i, j] = row.severity
            axis.text(j, i, _mark(row), ha="center", va="center", fontsize=8, color=_INK[row.severity])
    colors = ListedColormap(list(SCALE))
    axis.imshow(np.ma.masked_invalid(degrees), cmap=colors, vmin=-0.5, vmax=WRONG + 0.5, aspect="auto")
    axis.set_xticks(range(len(asked)), asked, rotation=90)
    axis.set_yticks(range(len(names)), [label(*name) for name in names])
    axis.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    axis.set_xticks(np.arange(len(asked)) - 0.5, minor=True)
    axis.set_yticks(np.arange(len(names)) - 0.5, minor=True)
    axis.grid(False, which="major")
    axis.grid(True, which="minor", color="white", linewidth=1.2)
    axis.tick_params(which="minor", top=False, bottom=False, left=False, length=0)
    axis.spines[:].set_visible(False)
    of_article = sum(name in NAMES for name, _ in names)
    if 0 < of_article < len(names):
        axis.axhline(of_article - 0.5, color="black", linewidth=1.2)
    handles = [Patch(color=color, label=text) for color, text in zip(SCALE, SEVERITIES, strict=True)]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _nobody(function: str, dtypes: Sequence[str]) -> Figure:
    """Return a line in place of a picture without rows: whoever reruns the page may ask for one engine."""
    figure = Figure(figsize=(7.0, 0.5))
    words = f"None of these engines offers the {FUNCTIONS[function]} in {listed(dtypes)}."
    figure.text(0.5, 0.5, words, ha="center", va="center")
    return figure


def _asked(found: pd.DataFrame) -> list[str]:
    return [name for name in (*QUESTIONS, OTHER) if name in set(found["question"])]


def _mark(row: Any) -> str:
    """Return what a cell says without its colour."""
    if row.severity == WRONG:
        return "×"
    return ulp_words(row.max_ulp) if row.severity else "✓"


def folded(table: pd.DataFrame, function: str, dtypes: Sequence[str] = SINGLE) -> str:
    """Return the picture's words as a folded piece of HTML, and which modes are one row of it."""
    same = [f"{name} as {like}" for name, like in alike(cells(table, function, dtypes)).items()]
    words = alternative(table, function, dtypes)
    words += f" The same verdicts have {listed(same)}." if same else ""
    return (
        '<details class="engine-card engine-cards"><summary>The picture of the '
        f"{FUNCTIONS[function]} in words</summary><p>{html.escape(words)}</p></details>"
    )


def alternative(table: pd.DataFrame, function: str, dtypes: Sequence[str] = SINGLE) -> str:
    """Return in words what the picture shows, for those who do not see it."""
    found = cells(table, function, dtypes)
    names, asked = order(found), _asked(found)
    told = [f"{len(names)} ways to run an engine by {len(asked)} questions."]
    for name in names:
        own = found[(found["engine"] == name[0]) & (found["variant"] == name[1])]
        bad = listed(own.loc[own["severity"] == WRONG, "question"], "nothing")
        over = listed(own.loc[own["severity"].between(1, WRONG - 1), "question"], "nothing")
        told.append(f"{label(*name)}: wrong at {bad}; digits lost at {over}.")
    return " ".join(told)
