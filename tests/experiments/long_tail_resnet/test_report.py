"""Tables and the picture of made-up rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments import long_tail_resnet as lr
from experiments.long_tail_resnet import report
from tests.experiments.long_tail_resnet.toy import TOY, stored

SETTING = (TOY.rho, TOY.epochs, "a card")


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    path = tmp_path / "rows.csv"
    stored(path, "gradient_balanced", [0.5, 0.6])
    stored(path, "plain", [0.3, 0.34, 0.9])
    return report.frame(lr.read(path))


def test_accuracy_with_its_parts(table: pd.DataFrame) -> None:
    assert report.settings(table) == [SETTING]
    found = report.accuracy_table(table, SETTING)
    assert list(found.index) == ["cross-entropy", "gradient balancing"]
    ours = found.loc["gradient balancing"]
    assert ours["balanced accuracy (%)"] == pytest.approx(55)
    assert ours["± (95 %)"] == pytest.approx(12.7062 * 5, rel=1e-4)
    assert [ours[part] for part in ("many", "medium", "few")] == pytest.approx([55, 55, 55])
    assert (ours["seeds"], ours["seconds"], ours["runs at once"]) == (2, 2.0, 3)


def test_differences_are_taken_seed_by_seed(table: pd.DataFrame) -> None:
    found = report.paired_table(table, SETTING, "plain").loc["gradient balancing"]
    assert found["seeds"] == 2  # the third seed has no partner
    assert found["difference"] == pytest.approx(23)
    assert found["high"] - found["difference"] == pytest.approx(12.7062 * 3, rel=1e-4)


def test_a_setting_without_rows_is_named(table: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="no rows for"):
        report.accuracy_table(table, (100.0, 200, "a card"))


def test_the_picture_names_its_curves(table: pd.DataFrame) -> None:
    figure = report.accuracy_picture(table, SETTING)
    assert [text.get_text() for text in figure.axes[1].texts] == ["cross-entropy", "gradient balancing"]
    assert np.asarray(figure.axes[0].lines[0].get_xdata()).tolist() == [1, 2]


def test_every_loss_has_a_name() -> None:
    assert list(report.LABELS) == list(lr.LOSSES)
