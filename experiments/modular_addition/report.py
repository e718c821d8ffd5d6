"""What the stored runs say: a table, a picture and sentences for each setting, for chapter 11."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from experiments import curves
from experiments.implementations import LOSS_COLOR

from .losses import LOSSES
from .rows import Row
from .training import MEASURES

__all__ = [
    "accuracy_picture",
    "accuracy_table",
    "at_the_edge",
    "circumstances",
    "cost",
    "difference",
    "drift_picture",
    "drift_table",
    "final_loss",
    "frame",
    "in_words",
    "points",
    "rate_table",
    "reached",
    "settings",
    "shown",
    "solved",
    "zero_share",
]

#: what is compared shares these
SETTING = ["protocol", "p", "share", "steps", "hardware"]
SOLVED = 0.95  # test accuracy
_NUMBERS = {"p": int, "share": float, "steps": int, "seed": int, "step": int, "lr": float, "seconds": float}


def frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Return stored rows with numbers; a loss's name as pictures have it in ``label``."""
    table = pd.DataFrame(list(rows))
    table = table.astype(_NUMBERS | dict.fromkeys(MEASURES, float) | {"models": int})
    table["area"] = pd.to_numeric(table["area"])
    table["label"] = [LOSSES[name].label for name in table["loss"]]
    return table


def settings(table: pd.DataFrame) -> list[tuple[object, ...]]:
    """Return the settings that there are, in the order of the rows."""
    return list(table[SETTING].drop_duplicates().itertuples(index=False, name=None))


def of_setting(table: pd.DataFrame, setting: tuple[object, ...], part: str) -> pd.DataFrame:
    """Return the rows of one setting and part."""
    chosen = table["part"] == part
    for name, value in zip(SETTING, setting, strict=True):
        chosen &= table[name] == value
    if not chosen.any():
        raise ValueError(f"there are no rows of the part {part} for {setting}")
    return table[chosen]


def losses_in(rows: pd.DataFrame) -> list[str]:
    """Return the losses of rows in the order of the registry."""
    return [name for name in LOSSES if name in set(rows["loss"])]


def accuracy_table(table: pd.DataFrame, setting: tuple[object, ...]) -> pd.DataFrame:
    """Return a row a loss: what the final seeds reach, when, in which time, and what is lost on the way.

    Accuracy is in percent with half the width of its 95 % t interval over the seeds. A seed has solved the
    task at the first evaluation from `SOLVED` on; the median counts those that never do as later than all.
    """
    rows = of_setting(table, setting, "final")
    found = []
    for name in losses_in(rows):
        own = rows[rows["loss"] == name]
        last = own[own["step"] == own["step"].max()]
        mean, half = curves.interval(100 * last["test_accuracy"])
        found.append(
            {
                "loss": LOSSES[name].label,
                "learning rate": last["lr"].iloc[0],
                "seeds": len(last),
                "test accuracy (%)": mean,
                "± (95 %)": half,
                "worst seed (%)": 100 * last["test_accuracy"].min(),
                f"steps to {SOLVED:.0%}": steps_to_solve(own),
                "ms a step": 1000 * float((last["seconds"] / last["step"]).mean()),
                "target's gradient is 0 (%)": 100 * last["zero_share"].mean(),
                "gap": last["gap"].mean(),
                "length of the weights": last["weight_norm"].mean(),
            }
        )
    return pd.DataFrame(found).set_index("loss")


def steps_to_solve(rows: pd.DataFrame) -> float:
    """Return the median over seeds of the first step from `SOLVED` on; infinite where half have none."""
    first = [
        own.loc[own["test_accuracy"] >= SOLVED, "step"].min() for _, own in rows.groupby("seed", sort=True)
    ]
    return float(pd.Series(first, dtype=float).fillna(float("inf")).median())


def rate_table(table: pd.DataFrame, setting: tuple[object, ...]) -> pd.DataFrame:
    """Return the mean test accuracy (%) of the tuning seeds, a row a loss and a column a learning rate."""
    rows = of_setting(table, setting, "tune")
    means = rows.pivot_table(index="label", columns="lr", values="test_accuracy", aggfunc="mean")
    return 100 * means.reindex([LOSSES[name].label for name in losses_in(rows)])


def accuracy_picture(table: pd.DataFrame, setting: tuple[object, ...]) -> Figure:
    """Draw test accuracy over steps and over seconds: means of the final seeds, bands of all of them.

    The seconds are those of all seeds of a loss, which train at once.
    """
    rows = of_setting(table, setting, "final")
    found = [
        curves.curve_of(rows[rows["loss"] == name], LOSSES[name].label, "step", "test_accuracy")
        for name in losses_in(rows)
    ]
    look = _looks()
    return curves.curves_picture(found, look, steps="steps", measure="test accuracy")


def drift_picture(table: pd.DataFrame, setting: tuple[object, ...]) -> Figure:
    """Draw the training rows' cross-entropy and the length of the weights over steps."""
    rows = of_setting(table, setting, "final")
    look = _looks()
    figure = Figure(figsize=(curves.NARROW, 6.4), layout="constrained")
    measures = {"cross_entropy": "loss of the training rows (nats)", "weight_norm": "length of the weights"}
    panels = figure.subplots(len(measures), 1, sharex=True)
    for panel, (measure, name) in zip(panels, measures.items(), strict=True):
        for loss in losses_in(rows):
            label = LOSSES[loss].label
            curve = curves.curve_of(rows[rows["loss"] == loss], label, "step", measure)
            panel.plot(curve.steps, curve.mean, label=label, linewidth=1.6, **look[label])
            panel.fill_between(
                curve.steps, curve.low, curve.high, color=look[label]["color"], alpha=0.12, linewidth=0
            )
        panel.set_ylabel(name)
    panels[-1].set_xlabel("steps")
    panels[0].set_yscale("log")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _looks() -> dict[str, dict[str, Any]]:
    """Return the look of each loss by its label: the colours are those of chapter 11's other pictures."""
    own = {method.label: LOSS_COLOR[name] for name, method in LOSSES.items() if name in LOSS_COLOR}
    look = curves.looks([method.label for method in LOSSES.values()], own)
    look[LOSSES["mended"].label]["linestyle"] = ":"  # it lies on the exact loss
    return look


def final_loss(table: pd.DataFrame, setting: tuple[object, ...], loss: str) -> str:
    """Return the cross-entropy of the training rows in the end, in nats: the lowest and the highest seed."""
    rows = of_setting(table, setting, "final")
    own = rows[(rows["loss"] == loss) & (rows["step"] == rows["step"].max())]["cross_entropy"]
    return f"{own.min():.1e} to {own.max():.1e}"


def final_accuracy(table: pd.DataFrame, setting: tuple[object, ...], loss: str) -> pd.Series[float]:
    """Return the test accuracy (%) of each final seed after the last step, by seed."""
    rows = of_setting(table, setting, "final")
    own = rows[(rows["loss"] == loss) & (rows["step"] == rows["step"].max())]
    return 100 * own.set_index("seed")["test_accuracy"].sort_index()


def reached(table: pd.DataFrame, setting: tuple[object, ...], loss: str, digits: int = 1) -> str:
    """Return what a loss reaches, with half the width of its 95 % interval over the seeds."""
    mean, half = curves.interval(final_accuracy(table, setting, loss))
    return f"{mean:.{digits}f} ± {half:.{digits}f} %"


def difference(
    table: pd.DataFrame, setting: tuple[object, ...], loss: str, other: str
) -> tuple[float, float]:
    """Return the mean of a loss's accuracy less the other's, seed by seed, and half its 95 % interval.

    A seed draws the same pairs and the same start for every loss.
    """
    first, second = (final_accuracy(table, setting, name) for name in (loss, other))
    if list(first.index) != list(second.index):
        raise ValueError(f"{loss} and {other} have other seeds: {list(first.index)}, {list(second.index)}")
    return curves.interval(first - second)


def in_words(table: pd.DataFrame, setting: tuple[object, ...], loss: str, other: str) -> str:
    """Return the difference of two losses as a phrase, which says no more than its interval does."""
    return points(*difference(table, setting, loss, other))


def points(mean: float, half: float) -> str:
    """Return a difference in points, with half its 95 % interval, as a phrase."""
    if not abs(mean) > half:
        return f"is not told apart by these seeds (a difference of {abs(mean):.1f} ± {half:.1f} points)"
    return f"has {abs(mean):.1f} ± {half:.1f} points {'more' if mean > 0 else 'less'}"


def solved(table: pd.DataFrame, setting: tuple[object, ...]) -> str:
    """Return the losses whose median seed solves the task, the soonest first, with the steps."""
    steps = accuracy_table(table, setting)[f"steps to {SOLVED:.0%}"].sort_values(kind="stable")
    found = [f"{label} ({count:,.0f} steps)" for label, count in steps.items() if count < float("inf")]
    return ", ".join(found) or "none"


def cost(table: pd.DataFrame, setting: tuple[object, ...], loss: str, other: str) -> float:
    """Return the time of a step with a loss over that with another."""
    each = accuracy_table(table, setting)["ms a step"]
    return float(each[LOSSES[loss].label] / each[LOSSES[other].label])


def zero_share(table: pd.DataFrame, setting: tuple[object, ...], loss: str) -> str:
    """Return the share of training rows whose target's gradient is 0 in the end."""
    lost = accuracy_table(table, setting)["target's gradient is 0 (%)"]
    return f"{lost[LOSSES[loss].label]:.0f} %"


def at_the_edge(table: pd.DataFrame, setting: tuple[object, ...]) -> str:
    """Return the losses whose chosen rate is the smallest or the largest that was tried."""
    tried = of_setting(table, setting, "tune")["lr"]
    chosen = accuracy_table(table, setting)["learning rate"]
    ends = {"smallest": tried.min(), "largest": tried.max()}
    found = [
        f"{label} (the {end})" for label, rate in chosen.items() for end, at in ends.items() if rate == at
    ]
    return ", ".join(found) or "none"


def drift_table(
    table: pd.DataFrame, setting: tuple[object, ...], losses: Iterable[str], share: float = 0.25
) -> pd.DataFrame:
    """Return what happens to losses from where a share of the target's gradients is 0: means over seeds.

    The weights' length there and two evaluations later, the exact loss's over the same steps, and the
    cross-entropy at its lowest and at the end. A loss that never loses the share is left out.
    """
    rows = of_setting(table, setting, "final")
    zero, length, entropy = (
        rows.pivot_table(index="step", columns="loss", values=measure)
        for measure in ("zero_share", "weight_norm", "cross_entropy")
    )
    found = {}
    for name in losses:
        if not (lost := zero[name] >= share).any():
            continue
        begin = int(lost.to_numpy().argmax())
        end = min(begin + 2, len(zero) - 1)
        found[LOSSES[name].label] = {
            "zero from step": f"{zero.index[begin]:,}",
            "length there": f"{length[name].iloc[begin]:.1f}",
            "at step": f"{zero.index[end]:,}",
            "length then": f"{length[name].iloc[end]:.1f}",
            "exact, both": f"{length['exact'].iloc[begin]:.1f}, {length['exact'].iloc[end]:.1f}",
            "lowest loss": f"{entropy[name].min():.1e}",
            "last loss": f"{entropy[name].iloc[-1]:.1e}",
        }
    return pd.DataFrame(found).T


def circumstances(table: pd.DataFrame, setting: tuple[object, ...]) -> str:
    """Return how a setting was trained: the task, the length, the seeds and the card."""
    rows = of_setting(table, setting, "final")
    _, p, share, steps, hardware = setting
    torch = next(part for part in rows["versions"].iloc[0].split(", ") if part.startswith("torch"))
    return (
        f"{100 * float(str(share)):.0f} % of the {int(str(p)) ** 2:,} pairs modulo {p}, "
        f"a width of {rows['width'].iloc[0]}, {int(str(steps)):,} steps, {rows['seed'].nunique()} seeds, "
        f"{hardware}, {torch}"
    )


def shown(table: pd.DataFrame, setting: tuple[object, ...]) -> pd.DataFrame:
    """Return `accuracy_table` as text for a page."""
    found = accuracy_table(table, setting)
    text = pd.DataFrame(index=found.index)
    text["rate"] = found["learning rate"].map("{:g}".format)
    text["test accuracy (%)"] = [
        f"{mean:.1f} ± {half:.1f}" for mean, half in zip(found.iloc[:, 2], found.iloc[:, 3], strict=True)
    ]
    text["worst seed"] = found["worst seed (%)"].map("{:.1f}".format)
    when = found[f"steps to {SOLVED:.0%}"]
    text[str(when.name)] = [f"{steps:,.0f}" if steps < float("inf") else "never" for steps in when]
    text["ms a step"] = found["ms a step"].map("{:.2f}".format)
    text["zero (%)"] = found["target's gradient is 0 (%)"].map("{:.0f}".format)
    text["gap"] = found["gap"].map("{:,.1f}".format)
    text["weights' length"] = found["length of the weights"].map("{:,.0f}".format)
    return text
