r"""Pictures that answer when touched, without a kernel: everything they can show is computed here, by the
package.

A picture is a few Plotly panels, controls, and for each position of the controls the numbers that the panels
then show. The page's script (``book/_static/interactive.js``) looks them up; it computes nothing. Print, and
readers without scripts, get a still of the starting position, drawn by matplotlib from the same panels.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import ml_dtypes  # noqa: F401 - teaches NumPy the name bfloat16
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator
from numpy.typing import NDArray

import softmax_lab as sl
from softmax_lab.audit import adapters
from softmax_lab.plotting import COLORS, DIVERGING

__all__ = ["Change", "Control", "Interactive", "film", "precision", "temperature", "three_classes"]

Panel = dict[str, Any]  # "data" and "layout", as Plotly has them
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Control:
    """A slider, or with ``choice`` a list, and the words for its positions."""

    name: str
    label: str
    values: tuple[str, ...]
    start: int = 0
    choice: bool = False


@dataclass(frozen=True)
class Change:
    """What a field of a trace takes on: a value for each position of the controls ``by``, the last of them
    moving fastest.
    """

    panel: int
    trace: int
    field: str
    by: tuple[str, ...]
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Interactive:
    """Panels, controls and changes, and a ``caption`` below them.

    ``said`` is a sentence for each position of *all* controls, for those who cannot see the panels.
    """

    panels: tuple[Panel, ...]
    controls: tuple[Control, ...]
    changes: tuple[Change, ...]
    said: tuple[str, ...]
    alt: str
    caption: str

    def __post_init__(self) -> None:
        length = {control.name: len(control.values) for control in self.controls}
        for change in self.changes:
            expected = int(np.prod([length[name] for name in change.by]))
            if len(change.values) != expected:
                raise ValueError(
                    f"{change.field} of trace {change.trace} needs {expected} values for {change.by}; got "
                    f"{len(change.values)}"
                )
        if len(self.said) != (expected := int(np.prod(list(length.values())))):
            raise ValueError(f"said needs {expected} sentences; got {len(self.said)}")

    def at_start(self) -> list[Panel]:
        """Return the panels with every control at its start."""
        start = {control.name: control.start for control in self.controls}
        length = {control.name: len(control.values) for control in self.controls}
        panels: list[Panel] = [
            {**panel, "data": [dict(trace) for trace in panel["data"]]} for panel in self.panels
        ]
        for change in self.changes:
            index = 0
            for name in change.by:
                index = index * length[name] + start[name]
            panels[change.panel]["data"][change.trace][change.field] = change.values[index]
        return panels

    def still(self) -> Figure:
        """Draw the panels at their start."""
        panels = self.at_start()
        figure = Figure(
            figsize=(3.4 * min(len(panels), 2), 3.0 * -(-len(panels) // 2)),
            layout="constrained",
            facecolor="white",
        )
        axes = figure.subplots(-(-len(panels) // 2), min(len(panels), 2), squeeze=False).ravel()
        for axis, panel in zip(axes, panels, strict=False):
            _draw(axis, panel)
        return figure

    def _repr_html_(self) -> str:
        picture = io.BytesIO()
        self.still().savefig(picture, format="png", dpi=110)
        spec = {
            "panels": self.at_start(),
            "controls": [vars(control) for control in self.controls],
            "changes": [vars(change) for change in self.changes],
            "said": self.said,
        }
        text = json.dumps(spec, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
        source = base64.b64encode(picture.getvalue()).decode()
        return (
            '<figure><div class="interactive">'
            f'<img class="interactive-still" alt="{html.escape(self.alt)}" '
            f'src="data:image/png;base64,{source}">'
            f'<script type="application/json">{text}</script></div>'
            f"<figcaption><p><span "
            f'class="caption-text">{html.escape(self.caption)}</span></p></figcaption></figure>'
        )


def _draw(axis: Any, panel: Panel) -> None:
    """Draw a panel with matplotlib: lines, markers, bars, words and a heat map are all that the panels here
    have.
    """
    layout = panel["layout"]
    bars = [trace for trace in panel["data"] if trace["type"] == "bar"]
    for trace in panel["data"]:
        if trace["type"] == "heatmap":
            axis.imshow(
                trace["z"],
                cmap=DIVERGING,
                vmin=trace["zmin"],
                vmax=trace["zmax"],
                extent=(0.5, 3.5, 3.5, 0.5),
            )
            for (row, column), value in np.ndenumerate(np.asarray(trace["z"])):
                axis.text(
                    column + 1,
                    row + 1,
                    f"{value:.3f}",
                    ha="center",
                    va="center",
                    color="white" if abs(value) > 0.6 * trace["zmax"] else "black",
                )
        elif trace["type"] == "bar":
            width = 0.8 / len(bars)
            # side by side, as Plotly has them
            place = np.arange(len(trace["x"])) + width * (bars.index(trace) - (len(bars) - 1) / 2)
            axis.bar(
                place,
                np.array(trace["y"], dtype=float),
                width,
                color=trace["marker"]["color"],
                label=trace.get("name"),
            )
            axis.set_xticks(range(len(trace["x"])), trace["x"])
        elif trace["mode"] == "text":
            for x, y, word in zip(trace["x"], trace["y"], trace["text"], strict=True):
                axis.text(x, y, word, ha="center", va="center", fontsize=8)
        else:
            x, y = (np.array(trace[name], dtype=float) for name in "xy")
            points = "markers" in trace["mode"]
            look = trace["marker"] if points else trace["line"]
            if points:
                marker = {"x": "X"}.get(look.get("symbol", ""), "o")
                rim = look.get("line", {"color": "none", "width": 0})
                axis.scatter(
                    x,
                    y,
                    40,
                    look["color"],
                    marker,
                    label=trace["name"] or None,
                    zorder=3,
                    edgecolors=rim["color"],
                    linewidths=rim["width"],
                    clip_on=trace.get("cliponaxis", True),
                )
            else:
                style = {"solid": "-", "dash": "--", "longdash": (0, (8, 3)), "dot": ":", "dashdot": "-."}[
                    look["dash"]
                ]
                axis.plot(
                    x,
                    y,
                    color=look["color"],
                    linewidth=look["width"],
                    linestyle=style,
                    label=trace.get("name"),
                )
    for name in "xy":
        of = layout[f"{name}axis"]
        getattr(axis, f"set_{name}label")(of.get("title", {}).get("text", ""))
        if of.get("type") == "log":
            getattr(axis, f"set_{name}scale")("log")
        elif "dtick" in of:
            getattr(axis, f"{name}axis").set_major_locator(MultipleLocator(of["dtick"]))
        if "range" in of:
            low, high = (10.0**e if of.get("type") == "log" else e for e in of["range"])
            getattr(axis, f"set_{name}lim")(low, high)
        if of.get("visible") is False:
            axis.set_axis_off()
    axis.set_title(layout["title"]["text"], fontsize=10)
    if layout.get("showlegend"):
        axis.legend(fontsize=7, frameon=False)
    if layout["yaxis"].get("scaleanchor"):
        axis.set_aspect("equal")


# ---- parts of panels ----


def _panel(title: str, data: list[Any], *, x: Any = None, y: Any = None, legend: bool = False) -> Panel:
    return {
        "data": data,
        "layout": {"title": {"text": title}, "xaxis": x or {}, "yaxis": y or {}, "showlegend": legend},
    }


def _axis(
    title: str = "", *, low: float | None = None, high: float | None = None, log: bool = False, **more: Any
) -> dict[str, Any]:
    limits = (
        {}
        if low is None or high is None
        else {"range": [float(np.log10(v)) if log else v for v in (low, high)]}
    )
    return {
        "title": {"text": title},
        **({"type": "log", "exponentformat": "power", "dtick": 1} if log else {}),
        **limits,
        **more,
    }


def _line(
    x: Any, y: Any, color: str, name: str = "", *, width: float = 2.0, dash: str = "solid"
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "name": name,
        "line": {"color": COLORS[color], "width": width, "dash": dash},
    }


def _point(x: Any, y: Any, color: str = "vermillion", name: str = "") -> dict[str, Any]:
    look = {"color": COLORS[color], "size": 12}
    return {
        "type": "scatter",
        "mode": "markers",
        "x": x,
        "y": y,
        "name": name,
        "showlegend": bool(name),
        "marker": look,
    }


def _words(x: Any, y: Any, text: list[str]) -> dict[str, Any]:
    return {"type": "scatter", "mode": "text", "x": x, "y": y, "text": text, "showlegend": False}


def _bars(x: Any, y: Any, color: str, name: str = "") -> dict[str, Any]:
    return {"type": "bar", "x": x, "y": y, "name": name, "marker": {"color": COLORS[color]}}


def _scale() -> list[list[Any]]:
    """Return the book's diverging colours as Plotly wants them: it has no such map by name."""
    return [[x, to_hex(colormaps[DIVERGING](x))] for x in np.linspace(0.0, 1.0, 11).tolist()]


def _rounded(values: Any, digits: int = 5) -> Any:
    """Return nested lists of numbers with so many significant digits, and None for what no axis can show."""
    if isinstance(values, np.ndarray | list | tuple):
        return [_rounded(value, digits) for value in values]
    return float(f"{values:.{digits}g}") if values is not None and np.isfinite(values) else None


def _last(
    x: Sequence[float | None], ys: Sequence[Array], low: float
) -> tuple[list[float | None], list[float | None]]:
    """Return where each curve is last seen above ``low``."""
    last = [
        max((i for i, value in enumerate(_seen(y)) if value is not None and value > low), default=-1)
        for y in ys
    ]
    return [x[i] if i >= 0 else None for i in last], [
        _seen(y)[i] if i >= 0 else None for i, y in zip(last, ys, strict=True)
    ]


def _seen(values: Any) -> list[float | None]:
    """Return what a logarithmic axis can show."""
    numbers = np.asarray(values, dtype=np.float64)
    return _rounded(np.where(np.isfinite(numbers) & (numbers > 1e-300), numbers, np.nan))  # type: ignore[no-any-return]


# ---- the pictures ----


def three_classes(levels: Sequence[float] = tuple(range(-4, 5)), grid: int = 9) -> Interactive:
    """Three logits: probabilities, the Jacobian, its eigenvalues, and where gradient descent moves the
    probabilities.

    The field is the first-order motion of p = softmax(z) when z goes along the negative gradient of -log p_y:
    J(p) (e_y - p).
    """
    names = ["1", "2", "3"]
    words = tuple(f"{level:g}" for level in levels)
    controls = (
        *(
            Control(f"z{k}", f"logit of class {k}", words, len(words) // 2 + shift)
            for k, shift in ((1, 2), (2, 1), (3, -1))
        ),
        Control("y", "label y, for the arrows", tuple(names), choice=True),
    )
    p = sl.softmax(np.array(list(product(levels, repeat=3)), dtype=np.float64))
    jacobians = [sl.softmax_jacobian(row) for row in p]
    eigenvalues = [np.clip(np.linalg.eigvalsh(jacobian)[::-1], 0.0, None) for jacobian in jacobians]
    # one of them is 0, up to rounding
    eigenvalues = [np.where(values < 1e-15, 0.0, values) for values in eigenvalues]
    at = [_on_simplex(row) for row in p]
    fields = [_field(label, grid) for label in range(3)]
    corners = np.array([_on_simplex(row) for row in np.eye(3)[[0, 1, 2, 0]]])
    hidden = _axis(visible=False, low=-0.08, high=1.08)
    panels = (
        _panel(
            "probabilities p",
            [_bars(names, [0, 0, 0], "blue")],
            x=_axis("class", type="category"),
            y=_axis("probability", low=0.0, high=1.0),
        ),
        _panel(
            "Jacobian diag(p) − p pᵀ",
            [
                {
                    "type": "heatmap",
                    "x": [1, 2, 3],
                    "y": [1, 2, 3],
                    "z": [[0] * 3] * 3,
                    "zmin": -0.25,
                    "zmax": 0.25,
                    "colorscale": _scale(),
                    "texttemplate": "%{z:.3f}",
                    "showscale": False,
                }
            ],
            x=_axis("input j", dtick=1),
            y=_axis("output i", dtick=1, autorange="reversed"),
        ),
        _panel(
            "eigenvalues of the Jacobian",
            [_bars(names, [0, 0, 0], "green")],
            x=_axis("the largest first", type="category"),
            y=_axis("eigenvalue", low=0.0, high=0.55),
        ),
        _panel(
            "the simplex: where descent moves p",
            [
                _line(_rounded(corners[:, 0]), _rounded(corners[:, 1]), "grey"),
                _line([], [], "sky", width=1.5),
                _point([0], [0]),
                _words(
                    _rounded(1.13 * corners[:3, 0] - 0.065),
                    _rounded(1.16 * corners[:3, 1] - 0.06),
                    [f"p = e{k}" for k in "₁₂₃"],
                ),
            ],
            x={**hidden, "range": [-0.15, 1.15]},
            y={**hidden, "scaleanchor": "x", "range": [-0.12, 1.02]},
        ),
    )
    by = ("z1", "z2", "z3")
    changes = (
        Change(0, 0, "y", by, tuple(_rounded(row, 4) for row in p)),
        Change(1, 0, "z", by, tuple(_rounded(jacobian, 4) for jacobian in jacobians)),
        Change(2, 0, "y", by, tuple(_rounded(values, 4) for values in eigenvalues)),
        Change(3, 1, "x", ("y",), tuple(x for x, _ in fields)),
        Change(3, 1, "y", ("y",), tuple(y for _, y in fields)),
        Change(3, 2, "x", by, tuple(_rounded([x], 4) for x, _ in at)),
        Change(3, 2, "y", by, tuple(_rounded([y], 4) for _, y in at)),
    )
    said = [f"p = {', '.join(f'{v:.3f}' for v in row)}; eigenvalues "
            f"{', '.join(f'{v:.3f}' for v in values)}" for row, values in zip(p, eigenvalues, strict=True)]  # fmt: skip # noqa: E501
    alt = (
        "Four panels for the logits 2, 1 and −1: bars of the probabilities; the Jacobian as a table of "
        "colours, positive on the diagonal "
        "and negative off it; its three eigenvalues, of which the last is 0; a triangle with arrows that "
        "all lead to the corner of class 1."
    )
    caption = (
        "Three logits, and what follows from them. The dot in the triangle is the p of the sliders; the "
        "arrows depend on the label alone. "
        "Each row of the Jacobian adds up to 0, and so one eigenvalue is 0."
    )
    return Interactive(
        panels, controls, changes, tuple(sentence for sentence in said for _ in names), alt, caption
    )


def _on_simplex(p: Any) -> tuple[float, float]:
    """Return the place of (p_1, p_2, p_3) in a triangle with its corners at (0, 0), (1, 0) and (1/2,
    sqrt(3)/2).
    """
    return float(p[1] + 0.5 * p[2]), float(p[2] * np.sqrt(0.75))


def _field(label: int, grid: int) -> tuple[list[float | None], list[float | None]]:
    """Return arrows, as lines with gaps, along J(p) (e_y - p)."""
    x: list[float | None] = []
    y: list[float | None] = []
    for i, j in product(range(1, grid), repeat=2):
        if i + j >= grid:
            continue
        p = np.array([i, j, grid - i - j]) / grid
        motion = sl.softmax_jacobian(p) @ (np.eye(3)[label] - p)
        tail, head = (np.array(_on_simplex(q)) for q in (p, p + 0.35 * motion))
        back = 0.3 * (tail - head)
        side = np.array([-back[1], back[0]]) * 0.6
        for place in (tail, head, head + back + side, head, head + back - side):
            x.append(_rounded(place[0], 4))
            y.append(_rounded(place[1], 4))
        x.append(None)
        y.append(None)
    return x, y


def temperature(
    logits: Sequence[float] = (4.0, 2.5, 1.0, 0.5, 0.0, -1.0),
    teacher: Sequence[float] = (3.0, 3.0, 0.0, 1.0, -1.0, -1.0),
    positions: int = 49,
) -> Interactive:
    """The distribution at T, its entropy, the gradient of the loss, and the factor T^2 of distillation.

    The last panel is the gradient of the cross-entropy from softmax(v/T) of a teacher's logits v to
    softmax(z/T), as it is and times T^2, which tends to the norm of ((z - mean z) - (v - mean v)) / K
    (Hinton, Vinyals and Dean, 2015).
    """
    z, v = np.array(logits), np.array(teacher)
    classes, temperatures = len(z), np.geomspace(0.1, 100.0, positions)
    q = np.array([sl.softmax(z, temperature=T) for T in temperatures])
    entropy = -(q * np.log(np.maximum(q, 1e-300))).sum(axis=1)
    specs = [sl.LossSpec(temperature=T) for T in temperatures]
    right, wrong = (
        np.array([np.linalg.norm(sl.cross_entropy_grad(z, label, spec)[1]) for spec in specs])
        for label in (z.argmax(), z.argmin())
    )
    distilled = np.array(
        [
            np.linalg.norm(sl.cross_entropy_grad(z, sl.softmax(v, temperature=T), spec)[1])
            for T, spec in zip(temperatures, specs, strict=True)
        ]
    )
    limit = float(np.linalg.norm((z - z.mean()) - (v - v.mean())) / classes)
    ticks, axis = _seen(temperatures), _axis("temperature T", low=0.1, high=100.0, log=True)
    panels = (
        _panel(
            "softmax(z / T)",
            [_bars([str(k + 1) for k in range(classes)], [0.0] * classes, "blue")],
            x=_axis("class", type="category"),
            y=_axis("probability", low=0.0, high=1.0),
        ),
        _panel(
            "entropy / log K",
            [_line(ticks, _rounded(entropy / np.log(classes)), "green"), _point([1], [0])],
            x=axis,
            y=_axis(low=0.0, high=1.05),
        ),
        _panel(
            "gradient of the loss",
            [
                _line(ticks, _seen(right), "blue", "label: the largest logit"),
                _line(ticks, _seen(wrong), "vermillion", "the smallest", dash="dash"),
                _point([1, 1], [1, 1]),
            ],
            x=axis,
            y=_axis("norm", low=1e-4, high=20.0, log=True),
            legend=True,
        ),
        _panel(
            "gradient of distillation",
            [
                _line(ticks, _seen(distilled), "purple", "as it is"),
                _line(ticks, _seen(distilled * temperatures**2), "green", "times T²"),
                _line(
                    [0.1, 100.0], [_rounded(limit)] * 2, "grey", "limit of T² times it", width=1.0, dash="dot"
                ),
                _point([1, 1], [1, 1]),
            ],
            x=axis,
            y=_axis("norm", low=1e-4, high=20.0, log=True),
            legend=True,
        ),
    )
    by = ("T",)
    twice = tuple(_rounded([T, T]) for T in temperatures)
    changes = (
        Change(0, 0, "y", by, tuple(_rounded(row, 4) for row in q)),
        Change(1, 1, "x", by, tuple(_rounded([T]) for T in temperatures)),
        Change(1, 1, "y", by, tuple(_rounded([value]) for value in entropy / np.log(classes))),
        Change(2, 2, "x", by, twice),
        Change(2, 2, "y", by, tuple(_seen(pair) for pair in zip(right, wrong, strict=True))),
        Change(3, 3, "x", by, twice),
        Change(
            3,
            3,
            "y",
            by,
            tuple(_seen(pair) for pair in zip(distilled, distilled * temperatures**2, strict=True)),
        ),
    )
    said = tuple(
        f"T = {T:.3g}: largest probability {row.max():.3f}, entropy {h / np.log(classes):.3f} of its "
        f"maximum, gradient {a:.2g} "
        f"(largest logit) and {b:.2g} (smallest), distillation {d:.2g}, times T² {d * T * T:.2g}"
        for T, row, h, a, b, d in zip(temperatures, q, entropy, right, wrong, distilled, strict=True)
    )
    control = Control(
        "T",
        "temperature T",
        tuple(f"{T:.3g}" for T in temperatures),
        int(np.abs(np.log(temperatures)).argmin()),
    )
    alt = (
        "Four panels at T = 1: bars of six probabilities, the first the largest; the entropy, which rises "
        "from 0 to its maximum with T; "
        "the gradient of the loss, a hump for the largest logit as label and a falling line for the "
        "smallest; the gradient of "
        "distillation, which falls like 1/T² while T² times it levels off."
    )
    rows = ("(" + ", ".join(f"{value:g}" for value in row).replace("-", "−") + ")" for row in (z, v))
    caption = (
        "The logits z = {} at the temperature T. The gradient of the loss is shown for two labels, the "
        "classes of the largest and of the "
        "smallest logit; that of distillation for the teacher's logits v = {}."
    ).format(*rows)
    return Interactive(panels, (control,), changes, said, alt, caption)


#: the ways of the last picture: what the adapters of the audit call them, and the look of each; a curve lies
#: on the wider ones before it
WAYS = {
    "softmax_lab": ("softmax_lab", "blue", 9.0),
    "jax": ("JAX", "sky", 7.0),
    "tensorflow": ("TensorFlow", "purple", 5.0),
    "torch": ("torch", "orange", 3.0),
    "numpy": ("textbook", "vermillion", 1.2),
}
DTYPES = ("float16", "bfloat16", "float32", "float64")


def precision(positions: int = 57, ways: Sequence[str] = tuple(WAYS)) -> Interactive:
    """Two logits, a gap apart: -log p_y and the gradient at the label, exact and as computed, until each way
    dies.
    """
    gaps = np.geomspace(0.5, 2000.0, positions)
    ways = [way for way in ways if adapters.installed(way)]
    subjects = {way: adapters.make(way) for way in ways}
    labels = ("the larger logit", "the smaller logit")
    values = {(dtype, y): _both_ways(gaps, dtype, y, subjects) for dtype in DTYPES for y in (0, 1)}
    x, colors = _seen(gaps), [COLORS[WAYS[way][1]] for way in ways]
    looks = [
        _line(x, [], "grey", "exact", width=12.0),
        *(_line(x, [], WAYS[w][1], WAYS[w][0], width=WAYS[w][2]) for w in ways),
    ]
    axis = _axis("gap between the logits", low=0.5, high=2000.0, log=True)
    low, high = 1e-50, 1e5
    panels = tuple(
        _panel(
            title,
            [*(dict(look) for look in looks), _line([1, 1], [low, high], "grey", "the slider", width=1.0)],
            x=axis,
            y=_axis(name, low=low, high=high, log=True, dtick=10),
            legend=True,
        )
        for title, name in (("−log p of the label", "loss"), ("size of the gradient at the label", "size"))
    )
    by = ("dtype", "label")
    for panel in panels:
        marks = {"color": colors, "size": 9, "symbol": "x", "line": {"color": "white", "width": 1}}
        panel["data"].append({**_point([], [], name="last seen"), "marker": marks, "cliponaxis": False})
    ends = [
        [_last(x, values[dtype, y][panel][1:], low) for dtype in DTYPES for y in (0, 1)] for panel in (0, 1)
    ]
    changes = [
        Change(panel, len(ways) + 2, name, by, tuple(end[i] for end in ends[panel]))
        for panel in (0, 1)
        for i, name in enumerate("xy")
    ]
    changes += [
        Change(
            panel,
            trace,
            "y",
            by,
            tuple(_seen(values[dtype, y][panel][trace]) for dtype in DTYPES for y in (0, 1)),
        )
        for panel in (0, 1)
        for trace in range(len(ways) + 1)
    ]
    changes += [
        Change(panel, len(ways) + 1, "x", ("gap",), tuple(_rounded([g, g]) for g in gaps)) for panel in (0, 1)
    ]
    names = ["exact", *(WAYS[way][0] for way in ways)]
    said = tuple(
        f"{dtype}, gap {gap:.3g}, label {labels[y]}: −log p "
        + ", ".join(f"{name} {values[dtype, y][0][i][k]:.3g}" for i, name in enumerate(names))
        + "; gradient "
        + ", ".join(f"{name} {values[dtype, y][1][i][k]:.3g}" for i, name in enumerate(names))
        for dtype in DTYPES
        for y in (0, 1)
        for k, gap in enumerate(gaps)
    )
    controls = (
        Control("dtype", "type", DTYPES, 2, choice=True),
        Control("label", "label", labels, 0, choice=True),
        Control(
            "gap",
            "gap between the logits",
            tuple(f"{gap:.3g}" for gap in gaps),
            int(np.abs(gaps - 12.0).argmin()),
        ),
    )
    alt = (
        "Two panels over the gap between two logits, in float32, the label on the larger: minus log p, and "
        "the size of the gradient. The "
        "exact curve falls like exp(−gap); the textbook's and the frameworks' end near a gap of 16; that of "
        "softmax_lab goes on to 103."
    )
    caption = (
        "Two logits, a gap apart. The curves lie on one another where they agree, the wider below. A cross "
        "marks where each is last seen "
        "finite and above zero, inside the picture; gaps are on a grid, so that a cross may stand a step "
        "too early."
    )
    return Interactive(panels, controls, tuple(changes), said, alt, caption)


def _both_ways(gaps: Array, dtype: str, y: int, subjects: dict[str, Any]) -> tuple[list[Array], list[Array]]:
    """Return, the exact one first, the losses and the sizes of the gradient at the label."""
    z = np.stack([gaps, np.zeros_like(gaps)], axis=1).astype(dtype)
    label = np.full(len(z), y)
    rows = z.astype(np.float64).tolist()
    losses = [np.array([float(sl.exact.cross_entropy(row, y)) for row in rows])]
    gradients = [np.array([abs(float(sl.exact.cross_entropy_grad(row, y)[y])) for row in rows])]
    with np.errstate(all="ignore"):
        for subject in subjects.values():
            losses.append(np.asarray(subject.cross_entropy(z, label)).astype(np.float64))
            gradients.append(
                np.abs(np.asarray(subject.cross_entropy_grad(z, label)).astype(np.float64)[:, y])
            )
    return losses, gradients


def film(films: dict[str, pd.DataFrame], positions: int = 41) -> Interactive:
    """The gradient mass of each class along a training run: up and down, and their ratio, loss by loss.

    ``films`` are the tables of ``GradientMonitor.frame()`` by loss, over the same steps.
    """
    losses, first = tuple(films), next(iter(films.values()))
    steps = np.unique(first["step"])
    steps = np.unique(steps[np.round(np.geomspace(1, len(steps), positions)).astype(int) - 1])
    classes = [str(c) for c in np.unique(first["class"])]
    grids = {
        loss: {
            name: table.pivot(index="step", columns="class", values=name).loc[steps].to_numpy()
            for name in ("positive_mass", "negative_mass")
        }
        for loss, table in films.items()
    }
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = {loss: masses["positive_mass"] / masses["negative_mass"] for loss, masses in grids.items()}
    largest = max(float(np.nanmax(part)) for masses in grids.values() for part in masses.values())
    category = _axis("class, the most frequent first", type="category")
    panels = (
        _panel(
            "gradient mass of each class",
            [_bars(classes, [], "blue", "pull up"), _bars(classes, [], "orange", "push down")],
            x=category,
            y=_axis("mass", low=1e-3, high=10.0 ** np.ceil(np.log10(largest)), log=True),
            legend=True,
        ),
        _panel(
            "pull up / push down",
            [_point(classes, []), _line([classes[0], classes[-1]], [1, 1], "grey", width=1.0)],
            x=category,
            y=_axis("ratio", low=0.02, high=50.0, log=True),
        ),
    )
    by = ("loss", "step")
    every = [(loss, i) for loss in losses for i in range(len(steps))]
    changes = (
        Change(0, 0, "y", by, tuple(_seen(grids[loss]["positive_mass"][i]) for loss, i in every)),
        Change(0, 1, "y", by, tuple(_seen(grids[loss]["negative_mass"][i]) for loss, i in every)),
        Change(1, 0, "y", by, tuple(_seen(ratio[loss][i]) for loss, i in every)),
    )
    said = tuple(
        f"{loss}, step {steps[i]}: pull over push {ratio[loss][i][0]:.2g} for the most frequent class, "
        f"{ratio[loss][i][-1]:.2g} for the rarest"
        for loss, i in every
    )
    controls = (
        Control("loss", "loss", losses, choice=True),
        Control("step", "training step", tuple(str(step) for step in steps), len(steps) // 4),
    )
    alt = (
        f"Two panels over the classes from the most frequent to the rarest, early in training with the loss "
        f"{losses[0]}: "
        "bars of the mass that pulls logits up and of the mass that pushes them down, and their ratio."
    )
    caption = (
        "Gradient mass of each class at a step of training: what its own rows pull its logit up by, what "
        "the other rows push it down by, "
        "and the ratio of the two, 1 (the line) in balance. Moving averages over the steps; a class without "
        "rows so far has no pull."
    )
    return Interactive(panels, controls, changes, said, alt, caption)
