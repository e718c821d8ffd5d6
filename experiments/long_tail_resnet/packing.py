"""The images in two small files, for a machine that gets only a folder.

``train.npz`` has the long-tailed training images, ``test.npz`` the test images. Each holds strips of images
in WebP's lossless form: 35 MB together, where the pixels are 64 MB and their PNG files 47 MB.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

__all__ = ["CLASSES", "LARGEST", "Images", "long_tailed_counts", "pack", "read", "unpack"]

CLASSES, LARGEST, SIDE = 100, 500, 32
_STRIP = 400  # images in a strip: WebP allows 16,383 pixels
Pixels = NDArray[np.uint8]


class Images(NamedTuple):
    """Images (N, H, W, 3) as uint8 and labels (N,) as int64."""

    pixels: Pixels
    labels: NDArray[np.int64]


def long_tailed_counts(rho: float, classes: int = CLASSES, largest: int = LARGEST) -> NDArray[np.int64]:
    """Return the images of each class: ``largest`` rho^(-c / (K - 1)), rounded down as Cao et al. (2019) do.

    At rho 100 that makes 10,847 for CIFAR-100, the number that published results have.
    """
    share = np.arange(classes) / (classes - 1)
    return np.floor(largest * rho**-share + 1e-9).astype(np.int64)


def pack(source: Path, folder: Path, rho: float = 100.0, *, progress: bool = True) -> int:
    """Write both files from a folder with ``train.tar.xz`` and ``test.tar.xz``; return their bytes.

    The archives hold ``part/class/image.png``. Class folders in alphabetical order are the labels. The
    training images of a class are drawn once, with seed 0.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "test"):
        found = _read(source / f"{part}.tar.xz", progress)
        names = sorted(found)
        counts = long_tailed_counts(rho, len(names), len(found[names[0]])) if part == "train" else None
        images, labels = [], []
        for label, name in enumerate(names):
            files = [found[name][file] for file in sorted(found[name])]
            chosen = np.arange(len(files))
            if counts is not None:
                drawn = np.random.default_rng([0, label]).permutation(len(files))
                if len(drawn) < counts[label]:
                    raise ValueError(f"{name} must have {counts[label]} training images; got {len(drawn)}")
                chosen = np.sort(drawn[: counts[label]])
            images += [_pixels(files[i]) for i in chosen]
            labels += [label] * len(chosen)
        write(folder / f"{part}.npz", Images(np.stack(images), np.array(labels)), progress=progress)
    return sum((folder / f"{part}.npz").stat().st_size for part in ("train", "test"))


def read(source: Path, part: str, *, suffix: str = ".png", progress: bool = True) -> Images:
    """Return all images of ``PART.tar.xz`` in a folder; labels are its folders in alphabetical order.

    Raises
    ------
    ValueError
        Where no file in the archive has the suffix.
    """
    archive = source / f"{part}.tar.xz"
    found = _read(archive, progress, suffix)
    if not found:
        raise ValueError(f"{archive.name} must hold {suffix} files; it has none")
    files = [
        (label, found[name][file]) for label, name in enumerate(sorted(found)) for file in sorted(found[name])
    ]
    return Images(np.stack([_pixels(file) for _, file in files]), np.array([label for label, _ in files]))


def _read(archive: Path, progress: bool, suffix: str = ".png") -> dict[str, dict[str, bytes]]:
    """Return the bytes of the images of an archive, by class and name."""
    found: dict[str, dict[str, bytes]] = {}
    with tarfile.open(archive, "r|xz") as tar:
        for member in tqdm(tar, desc=f"reading {archive.name}", unit="file", disable=not progress):
            path = Path(member.name)
            file = tar.extractfile(member) if member.isfile() and path.suffix == suffix else None
            if file is not None:
                found.setdefault(path.parent.name, {})[path.name] = file.read()
    return found


def _pixels(file: bytes) -> Pixels:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))


def write(path: Path, images: Images, *, progress: bool = True) -> None:
    """Write images as strips."""
    strips = list(
        tqdm(_strips(images.pixels), desc=f"packing {path.name}", unit="strip", disable=not progress)
    )
    np.savez(
        path,
        strips=np.frombuffer(b"".join(strips), np.uint8),
        ends=np.cumsum([len(strip) for strip in strips]),
        labels=images.labels,
    )


def _strips(pixels: Pixels) -> Iterator[bytes]:
    from PIL import Image

    for start in range(0, len(pixels), _STRIP):
        part, file = pixels[start : start + _STRIP], io.BytesIO()
        strip = Image.fromarray(part.reshape(-1, *part.shape[2:]))
        strip.save(file, "WEBP", lossless=True, quality=50, method=4)
        yield file.getvalue()


def unpack(path: Path) -> Images:
    """Read images that `write` has written; or plain arrays ``pixels`` and ``labels`` in a file of NumPy."""
    with np.load(path, allow_pickle=False) as file:
        labels = file["labels"].astype(np.int64)
        if "pixels" in file:
            return Images(file["pixels"], labels)
        strips, ends = file["strips"].tobytes(), file["ends"].tolist()
    pixels = np.concatenate([_pixels(strips[a:b]) for a, b in zip([0, *ends], ends, strict=False)])
    return Images(pixels.reshape(len(labels), -1, *pixels.shape[1:]), labels)
