"""Reports on their way out: a regular file is whole or as it was.

Links, pipes and devices are written through.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path
from typing import TextIO

__all__ = ["Target", "check_writable", "replace", "write_text"]

Target = str | os.PathLike[str] | TextIO


def write_text(target: Target, text: str) -> None:
    """Write ``text`` in UTF-8 to a path or an open text stream.

    A regular file is replaced once the new one is whole, and keeps its mode; behind a link the link stays,
    and the file that it leads to is replaced. A pipe, a device or an open descriptor (``/dev/stdout``) is
    written to as it is.

    Raises
    ------
    OSError
        Where it cannot be written; an old file is as it was, and nothing else is left.
    """
    if not isinstance(target, (str, os.PathLike)):
        _into_stream(target, text)
    elif _is_replaced(path := Path(target)):
        replace(Path(os.path.realpath(path)), _encoded(text))
    else:
        # never truncated: a descriptor may lead to a log that others write, too
        with path.open("ab") as file:
            file.write(_encoded(text))


def check_writable(path: Path) -> None:
    """Raise ``OSError`` where :func:`write_text` could only fail.

    Opens nothing, as a pipe would wait for its reader.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a directory", str(path))
    folder = Path(os.path.realpath(path)).parent if path.is_symlink() else path.parent
    if _is_replaced(path) and not folder.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"the directory {str(folder)!r} does not exist", str(path))
    if (path.exists() and not os.access(path, os.W_OK)) or (
        _is_replaced(path) and not os.access(folder, os.W_OK | os.X_OK)
    ):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def _encoded(text: str) -> bytes:
    # a file's name in an error may hold what UTF-8 does not know
    return text.encode("utf-8", "backslashreplace")


def _into_stream(stream: TextIO, text: str) -> None:
    """Write to a stream: the bytes where it has a place for them, whatever the terminal's encoding is."""
    stream.flush()
    binary = getattr(stream, "buffer", None)
    if binary is None:
        stream.write(text)
    else:
        binary.write(_encoded(text))
    stream.flush()


def _is_replaced(path: Path) -> bool:
    """Whether the path is, or will be, a regular file under a name of its own; a loop of links raises."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return True
    return stat.S_ISREG(mode) and not _is_descriptor(path)


def _is_descriptor(path: Path) -> bool:
    """Whether the path, or a link that it goes through, names an open descriptor."""
    while True:
        folder = os.path.realpath(path.parent)
        if folder == "/dev/fd" or folder.startswith("/proc/"):
            return True
        if not path.is_symlink():
            return False
        path = path.parent / path.readlink()


def replace(path: Path, content: bytes) -> None:
    """Write a regular file whole, or leave it as it was.

    The new one is written beside it, as a rename across file systems would be a copy, and then renamed.
    """
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    partial = path.with_name(f".{path.name[:40]}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(
                file.fileno()
            )  # a rename that reaches the disk before the content would leave an empty file
        if path.exists():
            shutil.copymode(path, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
