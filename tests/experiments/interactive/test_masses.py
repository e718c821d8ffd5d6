"""The film shows the masses of the monitor's tables."""

from __future__ import annotations

from experiments import interactive
from tests.experiments.interactive.small import films


def test_bars_are_the_masses_of_their_step() -> None:
    picture = interactive.film(films(), positions=4, early=2)
    steps = [int(word) for word in picture.controls[1].values]
    pull, push, ratio = (change.values for change in picture.changes)
    for i, step in enumerate(steps):
        assert pull[i] == [1.0, 2.0, 3.0]
        assert push[i] == [float(step)] * 3
        assert ratio[i] == [float(f"{mass / step:.5g}") for mass in (1.0, 2.0, 3.0)]
    assert ratio[len(steps)] == [None] * 3  # of the other loss, which nothing pushes down


def test_the_film_opens_early_in_training() -> None:
    control = interactive.film(films(), positions=5, early=2).controls[1]
    assert control.values[control.start] == "2"
