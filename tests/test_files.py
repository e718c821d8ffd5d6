"""Files: whole or as they were; links, pipes and devices written through."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from softmax_lab._files import check_writable, write_text

TEXT = "ulp: \N{INFINITY}\n"


def test_a_new_file_is_written_in_utf_8(tmp_path: Path) -> None:
    write_text(tmp_path / "new", TEXT)
    assert (tmp_path / "new").read_bytes() == TEXT.encode()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_an_old_file_is_replaced_and_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.write_text("a longer text than the new one")
    path.chmod(0o640)
    with path.open() as reader:
        write_text(path, TEXT)
        # who has the old one open reads it to its end
        assert reader.read() == "a longer text than the new one"
    assert path.read_text(encoding="utf-8") == TEXT
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_what_it_leads_to_is_replaced(there: bool, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    target, link, chain = tmp_path / "folder" / "target", tmp_path / "link", tmp_path / "chain"
    if there:
        target.write_text("old")
    link.symlink_to(Path("folder") / "target")
    chain.symlink_to(link)
    check_writable(chain)
    write_text(chain, TEXT)
    assert chain.is_symlink()
    assert link.is_symlink()
    assert not target.is_symlink()
    assert target.read_text(encoding="utf-8") == TEXT
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["target"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_written_to(tmp_path: Path) -> None:
    pipe, received = tmp_path / "pipe", []
    os.mkfifo(pipe)
    check_writable(pipe)  # and does not wait for the reader
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_text(pipe, TEXT)
    reader.join(30)
    assert received == [TEXT.encode()]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="needs /dev/fd")
def test_an_open_descriptor_is_written_to_and_its_file_not_replaced(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("a") as file:
        file.write("before\n")
        file.flush()
        link = tmp_path / "link"
        link.symlink_to(f"/dev/fd/{file.fileno()}")
        number = log.stat().st_ino
        for path in (link, Path(f"/dev/fd/{file.fileno()}")):
            check_writable(path)
            write_text(path, TEXT)
    assert log.read_text(encoding="utf-8") == "before\n" + TEXT + TEXT
    assert log.stat().st_ino == number


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_device_is_written_to() -> None:
    write_text(os.devnull, TEXT)
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)
    with pytest.raises(OSError, match="No space left"):
        write_text("/dev/full", TEXT)
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


def test_a_stream_takes_utf_8_whatever_its_encoding() -> None:
    binary = io.BytesIO()
    stream = io.TextIOWrapper(binary, encoding="ascii")
    stream.write("first ")
    write_text(stream, TEXT)
    assert binary.getvalue() == b"first " + TEXT.encode()
    plain = io.StringIO()
    write_text(plain, TEXT)
    assert plain.getvalue() == TEXT


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("folder", "is a directory"),
        ("absent/file", "absent' does not exist"),
        ("lost", "gone' does not exist"),
        ("file/under", "Not a dir"),
    ],
)
def test_what_cannot_be_written_is_known_before(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "lost").symlink_to(Path("gone") / "file")
    with pytest.raises(OSError, match=words):
        check_writable(tmp_path / name)
    with pytest.raises(OSError, match=r".+"):
        write_text(tmp_path / name, TEXT)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "lost"]


def test_a_loop_of_links_is_refused_and_left(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for call in (check_writable, lambda path: write_text(path, TEXT)):
        with pytest.raises(OSError, match="symbolic links"):
            call(tmp_path / "a")
    assert all(path.is_symlink() for path in tmp_path.iterdir())


def test_a_read_only_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kept"
    path.write_text("old")
    # the administrator may write everything
    monkeypatch.setattr(os, "access", lambda place, mode: Path(place) != path)
    for call in (check_writable, lambda path: write_text(path, TEXT)):
        with pytest.raises(PermissionError):
            call(path)
    assert path.read_text() == "old"


def test_an_interruption_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    code = (
        "import sys, pathlib; from softmax_lab import _files\n"
        "def interrupted(self, target): raise KeyboardInterrupt\n"
        "pathlib.Path.replace = interrupted\n"
        "try: _files.write_text(sys.argv[1], 'new')\n"
        "except KeyboardInterrupt: sys.exit(130)"
    )
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == 130
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "old"
