import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

import pytest

from ptmetrics.record.atomic import replace, sweep, sync_folder


class WriterError(Exception):
    pass


def write_bytes(path: Path, data: bytes) -> None:
    replace(path, lambda file: file.write(data))


def fail_half_way(file: BinaryIO) -> None:
    file.write(b"half" * 10_000)
    raise WriterError


def test_the_new_content_takes_the_place_of_the_old(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    for data in (b"old", b"", b"new" * 100_000):
        write_bytes(path, data)
        assert path.read_bytes() == data
        assert list(tmp_path.iterdir()) == [path]


def test_a_writer_that_fails_leaves_the_old_content_and_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    write_bytes(path, b"old")
    with pytest.raises(WriterError):
        replace(path, fail_half_way)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupt_passes_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    def interrupted(file: BinaryIO) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace(tmp_path / "best.pt", interrupted)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault(40)
def test_a_disk_that_cannot_make_it_durable_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "best.pt"
    write_bytes(path, b"old")

    def fsync(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Input/output error"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_file_and_folder_are_synced_before_and_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "best.pt"
    seen: list[tuple[bool, bool]] = []

    def fsync(fd: int) -> None:
        seen.append((stat.S_ISDIR(os.fstat(fd).st_mode), path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    write_bytes(path, b"new")
    assert seen == [(False, False), (True, True)]


def test_a_target_that_cannot_be_replaced_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_bytes(tmp_path / "folder", b"new")
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


@pytest.mark.fault(44)
def test_a_link_is_replaced_and_what_it_points_to_stays(tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"mine")
    link = tmp_path / "best.pt"
    link.symlink_to(tmp_path / "outside")
    write_bytes(link, b"new")
    assert (tmp_path / "outside").read_bytes() == b"mine"
    assert (link.is_symlink(), link.read_bytes()) == (False, b"new")


def test_the_file_has_the_usual_permissions_and_a_name_as_long_as_the_system_allows(
    tmp_path: Path,
) -> None:
    path = tmp_path / ("x" * 255)
    write_bytes(path, b"new")
    (tmp_path / "plain").write_bytes(b"")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("code", "raised"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)]
)
def test_only_a_folder_that_cannot_be_synced_at_all_is_let_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, raised: bool
) -> None:
    def fsync(fd: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)
    if raised:
        with pytest.raises(OSError, match=os.strerror(code)):
            sync_folder(tmp_path)
    else:
        sync_folder(tmp_path)


def test_litter_of_dead_writers_is_swept_and_that_of_living_ones_is_not(tmp_path: Path) -> None:
    dead = [tmp_path / ".tmp-0123456789abcdef", tmp_path / ".tmp-x"]
    for path in dead:
        path.write_bytes(b"half")
    (tmp_path / "best.pt").write_bytes(b"whole")
    (tmp_path / ".tmpfile").write_bytes(b"mine")

    def write(file: BinaryIO) -> None:
        file.write(b"new")
        sweep(tmp_path)  # another process begins in the middle

    replace(tmp_path / "last.pt", write)
    left = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert left == {"best.pt": b"whole", ".tmpfile": b"mine", "last.pt": b"new"}
    sweep(tmp_path / "nowhere")
