"""A figure with a palette has its size and its colours, in fewer bytes."""

from __future__ import annotations

import io

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="figures need matplotlib")
pytest.importorskip("PIL", reason="figures with a palette need Pillow")

from matplotlib.figure import Figure
from PIL import Image

from experiments.palette import Still, png


def drawn() -> Figure:
    figure = Figure(figsize=(4, 3), dpi=50)
    axis = figure.subplots()
    axis.imshow([[0, 1], [2, 3]], cmap="viridis")
    axis.set_title("words")
    return figure


def test_a_png_has_a_palette_the_figures_size_and_its_colours() -> None:
    plain = io.BytesIO()
    drawn().savefig(plain, format="png")
    small = png(drawn())
    assert len(small) < 0.7 * len(plain.getvalue())
    with Image.open(io.BytesIO(small)) as image, Image.open(plain) as full:
        assert image.mode == "P"
        assert image.size == full.size == (200, 150)
        shown, meant = (np.asarray(each.convert("RGB"), dtype=int) for each in (image, full))
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) <= 64
    # within each square, and the margin
    rows, columns = [50, 50, 100, 100, 3], [80, 120, 80, 120, 3]
    assert np.abs(shown[rows, columns] - meant[rows, columns]).max() <= 3


def test_dots_an_inch_may_be_others() -> None:
    with Image.open(io.BytesIO(png(drawn(), dpi=100))) as image:
        assert image.size == (400, 300)


def test_a_still_is_shown_as_its_png() -> None:
    still = Still(drawn())
    assert still._repr_png_() == png(still.figure, colors=128)
    assert repr(still) == "<Figure size 200x150 with 1 Axes>"
