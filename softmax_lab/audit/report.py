"""What the audit found, for people and programs.

The formats: a summary for the shell, JSON, CSV, and one self-contained HTML page.
"""

from __future__ import annotations

import json
import math
import platform
import re
import textwrap
from collections.abc import Hashable, Iterable, Iterator
from html import escape
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from .. import _checks
from .._files import Target, write_text
from .adapters import versions
from .run import COLUMNS

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FAIL_ON",
    "cell_colors",
    "failing",
    "summary",
    "to_csv",
    "to_html",
    "to_json",
    "to_junit",
    "to_markdown",
    "ulp_text",
]

#: what fails a run: an error over the limit too, or only what is wrong beyond lost digits
FAIL_ON = ("limit", "wrong")

# colours run over this range of ulp, in logarithms; what lies beyond it has the colour at its end
LOWEST, HIGHEST = 0.1, 1e9
# The map "cividis" at 0, 1/8, ..., 1: even steps, alike to colour-blind readers. J. R. Nuñez, C. R. Anderton
# and R. S. Renslow, "Optimizing colormaps with consideration for color vision deficiency", PLoS ONE 13
# (2018).
_CIVIDIS = ("#00224e", "#1a386f", "#434e6c", "#61656f", "#7d7c78", "#9b9476", "#bcae6c", "#dec958", "#fee838")
_DIGITS = re.compile(r"[-+]?\d[\d.,]*(?:e[-+]?\d+)?|\b(?:inf|nan)\b", re.IGNORECASE)


def summary(frame: pd.DataFrame) -> str:
    """Return the audit in plain text.

    First comes a line an implementation, then each kind of problem once, with where it occurs.

    Parameters
    ----------
    frame : pandas.DataFrame
        As :func:`softmax_lab.audit.run` returns it; likewise below.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> from softmax_lab.audit.report import summary
    >>> frame = sl.audit.run(["softmax_lab"], dtypes=["float64"], functions=["softmax"], progress=False)
    >>> "no problems" in summary(frame)
    True
    """
    _check(frame)
    names = list(dict.fromkeys(frame["implementation"]))
    width = max([len(name) for name in names] + [len("implementation")])
    lines = [f"{'implementation':{width}}  {'ok':>11}  worst"]
    lines += [_line(name, frame[frame["implementation"] == name], width) for name in names]
    problems = [line for group in _problem_groups(frame) for line in _told(*group)]
    return "\n".join([*lines, "", *(problems or ["no problems"])])


def _line(name: str, rows: pd.DataFrame, width: int) -> str:
    """One implementation: how many of its cases pass, and its worst."""
    counts = f"{int(rows['ok'].sum())} of {len(rows)}"
    measured = rows[rows["max_ulp"].notna()]
    if measured.empty:
        return f"{name:{width}}  {counts:>11}"
    worst = measured.loc[measured["max_ulp"].idxmax()]
    where = f"{worst['function']}, {worst['dtype']}, {worst['case']}"
    return f"{name:{width}}  {counts:>11}  {ulp_text(worst['max_ulp'])} ulp: {where}"


def _problem_groups(frame: pd.DataFrame) -> Iterator[tuple[tuple[Hashable, ...], pd.DataFrame]]:
    """Yield failing rows that differ in type, case and figures only: one kind of problem each."""
    failing = frame[~frame["ok"].astype(bool)]
    kind = failing["problem"].map(lambda text: _DIGITS.sub("#", text))
    yield from failing.groupby(["implementation", "function", kind], sort=False)


def _told(key: tuple[Hashable, ...], rows: pd.DataFrame) -> list[str]:
    """A kind of problem in words: who, where, and its worst example."""
    by_dtype: dict[str, list[str]] = {}
    for dtype, case in zip(rows["dtype"], rows["case"], strict=True):
        by_dtype.setdefault(dtype, []).append(case)
    by_cases: dict[tuple[str, ...], list[str]] = {}
    for dtype, cases in by_dtype.items():
        by_cases.setdefault(tuple(cases), []).append(dtype)
    where = "; ".join(f"{', '.join(dtypes)}: {', '.join(cases)}" for cases, dtypes in by_cases.items())
    worst = rows.loc[rows["max_ulp"].fillna(-1.0).idxmax()]
    head = textwrap.wrap(f"{key[0]} {key[1]} ({where})", 110, subsequent_indent="    ")
    return [
        *head,
        *textwrap.wrap(str(worst["problem"]), 106, initial_indent="    ", subsequent_indent="    "),
    ]


def ulp_text(ulp: float) -> str:
    """Return an error in ulp, short enough for a cell; "" for NaN (not a matter of ulps)."""
    if math.isnan(ulp):
        return ""
    if math.isinf(ulp):
        return "∞"
    return (
        f"{ulp:.2f}"
        if ulp < 10
        else f"{ulp:.0f}"
        if ulp < 1e4
        else f"{ulp:.0e}".replace("e+0", "e").replace("e+", "e")
    )


def to_json(frame: pd.DataFrame, path: Target) -> None:
    """Write versions, platform and one object a row.

    ``path`` may be an open text stream, here and below. A regular file is whole or as it was. Links, pipes
    and devices are written through.

    JSON has no infinity and no NaN: an infinite ``max_ulp`` is the text "Infinity", and one that does not
    apply is null.
    """
    _check(frame)
    rows = [
        {name: _plain(value) for name, value in zip(COLUMNS, row, strict=True)}
        for row in frame[list(COLUMNS)].itertuples(index=False)
    ]
    content = {"versions": versions(), "platform": _platform(), "results": rows}
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else "Infinity" if math.isinf(value) else float(value)
    return bool(value)


def to_csv(frame: pd.DataFrame, path: Target) -> None:
    """Write one line per row; ``max_ulp`` is "inf" where infinite and empty where it does not apply."""
    _check(frame)
    write_text(path, frame[list(COLUMNS)].to_csv(index=False, lineterminator="\n"))


def failing(frame: pd.DataFrame, fail_on: str = "limit") -> pd.Series:
    """Return for each row whether it fails a run: with "limit" what is not ok, with "wrong" what is wrong."""
    _checks.choice("fail_on", fail_on, FAIL_ON)
    _check(frame)
    return frame["wrong"].astype(bool) if fail_on == "wrong" else ~frame["ok"].astype(bool)


#: what XML 1.0 has no way to say
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(frame: pd.DataFrame, path: Target, *, fail_on: str = "limit") -> None:
    """Write JUnit's XML, which CI services show: a suite an implementation and function, a test a case.

    Parameters
    ----------
    fail_on : {"limit", "wrong"}
        As for :func:`failing`. What does not fail and is not ok either is told in the test's output.
    """
    fails = failing(frame, fail_on)
    root = ElementTree.Element("testsuites", {"name": "softmax-lab audit", **_counts(fails)})
    for key, rows in frame.groupby(["implementation", "function"], sort=False):
        name = ".".join(_in_xml(str(part)) for part in key)
        suite = ElementTree.SubElement(root, "testsuite", {"name": name, **_counts(fails[rows.index])})
        for row in rows.itertuples():
            test = ElementTree.SubElement(
                suite, "testcase", classname=name, name=_in_xml(f"{row.dtype}: {row.case}"), time="0"
            )
            words = _in_xml(f"{row.problem}\n{row.reason}")
            if fails[row.Index]:
                kind = "wrong" if row.wrong else "limit"
                found = ElementTree.SubElement(test, "failure", message=_in_xml(row.problem), type=kind)
                found.text = words
            elif not row.ok:
                ElementTree.SubElement(test, "system-out").text = words
    ElementTree.indent(root)
    write_text(
        path, '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, "unicode") + "\n"
    )


def _counts(fails: pd.Series) -> dict[str, str]:
    return {"tests": str(len(fails)), "failures": str(int(fails.sum())), "errors": "0"}


def _in_xml(text: str) -> str:
    return _NOT_IN_XML.sub("?", text)


def to_markdown(frame: pd.DataFrame, path: Target) -> None:
    """Write a summary for a pull request: a table of counts, and each kind of problem once, in its words."""
    _check(frame)
    lines = ["| implementation | cases | ok | over the limit | wrong |", "| --- | --: | --: | --: | --: |"]
    for name in dict.fromkeys(frame["implementation"]):
        own = frame[frame["implementation"] == name]
        ok, wrong = int(own["ok"].sum()), int(own["wrong"].sum())
        lines.append(f"| {_in_cell(name)} | {len(own)} | {ok} | {len(own) - ok - wrong} | {wrong} |")
    for (name, function, _), rows in _problem_groups(frame):
        worst = rows.loc[rows["max_ulp"].fillna(-1.0).idxmax()]
        where = f"{', '.join(dict.fromkeys(rows['dtype']))}: {', '.join(dict.fromkeys(rows['case']))}"
        kind = "wrong" if rows["wrong"].any() else "over the limit"
        told = f"- **{_in_cell(str(name))} {function}**, {kind} ({where}): {_in_cell(worst['problem'])}"
        lines += [""] * (not lines[-1].startswith("- ")) + [told]
    write_text(path, "\n".join(lines) + "\n")


def _in_cell(text: str) -> str:
    """Return text that stays in its cell and line, and makes no markup of its own."""
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", " ".join(text.split()))


def to_html(frame: pd.DataFrame, path: Target, *, limit_ulp: float) -> None:
    """Write one page that needs nothing beside it.

    It has heat maps, case by implementation, and every problem in words.

    Parameters
    ----------
    limit_ulp : float
        The limit that the audit ran with; it is only shown.
    """
    _check(frame)
    write_text(path, "".join(_page(frame, limit_ulp)))


def _check(frame: pd.DataFrame) -> None:
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise ValueError(
            f"frame must have the columns that audit.run returns, {', '.join(COLUMNS)}; missing: "
            f"{', '.join(missing)}"
        )


def _platform() -> str:
    return f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"


def cell_colors(ulp: float) -> tuple[str, str]:
    """Return (background, text) for an error.

    The background goes by the logarithm of the error. The text is black or white, whichever contrasts more.
    """
    share = (math.log10(min(max(ulp, LOWEST), HIGHEST)) - math.log10(LOWEST)) / (
        math.log10(HIGHEST) - math.log10(LOWEST)
    )
    place = share * (len(_CIVIDIS) - 1)
    left = min(int(place), len(_CIVIDIS) - 2)
    mixed = [
        round(a + (place - left) * (b - a))
        for a, b in zip(_rgb(_CIVIDIS[left]), _rgb(_CIVIDIS[left + 1]), strict=True)
    ]
    background = "#" + "".join(f"{channel:02x}" for channel in mixed)
    # WCAG 2.1: below the luminance L of 1.05 / (L + .05) = (L + .05) / .05 white contrasts more than black
    return background, "#ffffff" if _luminance(background) < math.sqrt(1.05 * 0.05) - 0.05 else "#000000"


def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def _luminance(color: str) -> float:
    """Relative luminance of sRGB, as WCAG 2.1 defines it."""
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (channel / 255 for channel in _rgb(color))
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


_CSS = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --line: #bbb; --faint: #555; }
:root { --alarm: #b00020; --link: #0645ad; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --paper: #16181c; --line: #555; --faint: #b0b0b0; }
  :root { --alarm: #ff8a80; --link: #8ab4f8; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
body { max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.5rem; font-size: 1.25rem; } a { color: var(--link); }
a:focus-visible, summary:focus-visible, .wide:focus-visible {
  outline: 3px solid var(--link); outline-offset: 2px;
}
summary { cursor: pointer; padding: .35rem 0; } .wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .4rem 0 1rem; }
th, td { border: 1px solid var(--line); padding: .2rem .55rem; text-align: right; }
th { font-weight: 600; } th[scope=row], caption, thead th:first-child { text-align: left; }
thead th { vertical-align: bottom; }
td.bad { outline: 2px solid var(--alarm); outline-offset: -2px; font-weight: 700; } td a { color: inherit; }
.scale { display: flex; flex-wrap: wrap; gap: .25rem; } .scale span { padding: .2rem .6rem; }
.faint { color: var(--faint); }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
li { margin: .5rem 0; } li:target { outline: 2px solid var(--link); }
dt { font-weight: 600; margin-top: .5rem; } code { overflow-wrap: anywhere; }
@media print { details::details-content { display: block; content-visibility: visible; } }
"""


def _page(frame: pd.DataFrame, limit_ulp: float) -> Iterator[str]:
    frame = frame.reset_index(drop=True)  # a row's number is its anchor
    yield (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Softmax '
        f"audit</title>\n<style>{_CSS}</style>\n"
    )
    yield (
        '<meta name="viewport" content="width=device-width, '
        'initial-scale=1">\n</head>\n<body>\n<main>\n<h1>Softmax audit</h1>\n'
    )
    yield from _opening(frame, limit_ulp)
    for function in dict.fromkeys(frame["function"]):
        yield f"<h2>{escape(function)}</h2>\n"
        rows = frame[frame["function"] == function]
        for number, dtype in enumerate(dict.fromkeys(rows["dtype"])):
            yield from _heat_table(function, dtype, rows[rows["dtype"] == dtype], opened=number == 0)
    yield from _problem_list(frame)
    yield from _case_list(frame)
    yield "</main>\n</body>\n</html>\n"


def _opening(frame: pd.DataFrame, limit_ulp: float) -> Iterator[str]:
    """The verdict at a glance, and how to read the tables."""
    yield (
        f"<p>Errors in units in the last place (ulp) against exact arithmetic; the limit is "
        f"{limit_ulp:g} ulp.</p>\n"
    )
    yield "<table>\n<caption>At a glance</caption>\n"
    yield _header("implementation", ["cases", "ok", "over the limit or wrong"])
    for name in dict.fromkeys(frame["implementation"]):
        ok = frame.loc[frame["implementation"] == name, "ok"].astype(bool)
        bad = int((~ok).sum())
        cells = f"<td>{len(ok)}</td><td>{int(ok.sum())}</td><td>{bad and f'✗ {bad}'}</td>"
        yield (f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>\n')
    yield '</tbody>\n</table>\n<p id="legend">Colour by the logarithm of the error, in ulp:</p>\n'
    yield '<div class="scale" aria-labelledby="legend" role="img">'
    for ulp in (LOWEST, 0.5, 1.0, 4.0, 1e2, 1e4, 1e6, HIGHEST):
        yield f"<span {_style(ulp)}>{ulp:g}</span>"
    yield (
        "</div>\n<p>✗ over the limit or wrong (follow it to the words); ✓ right, where ulps are not the "
        "matter; ∞ NaN or infinity "
    )
    yield (
        "in the wrong place, or an error raised; – not offered. The problems in words and the reasons "
        "for the cases stand below.</p>\n"
    )
    found = ", ".join(f"{name} {version}" for name, version in versions().items())
    yield f'<p class="faint">{escape(found)}; {escape(_platform())}</p>\n'


def _header(first: str, columns: Iterable[str]) -> str:
    cells = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    return f'<thead><tr><th scope="col">{escape(first)}</th>{cells}</tr></thead>\n<tbody>\n'


def _heat_table(function: str, dtype: str, rows: pd.DataFrame, *, opened: bool) -> Iterator[str]:
    """One table, case by implementation, behind a line that counts what fails."""
    bad = int((~rows["ok"].astype(bool)).sum())
    verdict = (
        f"✗ {bad} of {len(rows)} over the limit or wrong" if bad else f"✓ all {len(rows)} within the limit"
    )
    label = escape(f"{function}, {dtype}", quote=True)
    yield f"<details{' open' if opened else ''}><summary>{escape(dtype)}: {verdict}</summary>\n"
    yield (
        f'<div class="wide" tabindex="0" role="region" aria-label="{label}">\n<table>\n<caption '
        f'class="hidden">{label}</caption>\n'
    )
    names = list(dict.fromkeys(rows["implementation"]))
    yield _header("case", names)
    cells = {(row.case, row.implementation): row for row in rows.itertuples()}
    reasons = dict(zip(rows["case"], rows["reason"], strict=True))
    for case, reason in reasons.items():
        line = "".join(_cell(cells.get((case, name))) for name in names)
        yield f'<tr><th scope="row" title="{escape(reason, quote=True)}">{escape(case)}</th>{line}</tr>\n'
    yield "</tbody>\n</table>\n</div>\n</details>\n"


def _cell(row: Any) -> str:
    if row is None:
        return '<td title="not offered">–</td>'
    ulp = float(row.max_ulp)
    style = "" if math.isnan(ulp) else _style(ulp)
    if row.ok:
        return f"<td {style}>{ulp_text(ulp) or '✓'}</td>"
    words = escape(row.problem, quote=True)
    link = (
        f'<a href="#p{row.Index}"><span aria-hidden="true">✗</span><span class="hidden">wrong: </span> '
        f"{ulp_text(ulp)}</a>"
    )
    return f'<td class="bad" id="c{row.Index}" {style} title="{words}">{link}</td>'


def _style(ulp: float) -> str:
    background, text = cell_colors(ulp)
    return f'style="background:{background};color:{text}"'


def _problem_list(frame: pd.DataFrame) -> Iterator[str]:
    failing = frame[~frame["ok"].astype(bool)]
    yield "<h2>The problems in words</h2>\n" + ("" if len(failing) else "<p>There are none.</p>\n")
    for name, rows in failing.groupby("implementation", sort=False):
        yield f"<h3>{escape(str(name))}</h3>\n<ul>\n"
        for row in rows.itertuples():
            where = escape(f"{row.function}, {row.dtype}, {row.case}")
            # the link back needs an opened table: browsers open a closed one that has the anchor in it
            yield f'<li id="p{row.Index}"><a href="#c{row.Index}">{where}</a>: {escape(row.problem)}</li>\n'
        yield "</ul>\n"


def _case_list(frame: pd.DataFrame) -> Iterator[str]:
    yield "<h2>The cases, and why each is hard</h2>\n<dl>\n"
    for case, reason in dict(zip(frame["case"], frame["reason"], strict=True)).items():
        yield f"<dt>{escape(case)}</dt><dd>{escape(reason)}</dd>\n"
    yield "</dl>\n"
