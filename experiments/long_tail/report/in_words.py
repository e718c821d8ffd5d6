"""What chapter 9 says of the results, computed from the stored rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from experiments.differences import signed
from experiments.sentences import listed

from .choices import CHOICES, compared, regret_by_choice
from .numbers import (
    OURS,
    Rows,
    best_fixed,
    coverage,
    paired_with_best,
    regret_table,
    setting_name,
    study_table,
    varied_rows,
)
from .taus import BASE, at_one_tau, best_less_best, same_tail

__all__ = ["ablation_words", "choice_words", "tau_words", "words"]


def words(table: pd.DataFrame) -> dict[str, str]:
    """Return what chapter 9 says of the results, by name."""
    covered = coverage(table)
    ours, smoothed = (paired_with_best(table, name) for name in OURS[:2])
    return {
        "coverage": f"{int(covered['runs'].sum())} runs on test rows, in {len(covered)} settings",
        "settings": str(len(covered)),
        "few": _few(covered),
        **_standing(table),
        **_compared("ours", ours),
        **_compared("smoothed", smoothed),
        **noise_words(table),
    }


def _number(count: int) -> str:
    return str(count or "none")


def _few(covered: pd.DataFrame) -> str:
    """Say where fewer losses were run than elsewhere."""
    most = covered["losses"].max()
    short = covered[covered["losses"] < most]
    if short.empty:
        return f"Every setting has all {most} losses."
    whole = len(covered) - len(short)
    return (
        f"All {most} were run in {whole} of the {len(covered)} settings, {short['losses'].min()} or "
        f"more in the others, which take longest."
    )


def _compared(name: str, paired: pd.DataFrame) -> dict[str, str]:
    """Say how one of ours compares with the best fixed loss of each setting."""
    better, calibrated = (
        int((paired["difference"] > 0).sum()),
        int((paired["ECE"] < paired["ECE of the best fixed"]).sum()),
    )
    return {
        f"{name}-within": f"{int((paired['difference'] >= -1).sum())} of {len(paired)}",
        f"{name}-ahead": _number(better),
        f"{name}-clear": _number(int((paired["clear"] > 0).sum())),
        f"{name}-behind": _number(int((paired["clear"] < 0).sum())),
        f"{name}-calibrated": f"{calibrated} of {len(paired)}",
        f"{name}-ece": f"{paired['ECE'].mean():.1f}",
        f"{name}-ece-other": f"{paired['ECE of the best fixed'].mean():.1f}",
    }


def _standing(table: pd.DataFrame) -> dict[str, str]:
    """Say how far each of ours, and the fixed loss that comes nearest, is behind in its worst setting.

    A loss that was not run everywhere may do worse elsewhere: of a fixed one this is the least that its worst
    can be.
    """
    worst = regret_table(table).max(axis=1).round(1) + 0.0  # no -0.0
    fixed = worst[[name for name in worst.index if not str(name).startswith(OURS[0])]]
    return {
        "worst-ours": f"{worst[OURS[0]]:.1f}",
        "worst-smoothed": f"{worst[OURS[1]]:.1f}",
        "worst-fixed": f"{fixed.min():.1f}",
        "worst-fixed-name": str(fixed.idxmin()),
        "worst-balanced-softmax": f"{worst.get('balanced_softmax', np.nan):.1f}",
        "worst-vs": f"{worst.get('vs', np.nan):.1f}",
        "best-vs": _number(int((best_fixed(table) == "vs").sum())),
        "worst-gathered": f"{worst.get(OURS[2], np.nan):.1f}",
        "gathered-settings": str(regret_table(table).reindex([OURS[2]]).loc[OURS[2]].notna().sum()),
        "worst-plain": f"{worst['plain']:.1f}",
        "worst-deferred": f"{worst.get('balanced_softmax_drw', np.nan):.1f}",
    }


def ablation_words(rows: Rows, dataset: str = "digits", protocol: str = "mlp") -> dict[str, str]:
    """Return how far the numbers of the ablation lie apart, and the standard error of one of them.

    There is nothing where the ablation was not run.
    """
    table = varied_rows(rows, dataset, protocol)
    if table.empty:
        return {}
    grouped = table.groupby("settings")["balanced_accuracy"]
    name = f"ablation-{dataset.split('-')[0]}"
    return {f"{name}-spread": f"{np.ptp(grouped.mean()):.1f}", f"{name}-error": f"{grouped.sem().mean():.1f}"}


def noise_words(table: pd.DataFrame) -> dict[str, str]:
    """Return what is said of wrong labels among the digits; nothing where none were tried."""
    noise = study_table(table, "noise")
    if noise.shape[1] < 2 or OURS[0] not in noise.index:
        return {}
    places = {name: int(noise[name].rank(ascending=False, method="min")[OURS[0]]) for name in noise.columns}
    first, last = noise.columns[1], noise.columns[-1]
    behind, smoothed = (noise[last].max() - noise.loc[name, last] for name in OURS[:2])
    return {
        "noise": f"with {last.replace(' wrong', '')} of the labels wrong it is {behind:.1f} points behind "
        f"the best, "
        f"place {places[last]} of {len(noise)}, and smoothed {smoothed:.1f}",
        "noise-first": f"{places[first]} of {len(noise)} with {first.replace(' wrong', '')} wrong",
        "noise-last": f"{places[last]} of {len(noise)} with {last.replace(' wrong', '')}",
        "noise-best": str(noise[last].idxmax()),
        "noise-smoothed": f"{int(noise[last].rank(ascending=False, method='min')[OURS[1]])} of {len(noise)}",
    }


def choice_words(rows: Rows) -> dict[str, str]:
    """Return what is said of today's rule: how far it has come, and the worst regrets by each choice.

    By each choice words are computed over the settings in which both ours and logit adjustment have it.
    """
    regret = regret_by_choice(rows)
    core = [name for name in (OURS[0], "logit_adjusted") if name in regret.index]
    regret = regret.dropna(axis="columns", subset=core) if len(core) == 2 else regret.iloc[:, :0]
    if regret.empty:
        return {"fair-coverage": "No setting is complete by this rule yet."}
    have = [choice for choice in CHOICES if choice in regret]
    places = list(dict.fromkeys(place for choice in have for place in regret[choice].columns))
    by_place = {place: [choice for choice in have if place in regret[choice]] for place in places}
    said = {
        "fair-settings": str(len(places)),
        "fair-coverage": f"Complete by this rule so far: "
        f"{'; '.join(_covered(place, by, regret) for place, by in by_place.items())}.",
    }
    for choice in have:
        worst = regret[choice].max(axis=1)
        said |= {f"fair-{choice}-{name}": f"{worst[full]:.1f}" for name, full in _SHORT.items()}
        between = compared(rows, OURS[0], "logit_adjusted", choice)
        said |= {
            f"fair-{choice}-settings": str(len(between)),
            f"fair-{choice}-ahead": _number(int((between["clear"] > 0).sum())),
            f"fair-{choice}-behind": _number(int((between["clear"] < 0).sum())),
            f"fair-{choice}-differences": listed((f"{value:+.1f}" for value in between["difference"]), ""),
        }
    return said


def _covered(place: Any, have: list[str], regret: pd.DataFrame) -> str:
    """Name a setting, and how many losses have which results where it is not all three of ten."""
    losses = {choice: int(regret[(choice, *place)].notna().sum()) for choice in have}
    if len(have) == len(CHOICES) and len(set(losses.values())) == 1:
        return setting_name(place)
    counts = listed(f"{choice} {count}" for choice, count in losses.items())
    return f"{setting_name(place)} (losses: {counts})"


_SHORT = {"ours": OURS[0], "adjusted": "logit_adjusted", "plain": "plain"}


def tau_words(table: pd.DataFrame) -> dict[str, str]:
    """Return what is said of the gate, its sum and the label's own margin, from `tau_rows`.

    ``gate``, ``margin`` and ``summed`` are each compared with logit adjustment; ``gate-margin`` is the gate
    less the margin, ``summed-margin`` its sum less the margin, and ``summed-gate`` the sum less the mean.
    """
    have = set(table["loss"])
    said: dict[str, str] = {}
    for name, loss in _STUDIED.items():
        if loss in have:
            said |= _beside(name, table, loss, BASE) | _shifted(name, table, loss)
    for name, other in (("gate", "margin"), ("summed", "margin"), ("summed", "gate")):
        loss, against = _STUDIED[name], _STUDIED[other]
        if {loss, against} <= have:
            said |= _beside(f"{name}-{other}", table, loss, against)
    return said


_STUDIED = {"gate": OURS[0], "margin": "logit_adjusted_margin", "summed": "gradient_balanced_summed"}


def _beside(name: str, table: pd.DataFrame, loss: str, other: str) -> dict[str, str]:
    """Say how two losses compare at the same tau, and each at its best."""
    at = at_one_tau(table, loss, other)
    by_sign = {
        word: listed((f"{tau:g}" for tau in at.index[at["clear"] == sign]), "none")
        for word, sign in (("ahead", 1), ("behind", -1), ("same", 0))
    }
    return {
        f"{name}-shared": listed(f"{tau:g}" for tau in at.index),
        f"{name}-ahead": by_sign["ahead"],
        f"{name}-behind": by_sign["behind"],
        f"{name}-level": by_sign["same"],
        f"{name}-apart": listed((f"{tau:g}" for tau in at.index[at["clear"] != 0]), "none"),
        f"{name}-first": signed(at["difference"].iloc[0]),
        f"{name}-last": signed(at["difference"].iloc[-1]),
        f"{name}-best": str(best_less_best(table, loss, other)),
    }


def _shifted(name: str, table: pd.DataFrame, loss: str) -> dict[str, str]:
    """Say at which larger tau logit adjustment has the same tail."""
    taus = sorted(table.loc[table["loss"] == loss, "tau"].unique())
    same = pd.Series({tau: same_tail(table, loss, tau) for tau in taus}, dtype=float).dropna()
    more = same - same.index
    return {
        f"{name}-same": listed(f"{tau:.1f}" for tau in same),
        f"{name}-same-of": listed(f"{tau:g}" for tau in same.index),
        f"{name}-shift": f"{more.mean():.1f}",
        f"{name}-shift-least": f"{more.min():.1f}",
        f"{name}-shift-most": f"{more.max():.1f}",
    }
