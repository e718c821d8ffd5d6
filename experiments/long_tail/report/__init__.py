"""What chapters 7 and 9 and the notebook show of the grid: tables, pictures, words, and the film of a run."""

from __future__ import annotations

from .choices import (
    CHOICES,
    choice_table,
    choices,
    compared,
    regret_by_choice,
    results,
    worst_by_choice,
)
from .films import early_ratio, film, film_picture
from .in_words import ablation_words, choice_words, words
from .numbers import (
    OURS,
    PLACE,
    ablation_table,
    best_fixed,
    chosen_rows,
    clean,
    coverage,
    grid_table,
    main_table,
    paired_table,
    paired_with_best,
    plain_matches,
    regret_table,
    setting_name,
    study_table,
    untuned_table,
)
from .pictures import paired_picture, regret_picture
from .rule import gate_picture, moved_decisions

__all__ = [
    "CHOICES",
    "OURS",
    "PLACE",
    "ablation_table",
    "ablation_words",
    "best_fixed",
    "choice_table",
    "choice_words",
    "choices",
    "chosen_rows",
    "clean",
    "compared",
    "coverage",
    "early_ratio",
    "film",
    "film_picture",
    "gate_picture",
    "grid_table",
    "main_table",
    "moved_decisions",
    "paired_picture",
    "paired_table",
    "paired_with_best",
    "plain_matches",
    "regret_by_choice",
    "regret_picture",
    "regret_table",
    "results",
    "setting_name",
    "study_table",
    "untuned_table",
    "words",
    "worst_by_choice",
]
