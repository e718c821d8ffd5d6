"""The film of a run holds every class at every step that was watched."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from experiments.long_tail import report


def test_a_run_is_watched() -> None:
    threads = torch.get_num_threads()
    (table,) = report.film(["plain"], rho=10.0, epochs=1, every=5).values()
    assert torch.get_num_threads() == threads
    assert set(table["class"]) == set(range(10))
    assert (table.groupby("step").size() == 10).all()
    assert set(table["step"] % 5) == {0} or table["step"].diff().max() == 5
    assert (table["negative_mass"] >= 0).all()


def test_the_early_ratio_is_of_some_classes_and_of_the_first_steps() -> None:
    table = pd.DataFrame(
        {
            "step": [1, 1, 300, 301],
            "class": [0, 9, 9, 9],
            "positive_mass": [100.0, 1.0, 3.0, 100.0],
            "negative_mass": [100.0, 4.0, 4.0, 1.0],
        }
    )
    assert report.early_ratio(table, [9]) == pytest.approx(0.5)


def test_the_picture_has_a_panel_a_loss() -> None:
    step, label = (part.ravel() for part in np.meshgrid(np.arange(1, 6), np.arange(3), indexing="ij"))
    table = pd.DataFrame({"step": step, "class": label, "positive_mass": 1.0, "negative_mass": 1.0 * step})
    figure = report.film_picture({"one": table, "two": table}, names=str.upper)
    assert [axis.get_title() for axis in figure.axes[:2]] == ["ONE", "TWO"]
