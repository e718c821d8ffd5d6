"""CIFAR from archives and folders that are made here.

They are read right, and refused where they are broken or hostile.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from softmax_lab.data import cifar
from softmax_lab.data.cifar import CIFAR10, CIFAR100, Cifar, Layout

Image = pytest.importorskip("PIL.Image")

Member = tuple[tarfile.TarInfo, bytes]


def small(layout: Layout, rows: int = 4) -> Layout:
    """Return the layout of a set of a few images: two classes, ``rows`` a file."""
    return dataclasses.replace(layout, num_classes=2, rows_per_file=(rows, rows))


def pixels(rows: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (rows, 32, 32, 3), dtype=np.uint8)


def plain(name: str, data: bytes) -> Member:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info, data


def special(name: str, kind: bytes, target: str = "") -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def records(layout: Layout, seed: int) -> bytes:
    """Return a file of the archive: label bytes (the last counts), then the three planes."""
    (n, _), images = layout.rows_per_file, pixels(layout.rows_per_file[0], seed)
    labels = np.full((n, layout.label_bytes), 77, dtype=np.uint8)
    labels[:, -1] = np.arange(n) % layout.num_classes
    return np.concatenate([labels, images.transpose(0, 3, 1, 2).reshape(n, -1)], axis=1).tobytes()


def official(layout: Layout) -> list[Member]:
    """Return the members of an archive as it should be."""
    files = [
        plain(f"{layout.folder}/{name}", records(layout, seed))
        for seed, name in enumerate((*layout.train, *layout.test))
    ]
    folder = special(layout.folder, tarfile.DIRTYPE)
    return [
        folder,
        *files,
        plain(f"{layout.folder}/{layout.names}", b"cat\ndog\n\n"),
        plain(f"{layout.folder}/readme.html", b"<p>"),
    ]


def packed(path: Path, members: list[Member], layout: Layout) -> Layout:
    """Write an archive; return the layout with its checksum."""
    with tarfile.open(path, "w:gz") as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return signed(path, layout)


def signed(path: Path, layout: Layout) -> Layout:
    return dataclasses.replace(
        layout, sha256=hashlib.sha256(path.read_bytes()).hexdigest(), size=path.stat().st_size
    )


def load(path: Path, layout: Layout, cache: Path | None = None, *, progress: bool = False) -> Cifar:
    return cifar._load(path, layout, path.parent / "cache" if cache is None else cache, progress)


def folder_of(root: Path, *, suffix: str = ".png", rows: tuple[int, int] = (3, 2)) -> Layout:
    """Write a folder of images of two classes; return its layout."""
    seed = 0
    for part, n in zip(("train", "test"), rows, strict=True):
        for name in ("cat", "dog"):
            (root / part / name).mkdir(parents=True)
            for i in range(n):
                Image.fromarray(pixels(1, seed)[0]).save(root / part / name / f"{i:04d}{suffix}")
                seed += 1
    return dataclasses.replace(small(CIFAR10), train=("one",), rows_per_file=(2 * rows[0], 2 * rows[1]))


def same(one: Any, other: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("layout", [CIFAR10, CIFAR100], ids=lambda layout: layout.name)
def test_an_archive_is_read_as_it_was_written(layout: Layout, tmp_path: Path) -> None:
    path = tmp_path / "set.tar.gz"
    tiny = packed(path, official(small(layout)), small(layout))
    found = load(path, tiny)
    for seed, images, labels in (
        (0, found.train_images[:4], found.train_labels[:4]),
        (len(layout.train), found.test_images, found.test_labels),
    ):
        np.testing.assert_array_equal(images, pixels(4, seed))
        assert labels.tolist() == [0, 1, 0, 1]
    assert len(found.train_images) == 4 * len(layout.train)
    assert (found.names, found.lossy) == (("cat", "dog"), False)
    assert found.train_images.dtype == np.uint8
    assert found.train_labels.dtype == np.int64


def test_the_official_layouts() -> None:
    for layout, per_class in ((CIFAR10, (5000, 1000)), (CIFAR100, (500, 100))):
        assert layout.per_class == per_class
        assert len(bytes.fromhex(layout.sha256)) == 32


HOSTILE: dict[str, tuple[Callable[[Layout], Member], str]] = {
    "traversal": (lambda one: plain("../outside.bin", b"x"), "plain relative paths"),
    "traversal inside": (lambda one: plain(f"{one.folder}/../../outside.bin", b"x"), "plain relative paths"),
    "absolute": (lambda one: plain("/outside.bin", b"x"), "plain relative paths"),
    "drive": (lambda one: plain("C:\\outside.bin", b"x"), "plain relative paths"),
    "symbolic link": (
        lambda one: special(f"{one.folder}/link", tarfile.SYMTYPE, "/etc/passwd"),
        "link or a device",
    ),
    "hard link": (
        lambda one: special(f"{one.folder}/hard", tarfile.LNKTYPE, f"{one.folder}/test_batch.bin"),
        "link or a device",
    ),
    "device": (lambda one: special(f"{one.folder}/null", tarfile.CHRTYPE), "link or a device"),
    "twice": (lambda one: plain(f"{one.folder}/{one.test[0]}", records(one, 9)), "is there twice"),
    "too long": (lambda one: plain(f"{one.folder}/{one.names}", b"x" * 70_000), "at most 65536 bytes"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_members_are_refused_even_with_the_right_checksum(name: str, tmp_path: Path) -> None:
    layout, path = small(CIFAR10), tmp_path / "set.tar.gz"
    make, words = HOSTILE[name]
    for members in ([make(layout), *official(layout)], [*official(layout), make(layout)]):
        if name == "too long":  # instead of the right one
            members = [member for member in members if member[0].size != len(b"cat\ndog\n\n")]
        with pytest.raises(ValueError, match=words):
            load(path, packed(path, members, layout))
    # nothing was written, in the cache or beside it
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set.tar.gz"]


def test_another_checksum_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "set.tar.gz"
    tiny = packed(path, official(small(CIFAR10)), small(CIFAR10))
    monkeypatch.setattr(tarfile, "open", lambda *_, **__: pytest.fail("the archive was opened"))
    with pytest.raises(ValueError, match=f"SHA-256 {CIFAR10.sha256}; got {tiny.sha256}"):
        load(path, small(CIFAR10))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=f"truncated, {tiny.size - 100} of {tiny.size} bytes"):
        load(path, tiny)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_a_truncated_archive_with_a_checksum_to_match(share: float, tmp_path: Path) -> None:
    path = tmp_path / "set.tar.gz"
    packed(path, official(small(CIFAR10)), small(CIFAR10))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=r"truncated|must hold"):
        load(path, signed(path, small(CIFAR10)))


def changed(end: str, change: Callable[[bytes], bytes]) -> Callable[[list[Member]], list[Member]]:
    """Return what changes the one member whose name has this end."""
    return lambda members: [
        plain(m.name, change(data)) if m.name.endswith(end) else (m, data) for m, data in members
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda members: [m for m in members if not m[0].name.endswith("_3.bin")],
            r"must hold data_batch_3\.bin",
        ),
        (changed("/test_batch.bin", lambda data: data[:-1]), r"must have 12292 bytes; got 12291"),
        (changed(".txt", lambda data: b"cat\n"), "must name 2 classes; got 1"),
        (changed("_1.bin", lambda data: b"\x02" + data[1:]), "labels must be < 2; got 2 at row 0"),
        (lambda members: [], "must hold"),
    ],
)
def test_archives_that_do_not_fit(
    change: Callable[[list[Member]], list[Member]], words: str, tmp_path: Path
) -> None:
    layout, path = small(CIFAR10), tmp_path / "set.tar.gz"
    with pytest.raises(ValueError, match=words):
        load(path, packed(path, change(official(layout)), layout))


def test_no_archive_at_all(tmp_path: Path) -> None:
    path = tmp_path / "set.tar.gz"
    path.write_bytes(b"not an archive")
    with pytest.raises(ValueError, match="truncated or no archive"):
        load(path, signed(path, CIFAR10))
    with pytest.raises(FileNotFoundError, match=r"cifar-100-binary\.tar\.gz"):
        load(tmp_path / "nothing", CIFAR100)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_folder_is_read_in_the_order_of_its_names(suffix: str, tmp_path: Path) -> None:
    layout = folder_of(tmp_path / "images", suffix=suffix)
    found = load(tmp_path / "images", layout)
    assert found.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.test_labels.tolist() == [0, 0, 1, 1]
    assert (found.names, found.lossy) == (("cat", "dog"), suffix == ".jpg")
    expected = np.concatenate([pixels(1, seed) for seed in range(6)])
    if suffix == ".png":
        np.testing.assert_array_equal(found.train_images, expected)
    else:
        assert found.train_images.shape == expected.shape


def _linked_file(root: Path) -> None:
    (root / "train/cat/0000.png").unlink()
    (root / "train/cat/0000.png").symlink_to(root / "train/dog/0000.png")


def _linked_folder(root: Path) -> None:
    (root / "train/dog").rename(root / "elsewhere")
    (root / "train/dog").symlink_to(root / "elsewhere", target_is_directory=True)


def _cut(root: Path) -> None:
    file = root / "test/dog/0001.png"
    file.write_bytes(file.read_bytes()[:-200])


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing image": (
        lambda root: (root / "train/cat/0001.png").unlink(),
        r"train/cat must hold 3 images .*; got 2",
    ),
    "missing part": (lambda root: (root / "test").rename(root / "later"), "there must be a folder"),
    "missing class": (lambda root: (root / "test/cat").rename(root / "cat"), "2 class folders; got 1"),
    "other class": (
        lambda root: (root / "test/cat").rename(root / "test/bird"),
        r"same classes; only one has \['bird', 'cat'\]",
    ),
    "linked file": (_linked_file, "is a link"),
    "linked folder": (_linked_folder, "is a link"),
    "cut image": (_cut, r"0001\.png is truncated or no image"),
    "no image": (
        lambda root: (root / "test/dog/0001.png").write_bytes(b"text"),
        r"0001\.png is truncated or no image",
    ),
    "large image": (
        lambda root: Image.new("RGB", (64, 32)).save(root / "test/dog/0001.png"),
        "32 x 32 pixels; got 64 x 32",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_folders_are_refused(name: str, tmp_path: Path) -> None:
    layout = folder_of(tmp_path / "images")
    change, words = BROKEN[name]
    change(tmp_path / "images")
    with pytest.raises(ValueError, match=words):
        load(tmp_path / "images", layout)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("kind", ["archive", "folder"])
def test_the_cache_is_used_checked_and_written_in_one_step(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, cache = tmp_path / "set", tmp_path / "cache"
    layout = packed(path, official(small(CIFAR10)), small(CIFAR10)) if kind == "archive" else folder_of(path)
    first = load(path, layout)
    (kept,) = cache.iterdir()
    with monkeypatch.context() as patch:
        for reader in ("_read_archive", "_read_folder"):
            patch.setattr(cifar, reader, lambda *_: pytest.fail("the cache was not used"))
        assert same(load(path, layout), first)
    whole = kept.read_bytes()
    for damage in (whole[: len(whole) // 2], whole[:5000] + bytes([whole[5000] ^ 255]) + whole[5001:], b""):
        kept.write_bytes(damage)
        assert same(load(path, layout), first)
        assert kept.read_bytes() == whole
    kept.unlink()
    # stopped while it writes
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        load(path, layout)
    assert list(cache.iterdir()) == []


def test_a_changed_folder_is_read_again(tmp_path: Path) -> None:
    layout = folder_of(tmp_path / "images")
    before = load(tmp_path / "images", layout)
    file = tmp_path / "images/test/dog/0001.png"
    Image.fromarray(pixels(1, 99)[0]).save(file)
    os.utime(file, ns=(1, 1))
    after = load(tmp_path / "images", layout)
    assert not same(before, after)
    np.testing.assert_array_equal(after.test_images[-1], pixels(1, 99)[0])


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SOFTMAX_LAB_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cifar.cache_folder() == tmp_path / "softmax-lab"
    monkeypatch.setenv("SOFTMAX_LAB_CACHE", str(tmp_path / "own"))
    assert cifar.cache_folder() == tmp_path / "own"


def test_progress_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "set.tar.gz"
    layout = packed(path, official(small(CIFAR10)), small(CIFAR10))
    load(path, layout, progress=True)
    shown = capsys.readouterr().err
    assert "checking set.tar.gz: 100%" in shown
    assert "reading set.tar.gz: 100%" in shown
