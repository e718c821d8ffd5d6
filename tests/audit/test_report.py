"""Reports say what the frame says, in every format, to every reader, and are whole or absent."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

pd = pytest.importorskip("pandas", reason="the audit needs pandas")

from softmax_lab.audit import COLUMNS, report  # noqa: E402

NAN, INF = float("nan"), float("inf")
HOSTILE = "<script>alert('x')</script> & \"quotes\""


@pytest.fixture
def frame() -> Any:
    rows = [
        ("mine", "softmax", "float32", "moderate", 0.7, True, "", "nothing special"),
        ("mine", "softmax", "float32", "repeatable", NAN, True, "", "same bits"),
        ("mine", "softmax", "float32", "wide", 120.0, False, "120 ulp off at row 1: advice", "wide rows"),
        ("mine", "softmax", "float32", "uneven", 15.0, False, "15 ulp off at row 0: advice", "uneven rows"),
        ("mine", "softmax", "float64", "wide", 4000.0, False, "4e+03 ulp off at row 2: advice", "wide rows"),
        (
            "mine",
            "cross_entropy",
            "float32",
            "label -1",
            NAN,
            False,
            "label -1 is accepted",
            "a negative label",
        ),
        (HOSTILE, "softmax", "float32", "moderate", INF, False, f"raises {HOSTILE}", "nothing special"),
    ]
    found = pd.DataFrame(rows, columns=[name for name in COLUMNS if name != "wrong"])
    return found.assign(wrong=~found["ok"] & ~(found["max_ulp"] < INF))[list(COLUMNS)]


@pytest.fixture
def clean(frame: Any) -> Any:
    return frame[frame["ok"]]


class Page(HTMLParser):
    """A page taken apart: balanced tags, attributes by tag, text by tag."""

    VOID = ("meta", "link", "br", "img", "input", "hr")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[tuple[str, str]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append((self.open[-1] if self.open else "", data))

    def values(self, attribute: str) -> list[str]:
        return [value for _, attrs in self.tags if (value := attrs.get(attribute)) is not None]


@pytest.fixture
def html(frame: Any, tmp_path: Path) -> str:
    report.to_html(frame, tmp_path / "audit.html", limit_ulp=4.0)
    return (tmp_path / "audit.html").read_text(encoding="utf-8")


def test_json_is_strict_and_complete(frame: Any, tmp_path: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    report.to_json(frame, tmp_path / "audit.json")
    content = json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert set(content) == {"versions", "platform", "results"}
    assert [tuple(row) for row in content["results"]] == [COLUMNS] * len(frame)
    assert [row["max_ulp"] for row in content["results"]] == [
        0.7,
        None,
        120.0,
        15.0,
        4000.0,
        None,
        "Infinity",
    ]
    assert [row["ok"] for row in content["results"]] == frame["ok"].tolist()
    assert [row["problem"] for row in content["results"]] == frame["problem"].tolist()


def test_csv_reads_back(frame: Any, tmp_path: Path) -> None:
    report.to_csv(frame, tmp_path / "audit.csv")
    back = pd.read_csv(tmp_path / "audit.csv", keep_default_na=False, na_values={"max_ulp": [""]})
    pd.testing.assert_frame_equal(back, frame, check_dtype=False)
    with (tmp_path / "audit.csv").open(encoding="utf-8", newline="") as file:
        assert [len(row) for row in csv.reader(file)] == [len(COLUMNS)] * (len(frame) + 1)


def test_html_is_well_formed_and_needs_nothing_beside_it(html: str) -> None:
    page = Page(html)
    assert page.open == []
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "img", "iframe", "object"})
    assert page.values("src") == []
    assert not re.search(r"https?://|url\(|@import|\bon\w+=", html)


def test_html_links_lead_somewhere_and_back(html: str, frame: Any) -> None:
    page = Page(html)
    anchors = page.values("id")
    assert len(anchors) == len(set(anchors))
    links = page.values("href")
    assert sorted(links) == sorted(f"#{a}" for a in anchors if re.fullmatch(r"[pc]\d+", a))
    assert len(links) == 2 * int((~frame["ok"]).sum())


def test_html_escapes_what_it_shows(html: str) -> None:
    assert "<script" not in html
    assert HOSTILE in {data for tag, data in Page(html).text if tag == "th"}
    assert f"raises {HOSTILE}" in Page(html).values("title")


def test_html_marks_failures_by_a_symbol_too(html: str, frame: Any) -> None:
    page = Page(html)
    bad = [attrs for tag, attrs in page.tags if tag == "td" and attrs.get("class") == "bad"]
    assert sorted(str(attrs["title"]) for attrs in bad) == sorted(frame.loc[~frame["ok"], "problem"])
    assert sum(data == "✗" for tag, data in page.text if tag == "span") == len(bad)
    assert sum(data == "wrong: " for _, data in page.text) == len(bad)  # for those who listen


def test_html_tells_apart_right_without_ulps_and_not_offered(html: str) -> None:
    cells = [data for tag, data in Page(html).text if tag == "td"]
    assert cells.count("✓") == 1
    assert cells.count("–") == 3  # the hostile one lacks repeatable, wide and uneven


def test_html_shows_problems_reasons_limit_and_versions(html: str, frame: Any) -> None:
    text = "".join(data for _, data in Page(html).text)
    for words in [*frame["problem"], *frame["reason"], "limit is 4 ulp", "numpy ", "Python "]:
        assert words in text


def test_html_works_in_the_dark_and_by_keyboard(html: str) -> None:
    page = Page(html)
    assert "prefers-color-scheme: dark" in html
    regions = [attrs for tag, attrs in page.tags if attrs.get("role") == "region"]
    assert regions
    assert all(attrs.get("tabindex") == "0" and attrs.get("aria-label") for attrs in regions)
    assert {attrs.get("scope") for tag, attrs in page.tags if tag == "th"} == {"row", "col"}


def test_a_clean_audit_says_so(clean: Any, tmp_path: Path) -> None:
    report.to_html(clean, tmp_path / "audit.html", limit_ulp=4.0)
    assert "There are none." in (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert "no problems" in report.summary(clean)


ULPS = [0.0, *(10.0 ** (exponent / 8) for exponent in range(-24, 160)), INF]


@pytest.mark.parametrize("ulp", ULPS)
def test_text_on_every_colour_is_legible(ulp: float) -> None:
    lighter, darker = sorted((report._luminance(color) for color in report.cell_colors(ulp)), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5  # WCAG 2.1, level AA


def test_colours_grow_lighter_with_the_error() -> None:
    lightness = [report._luminance(report.cell_colors(ulp)[0]) for ulp in ULPS]
    assert lightness == sorted(lightness)
    assert len(set(lightness)) > 60


def test_colours_are_those_of_the_map_they_name() -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="compares with matplotlib's own map")
    ours = [report._rgb(report.cell_colors(10.0 ** (-1 + 10 * i / 8))[0]) for i in range(9)]
    theirs = [tuple(round(255 * c) for c in matplotlib.colormaps["cividis"](i / 8)[:3]) for i in range(9)]
    assert (
        max(
            abs(a - b)
            for one, other in zip(ours, theirs, strict=True)
            for a, b in zip(one, other, strict=True)
        )
        <= 1
    )


@pytest.mark.parametrize(
    ("ulp", "text"),
    [
        (NAN, ""),
        (INF, "∞"),
        (0.0, "0.00"),
        (9.87, "9.87"),
        (12.3, "12"),
        (9876.0, "9876"),
        (2.5e15, "2e15"),
        (1e5, "1e5"),
    ],
)
def test_errors_fit_their_cells(ulp: float, text: str) -> None:
    assert report.ulp_text(ulp) == text
    assert len(text) <= 4


def test_summary_counts_and_names_the_worst(frame: Any) -> None:
    lines = report.summary(frame).splitlines()
    assert re.fullmatch(r"mine +2 of 6  4000 ulp: softmax, float64, wide", lines[1])
    assert re.search(r"0 of 1  ∞ ulp: softmax, float32, moderate$", lines[2])


def test_summary_tells_one_kind_of_problem_once(frame: Any) -> None:
    text = report.summary(frame)
    assert "mine softmax (float32: wide, uneven; float64: wide)" in text
    assert text.count("ulp off at row") == 1
    assert "4e+03 ulp off at row 2: advice" in text  # the worst one speaks for its kind
    assert "mine cross_entropy (float32: label -1)" in text


def test_summary_gathers_types_with_the_same_cases(frame: Any) -> None:
    same = frame.iloc[[2, 4]]
    assert "mine softmax (float32, float64: wide)" in report.summary(same)


def test_summary_without_ulps_has_no_worst(frame: Any) -> None:
    only = frame[frame["case"] == "repeatable"]
    assert report.summary(only).splitlines()[1].split() == ["mine", "1", "of", "1"]


@pytest.mark.parametrize(
    "write", [report.to_json, report.to_csv, lambda frame, path: report.to_html(frame, path, limit_ulp=4.0)]
)
def test_a_failed_write_leaves_the_old_report_and_nothing_else(
    write: Any, frame: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report"
    path.write_text("old", encoding="utf-8")

    def fails(self: Path, target: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OSError, match="disk full"):
        write(frame, path)
    assert [p.name for p in tmp_path.iterdir()] == ["report"]
    assert path.read_text(encoding="utf-8") == "old"


def test_another_frame_is_refused(tmp_path: Path) -> None:
    other = pd.DataFrame({"implementation": ["x"], "max_ulp": [1.0]})
    for call in (
        report.summary,
        lambda f: report.to_json(f, tmp_path / "x"),
        lambda f: report.to_html(f, tmp_path / "x", limit_ulp=4.0),
    ):
        with pytest.raises(ValueError, match="missing: function, dtype, case, ok, wrong, problem, reason"):
            call(other)
    assert list(tmp_path.iterdir()) == []


# ---- for a CI service, and for a pull request ----


def junit(frame: Any, path: Path, **options: Any) -> Any:
    report.to_junit(frame, path, **options)
    return ElementTree.parse(path).getroot()


def test_junit_has_a_test_a_row_and_a_failure_where_it_fails(frame: Any, tmp_path: Path) -> None:
    root = junit(frame, tmp_path / "audit.xml")
    assert root.attrib == {"name": "softmax-lab audit", "tests": "7", "failures": "5", "errors": "0"}
    suites = {suite.get("name"): suite for suite in root}
    assert list(suites) == ["mine.softmax", "mine.cross_entropy", f"{HOSTILE}.softmax"]
    assert suites["mine.softmax"].attrib["failures"] == "3"
    tests = {(test.get("classname"), test.get("name")): test for test in root.iter("testcase")}
    assert len(tests) == len(frame)
    wide = tests["mine.softmax", "float32: wide"].find("failure")
    assert (wide.get("message"), wide.get("type")) == ("120 ulp off at row 1: advice", "limit")
    assert "wide rows" in wide.text
    assert tests[f"{HOSTILE}.softmax", "float32: moderate"].find("failure").get("type") == "wrong"
    assert not list(tests["mine.softmax", "float32: moderate"])


def test_junit_fails_on_what_is_asked_for_and_tells_the_rest(frame: Any, tmp_path: Path) -> None:
    root = junit(frame, tmp_path / "audit.xml", fail_on="wrong")
    failed = [test.get("name") for test in root.iter("testcase") if test.find("failure") is not None]
    assert failed == ["float32: label -1", "float32: moderate"]
    told = [test.get("name") for test in root.iter("testcase") if test.find("system-out") is not None]
    assert told == ["float32: wide", "float32: uneven", "float64: wide"]


def test_junit_takes_what_xml_cannot_say(frame: Any, tmp_path: Path) -> None:
    odd = frame.assign(problem=frame["problem"].str.replace("advice", "a\x00b\x1b[0m\ud800 <&>"))
    root = junit(odd, tmp_path / "audit.xml")
    assert next(root.iter("failure")).get("message") == "120 ulp off at row 1: a?b?[0m? <&>"


def test_markdown_counts_and_tells_each_kind_of_problem_once(frame: Any, tmp_path: Path) -> None:
    report.to_markdown(frame, tmp_path / "audit.md")
    lines = (tmp_path / "audit.md").read_text(encoding="utf-8").splitlines()
    assert lines[2] == "| mine | 6 | 2 | 3 | 1 |"
    told = [line for line in lines if line.startswith("- ")]
    assert len(told) == 3
    assert told[0] == (
        "- **mine softmax**, over the limit (float32, float64: wide, uneven): 4e+03 ulp off at row 2: advice"
    )
    assert told[1].startswith("- **mine cross_entropy**, wrong (float32: label -1)")
    assert "<script>" not in "\n".join(lines)  # a page would run it
    assert lines[lines.index(told[0]) - 1] == ""


def test_markdown_of_a_clean_audit_is_its_table(clean: Any, tmp_path: Path) -> None:
    report.to_markdown(clean, tmp_path / "audit.md")
    assert (tmp_path / "audit.md").read_text(encoding="utf-8").splitlines()[2:] == [
        "| mine | 2 | 2 | 0 | 0 |"
    ]


def test_what_fails_a_run(frame: Any) -> None:
    assert report.failing(frame).tolist() == (~frame["ok"]).tolist()
    assert report.failing(frame, "wrong").tolist() == frame["wrong"].tolist()
    with pytest.raises(ValueError, match="fail_on must be one of 'limit', 'wrong'"):
        report.failing(frame, "digits")
