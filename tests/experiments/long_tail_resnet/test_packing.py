"""What is packed comes back bit for bit, and the classes have the numbers of the literature."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments import long_tail_resnet as lr
from experiments.long_tail_resnet import packing
from tests.experiments.long_tail_resnet.toy import COUNTS, images, packed


def test_counts_are_those_of_published_results() -> None:
    counts = lr.long_tailed_counts(100.0)
    assert (counts.sum(), counts[0], counts[-1]) == (10_847, 500, 5)
    assert [lr.long_tailed_counts(rho).sum() for rho in (10.0, 50.0)] == [19_573, 12_608]


def test_images_come_back_bit_for_bit(tmp_path: Path) -> None:
    folder = packed(tmp_path / "packed")
    found, given = lr.unpack(folder / "train.npz"), images(COUNTS)
    np.testing.assert_array_equal(found.pixels, given.pixels)
    np.testing.assert_array_equal(found.labels, given.labels)
    np.savez(tmp_path / "plain.npz", pixels=given.pixels, labels=given.labels)
    np.testing.assert_array_equal(lr.unpack(tmp_path / "plain.npz").pixels, given.pixels)


def archive(path: Path, counts: list[int]) -> None:
    """Write an archive of images whose first pixel tells class and number."""
    with tarfile.open(path, "w:xz") as tar:
        for label, count in enumerate(counts):
            for i in range(count):
                file = io.BytesIO()
                Image.fromarray(np.full((4, 4, 3), (label, i, 7), np.uint8)).save(file, "PNG")
                member = tarfile.TarInfo(f"{path.name.split('.')[0]}/{'abc'[label]}/{i}.png")
                member.size = len(file.getvalue())
                tar.addfile(member, io.BytesIO(file.getvalue()))


def test_archives_are_packed_with_a_long_tail(tmp_path: Path) -> None:
    archive(tmp_path / "train.tar.xz", [9, 9, 4])
    archive(tmp_path / "test.tar.xz", [2, 2, 2])
    size = lr.pack(tmp_path, tmp_path / "out", 9.0, progress=False)
    train, test = (lr.unpack(tmp_path / "out" / f"{part}.npz") for part in ("train", "test"))
    assert size == sum(file.stat().st_size for file in (tmp_path / "out").iterdir())
    assert np.bincount(train.labels).tolist() == [9, 3, 1]
    assert np.bincount(test.labels).tolist() == [2, 2, 2]
    np.testing.assert_array_equal(train.pixels[:, 0, 0, 0], train.labels)
    assert len({tuple(image[0, 0]) for image in train.pixels}) == len(train.pixels)  # none twice
    archive(tmp_path / "train.tar.xz", [9, 2, 1])
    with pytest.raises(ValueError, match="b must have 3 training images; got 2"):
        lr.pack(tmp_path, tmp_path / "out", 9.0, progress=False)


def test_all_images_of_an_archive_are_read(tmp_path: Path) -> None:
    archive(tmp_path / "train.tar.xz", [3, 1, 2])
    found = packing.read(tmp_path, "train", progress=False)
    assert found.labels.tolist() == [0, 0, 0, 1, 2, 2]
    assert found.pixels[:, 0, 0, :2].tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [2, 0], [2, 1]]
    with pytest.raises(ValueError, match=r"train.tar.xz must hold .jpg files; it has none"):
        packing.read(tmp_path, "train", suffix=".jpg", progress=False)
