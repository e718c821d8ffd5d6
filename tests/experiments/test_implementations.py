"""An implementation has one colour: tables of looks, chapters and sliders agree on it."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from experiments import interactive, speed
from experiments.implementations import COLOR, LOSS_COLOR, NAMES, color
from experiments.lost_gradient import pictures
from experiments.modular_addition import report
from experiments.modular_addition.losses import LOSSES
from experiments.speed import gpu, roundings
from softmax_lab.plotting import COLORS

ROOT = Path(__file__).resolve().parents[2]
#: the name of a colour for what each table names, where it is an implementation
TABLES = {
    "speed": {name: look[0] for name, look in speed.LOOK.items()},
    "gpu": {name: look[0] for name, look in gpu.LOOK.items()},
    "roundings": {"softmax_lab": roundings.LOOK["softmax_lab"][0]},
    "sliders": {name: look for _, (name, look, _) in interactive.WAYS.items()},
}


@pytest.mark.parametrize("table", TABLES)
def test_a_table_of_looks_has_the_colours_of_all(table: str) -> None:
    looks = TABLES[table]
    assert looks == {name: COLOR[NAMES.get(name, name)] for name in looks}


def test_every_name_is_known() -> None:
    assert set(COLOR.values()) | set(LOSS_COLOR.values()) <= COLORS.keys()
    assert set(NAMES.values()) <= COLOR.keys()
    assert color("SciPy") == color("scipy") == COLORS["sky"]


def test_chapter_11_has_torch_and_the_package_in_their_colours() -> None:
    for name, own in (("torch", "torch"), ("exact", "softmax_lab")):
        assert pictures._LOOKS[name]["color"] == color(own)
        assert report._looks()[LOSSES[name].label]["color"] == color(own)
    for name in LOSS_COLOR.keys() & LOSSES.keys():
        assert report._looks()[LOSSES[name].label]["color"] == pictures._LOOKS[name]["color"]
    drawn = [tuple(look.values()) for look in report._looks().values()]
    assert len(set(drawn)) == len(drawn)


def test_a_look_that_a_chapter_gives_the_package_is_its_own() -> None:
    found = {}
    for path in sorted((ROOT / "book").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                pattern = r'"softmax_lab(?:, NumPy)?"[:,] \(?"(\w+)"'
                for given in re.findall(pattern, cell.source):
                    if given in COLORS:
                        found[path.stem, given] = cell.get("id")
    assert {given for _, given in found} == {COLOR["softmax_lab"]}
