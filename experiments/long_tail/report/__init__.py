"""What chapters 7 and 9 and the notebook show of the grid: tables, pictures, words, and the film of a run."""

from __future__ import annotations

from .films import early_ratio, film, film_picture
from .in_words import ablation_words, words
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
)
from .pictures import paired_picture, regret_picture
from .rule import gate_picture, moved_decisions

__all__ = [
    "OURS",
    "PLACE",
    "ablation_table",
    "ablation_words",
    "best_fixed",
    "chosen_rows",
    "clean",
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
    "regret_picture",
    "regret_table",
    "setting_name",
    "study_table",
    "words",
]
