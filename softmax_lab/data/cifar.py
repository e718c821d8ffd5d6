"""CIFAR-10 and CIFAR-100, from the official binary archives or from folders of images.

Nothing is ever downloaded or unpickled.

The archive is read as a stream and never unpacked: a few files of known names and lengths are wanted. The
archive is refused whole where its checksum is not the official one, where a member is a link or leads out of
it, and where a file is short.

What was read is kept in a cache, under a name that is made of the content. It is written in one step: a
killed process leaves no half of it.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._extras import load

__all__ = ["Cifar", "cache_folder", "cifar10", "cifar100"]

SIDE = 32  # pixels
_PIXELS = 3 * SIDE * SIDE
_SUFFIXES = (".jpeg", ".jpg", ".png")
_CHUNK = 1 << 20  # bytes read at a time
_LARGEST_TEXT = 1 << 16  # bytes of the file of class names


class Cifar(NamedTuple):
    """Images ``(N, 32, 32, 3)`` as uint8 RGB and labels ``(N,)`` as int64.

    ``lossy`` says that the images have gone through JPEG.
    """

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    names: tuple[str, ...]
    lossy: bool


@dataclass(frozen=True)
class Layout:
    """What one of the sets looks like: its official binary archive, and how many images a class has."""

    name: str
    archive: str
    sha256: str
    size: int  # bytes
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str
    rows_per_file: tuple[int, int]  # of a training and of a test file
    label_bytes: int  # the last of them is the (fine) label
    num_classes: int

    @property
    def per_class(self) -> tuple[int, int]:
        """Training and test images of each class."""
        return tuple(
            n * len(files) // self.num_classes
            for n, files in zip(self.rows_per_file, (self.train, self.test), strict=True)
        )  # type: ignore[return-value]


# the checksums and sizes of the archives that cs.toronto.edu/~kriz/cifar.html publishes
CIFAR10 = Layout(
    name="CIFAR-10",
    archive="cifar-10-binary.tar.gz",
    sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    size=170_052_171,
    folder="cifar-10-batches-bin",
    train=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    test=("test_batch.bin",),
    names="batches.meta.txt",
    rows_per_file=(10_000, 10_000),
    label_bytes=1,
    num_classes=10,
)
CIFAR100 = Layout(
    name="CIFAR-100",
    archive="cifar-100-binary.tar.gz",
    sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    size=168_513_733,
    folder="cifar-100-binary",
    train=("train.bin",),
    test=("test.bin",),
    names="fine_label_names.txt",
    rows_per_file=(50_000, 10_000),
    label_bytes=2,
    num_classes=100,
)


def cifar10(
    path: str | os.PathLike[str], *, cache: str | os.PathLike[str] | None = None, progress: bool = True
) -> Cifar:
    """Return CIFAR-10: 50,000 training and 10,000 test images of ten classes.

    Parameters
    ----------
    path : path
        The official binary archive ``cifar-10-binary.tar.gz``, or a folder with ``train/<class>/*.png`` and
        ``test/<class>/*.png`` (or ``.jpg``), 5,000 and 1,000 images a class. Class folders in alphabetical
        order are the standard labels. The set itself has to be fetched by hand: it names no licence.
    cache : path, optional
        Where decoded arrays are kept; by default the folder ``softmax-lab`` of the user's cache.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Cifar

    Raises
    ------
    FileNotFoundError
        Where there is nothing at ``path``.
    ValueError
        On a checksum that is not the official one, a truncated file, a link, a path out of the archive or
        folder, or a count, size or label that does not fit.
    ModuleNotFoundError
        Without Pillow (for images) or tqdm (for progress), saying which extra installs it.

    Examples
    --------
    >>> from softmax_lab import data
    >>> data.cifar10("nowhere.tar.gz")
    Traceback (most recent call last):
        ...
    FileNotFoundError: ...

    References
    ----------
    A. Krizhevsky, "Learning multiple layers of features from tiny images", technical report, University of
    Toronto (2009).
    """
    return _load(Path(path), CIFAR10, cache, progress)


def cifar100(
    path: str | os.PathLike[str], *, cache: str | os.PathLike[str] | None = None, progress: bool = True
) -> Cifar:
    """Return CIFAR-100 with its fine labels: 50,000 training and 10,000 test images of a hundred classes.

    Arguments, errors and reference as in :func:`cifar10`; the archive is ``cifar-100-binary.tar.gz``, a
    folder has 500 and 100 images a class.

    Examples
    --------
    >>> from softmax_lab import data
    >>> data.cifar100("nowhere.tar.gz")
    Traceback (most recent call last):
        ...
    FileNotFoundError: ...
    """
    return _load(Path(path), CIFAR100, cache, progress)


def cache_folder() -> Path:
    """Return where decoded sets are kept.

    That is ``SOFTMAX_LAB_CACHE``, or else ``softmax-lab`` in the user's cache folder.
    """
    own = os.environ.get("SOFTMAX_LAB_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own) if own else Path(base) / "softmax-lab"


def _load(path: Path, layout: Layout, cache: str | os.PathLike[str] | None, progress: bool) -> Cifar:
    if not path.exists():
        raise FileNotFoundError(
            f"{layout.name} is read from its binary archive {layout.archive} or a folder of images; there "
            f"is no {path}"
        )
    files = _listed(path, layout) if path.is_dir() else []
    key = _folder_key(files, path) if files else _archive_key(path, layout, progress)
    kept = (cache_folder() if cache is None else Path(cache)) / f"{layout.name.lower()}-{key[:32]}.npz"
    found = _from_cache(kept)
    if found is None:
        found = (
            _read_folder(files, path, layout, progress) if files else _read_archive(path, layout, progress)
        )
        _into_cache(kept, found)
    return found


# ---- the archive ----


def _archive_key(path: Path, layout: Layout, progress: bool) -> str:
    """Return the archive's SHA-256, which must be the official one: nothing in it is looked at before."""
    digest = hashlib.sha256()
    with (
        path.open("rb") as file,
        _bar(path.stat().st_size, f"checking {path.name}", progress, bytes_=True) as bar,
    ):
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    if digest.hexdigest() != layout.sha256:
        size = path.stat().st_size
        short = f"; it is truncated, {size} of {layout.size} bytes" if size < layout.size else ""
        raise ValueError(
            f"{path.name} must be {layout.archive} with SHA-256 {layout.sha256}; got "
            f"{digest.hexdigest()}{short}"
        )
    return digest.hexdigest()


def _read_archive(path: Path, layout: Layout, progress: bool) -> Cifar:
    records = layout.label_bytes + _PIXELS
    lengths = {
        name: n * records
        for files, n in zip((layout.train, layout.test), layout.rows_per_file, strict=True)
        for name in files
    }
    try:
        found = _members(path, layout, lengths, progress)
    except (EOFError, tarfile.TarError, zlib.error, OSError) as error:
        raise ValueError(f"{path.name} is truncated or no archive: {error}") from error
    missing = sorted({*lengths, layout.names} - found.keys())
    if missing:
        raise ValueError(f"{path.name} must hold {', '.join(missing)} in {layout.folder}/; it does not")
    names = tuple(found[layout.names].decode("ascii").split())
    if len(names) != layout.num_classes:
        raise ValueError(f"{layout.names} must name {layout.num_classes} classes; got {len(names)}")
    parts = [_decoded([found[name] for name in files], layout) for files in (layout.train, layout.test)]
    return Cifar(*parts[0], *parts[1], names, lossy=False)


def _members(path: Path, layout: Layout, lengths: dict[str, int], progress: bool) -> dict[str, bytes]:
    """Return the wanted files' bytes by name, after a look at every member's name and kind."""
    found: dict[str, bytes] = {}
    with (
        tarfile.open(path, "r:gz") as archive,
        _bar(sum(lengths.values()), f"reading {path.name}", progress, bytes_=True) as bar,
    ):
        for member in archive:
            inside = _safe(member)
            if inside.parent != PurePosixPath(layout.folder) or inside.name not in {*lengths, layout.names}:
                continue
            if inside.name in found or not member.isfile():
                raise ValueError(
                    f"{member.name} must be one plain file in {path.name}; it is there twice, or is none"
                )
            expected = lengths.get(inside.name)
            if member.size != expected if expected is not None else member.size > _LARGEST_TEXT:
                raise ValueError(
                    f"{member.name} must have {expected or f'at most {_LARGEST_TEXT}'} bytes; got "
                    f"{member.size}"
                )
            opened = archive.extractfile(member)
            assert opened is not None  # a plain file
            found[inside.name] = opened.read()
            if len(found[inside.name]) != member.size:
                raise ValueError(
                    f"{member.name} is truncated: {len(found[inside.name])} of {member.size} bytes"
                )
            bar.update(member.size if expected is not None else 0)
    return found


def _safe(member: tarfile.TarInfo) -> PurePosixPath:
    """Return the member's path; refuse links, devices, and paths that lead out."""
    inside = PurePosixPath(member.name)
    if inside.is_absolute() or ".." in inside.parts or "\\" in member.name or ":" in member.name:
        raise ValueError(f"the archive must hold plain relative paths; got {member.name!r}")
    if not (member.isfile() or member.isdir()):
        raise ValueError(
            f"the archive must hold files and folders alone; {member.name!r} is a link or a device"
        )
    return inside


def _decoded(files: Iterable[bytes], layout: Layout) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images (N, 32, 32, 3) and labels (N,).

    A record is its labels, then the red, the green and the blue plane.
    """
    rows = np.concatenate(
        [np.frombuffer(data, np.uint8).reshape(-1, layout.label_bytes + _PIXELS) for data in files]
    )
    labels = rows[:, layout.label_bytes - 1].astype(np.int64)
    if labels.max() >= layout.num_classes:
        raise ValueError(
            f"labels must be < {layout.num_classes}; got {int(labels.max())} at row {int(labels.argmax())}"
        )
    planes = rows[:, layout.label_bytes :].reshape(-1, 3, SIDE, SIDE)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels


# ---- folders of images ----


def _listed(path: Path, layout: Layout) -> list[Path]:
    """Return every image, sorted, after a look at names, kinds and counts."""
    files: list[Path] = []
    classes: dict[str, list[str]] = {}
    for part, wanted in zip(("train", "test"), layout.per_class, strict=True):
        folders = _entries(path / part)
        classes[part] = [folder.name for folder in folders]
        if len(folders) != layout.num_classes:
            raise ValueError(
                f"{path / part} must have {layout.num_classes} class folders; got {len(folders)}"
            )
        for folder in folders:
            images = [entry for entry in _entries(folder) if entry.suffix.lower() in _SUFFIXES]
            if len(images) != wanted:
                raise ValueError(
                    f"{folder} must hold {wanted} images ({', '.join(_SUFFIXES)}); got {len(images)}"
                )
            files += images
    if classes["train"] != classes["test"]:
        raise ValueError(
            f"train and test must have the same classes; only one has "
            f"{sorted({*classes['train']} ^ {*classes['test']})}"
        )
    return files


def _entries(folder: Path) -> list[Path]:
    """Return what is in a folder, sorted, hidden files left out; refuse links."""
    if not folder.is_dir():
        raise ValueError(f"there must be a folder {folder}")
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    for entry in (folder, *entries):
        if entry.is_symlink():
            raise ValueError(f"{entry} is a link; links are refused")
    return entries


def _folder_key(files: list[Path], root: Path) -> str:
    """Return a checksum of the files' names, sizes and times.

    To read every image again would be the whole work.
    """
    digest = hashlib.sha256()
    for file in files:
        about = file.stat()
        digest.update(f"{file.relative_to(root).as_posix()}\0{about.st_size}\0{about.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _read_folder(files: list[Path], root: Path, layout: Layout, progress: bool) -> Cifar:
    names = tuple(dict.fromkeys(file.parent.name for file in files))
    images = np.empty((len(files), SIDE, SIDE, 3), np.uint8)
    with _bar(len(files), f"reading {root.name}", progress) as bar:
        for i, image in enumerate(_images(files)):
            images[i] = image
            bar.update(1)
    labels = np.array([names.index(file.parent.name) for file in files], dtype=np.int64)
    first = layout.per_class[0] * layout.num_classes
    lossy = any(file.suffix.lower() != ".png" for file in files)
    return Cifar(images[:first], labels[:first], images[first:], labels[first:], names, lossy)


def _images(files: Iterable[Path]) -> Iterator[NDArray[np.uint8]]:
    """Yield each image as (32, 32, 3)."""
    pillow = load("PIL.Image", "folders of images are read by Pillow")
    for file in files:
        try:
            with pillow.open(file, formats=("JPEG", "PNG")) as image:
                if image.size != (SIDE, SIDE):  # known from the header: nothing large is decoded
                    raise ValueError(
                        f"{file} must be {SIDE} x {SIDE} pixels; got {image.size[0]} x {image.size[1]}"
                    )
                yield np.asarray(image.convert("RGB"), dtype=np.uint8)
        except (OSError, SyntaxError) as error:  # Pillow's word for a broken PNG is SyntaxError
            raise ValueError(f"{file} is truncated or no image: {error}") from error


# ---- the cache ----


def _from_cache(kept: Path) -> Cifar | None:
    """Return what is kept; a damaged file (npz has checksums) is as good as none."""
    try:
        with kept.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            loaded = {name: arrays[name] for name in Cifar._fields}
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    return Cifar(**loaded | {"names": tuple(map(str, loaded["names"])), "lossy": bool(loaded["lossy"])})


def _into_cache(kept: Path, found: Cifar) -> None:
    """Write under another name, then rename: whoever looks sees nothing, or all of it."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=kept.parent, prefix=f".{kept.name}-", delete=False) as file:
        try:
            arrays: dict[str, Any] = found._asdict()
            np.savez(file, **arrays | {"names": np.array(found.names)})
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(kept)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _bar(total: int, words: str, progress: bool, *, bytes_: bool = False) -> Any:
    if progress:
        tqdm = load("tqdm", "progress, unless progress=False, is shown by tqdm").tqdm
        return tqdm(total=total, desc=words, unit="B" if bytes_ else "image", unit_scale=bytes_)
    return _Silent()


class _Silent(io.StringIO):
    """A progress bar that shows nothing."""

    def update(self, amount: int) -> None:
        pass
