"""Files of samples: whole or refused in words, whatever lies in their place."""

import io
import os
import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptmetrics.record import samples as module
from ptmetrics.record.samples import (
    CLASS_ROW,
    POINT_ROW,
    drop_samples,
    read_samples,
    samples_path,
    write_samples,
)

ROWS = np.array([(1, 1, 0.5), (0, 1, 2.0), (-1, -100, np.nan)], CLASS_ROW)


def line_of(data: Any, epoch: int = 3) -> dict[str, Any]:
    return {"epoch": epoch, "samples": data}


def planted(folder: Path, content: bytes) -> dict[str, Any]:
    """An epoch's line that vouches for whatever lies there: only what is inside can be refused."""
    samples_path(folder, 3).write_bytes(content)
    return line_of({"rows": 3, "crc": f"{zlib.crc32(content):08x}"})


def npy(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


@pytest.mark.parametrize("rows", [ROWS, ROWS[:0], np.array([(0.5, 1e6), (np.nan, 3.0)], POINT_ROW)])
def test_what_was_written_is_read_back_and_numpy_reads_it_too(tmp_path: Path, rows: Any) -> None:
    said = write_samples(tmp_path, 3, rows)
    kept = read_samples(tmp_path, line_of(said))
    assert kept.reason is None
    assert kept.rows is not None
    assert kept.rows.tobytes() == rows.tobytes()
    assert kept.rows.dtype == rows.dtype
    assert np.load(tmp_path / "samples-3.npy").tobytes() == rows.tobytes()
    assert said["rows"] == len(rows)


def test_every_truncation_and_every_flipped_bit_is_refused(tmp_path: Path) -> None:
    said = write_samples(tmp_path, 3, ROWS)
    path = samples_path(tmp_path, 3)
    whole = path.read_bytes()
    torn = [whole[:end] for end in range(len(whole))]
    flipped = [whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :] for i in range(len(whole))]
    for content in [*torn, *flipped, whole + b"\0"]:
        path.write_bytes(content)
        kept = read_samples(tmp_path, line_of(said))
        assert kept.rows is None
        assert kept.reason is not None
        assert "its checksum does not fit" in kept.reason


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("bomb",))


def header(text: str) -> bytes:
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


DESCR = (
    "'descr': [('predicted', '<i4'), ('target', '<i4'), ('loss', '<f4')], 'fortran_order': False"
)
FOREIGN = {
    "pickle": (lambda: pickle.dumps(Bomb()), "is no NumPy file"),
    "array of objects": (
        lambda: npy(np.array([Bomb()], object), allow_pickle=True),
        "something else",
    ),
    "zip": (lambda: b"PK\x03\x04" + bytes(200), "is no NumPy file"),
    "text": (lambda: b"epoch,loss\n1,2\n", "is no NumPy file"),
    "nothing": (lambda: b"", "is no NumPy file"),
    "plain numbers": (lambda: npy(np.zeros(3)), "something else"),
    "a matrix of rows": (lambda: npy(ROWS.reshape(1, 3)), "something else"),
    "other fields": (lambda: npy(np.zeros(3, [("a", "<i4")])), "something else"),
    "fewer rows than promised": (lambda: npy(ROWS)[:-12], "the 3 rows that it promises"),
    "very many rows": (lambda: header(f"{{{DESCR}, 'shape': (10**15,)}}"), "is no NumPy file"),
    "endless rows": (
        lambda: header(f"{{{DESCR}, 'shape': (1000000000000000,)}}"),
        "that it promises",
    ),
    "rows below none": (lambda: header(f"{{{DESCR}, 'shape': (-1,)}}"), "that it promises"),
    "code in the header": (lambda: header("__import__('os').mkdir('bomb')"), "is no NumPy file"),
    "deep header": (lambda: header("(" * 90), "is no NumPy file"),
    "later format": (
        lambda: npy(ROWS).replace(b"\x01\x00", b"\x07\x00", 1),
        "no NumPy file|later format",
    ),
}


@pytest.mark.fault(43)
@pytest.mark.parametrize(("make", "words"), FOREIGN.values(), ids=FOREIGN.keys())
def test_a_foreign_file_is_refused_and_nothing_in_it_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    kept = read_samples(tmp_path, planted(tmp_path, make()))
    assert kept.rows is None
    assert kept.reason is not None
    assert kept.reason.startswith("samples-3.npy was refused: ")
    assert any(word in kept.reason for word in words.split("|"))
    assert not (tmp_path / "bomb").exists()


def pictures(shape: tuple[int, ...], places: Any = (0, 2)) -> Any:
    rows = np.zeros(len(places), [("place", "<i8"), ("picture", "|u1", shape)])
    rows["place"] = places
    return rows


def with_inputs(folder: Path, rows: Any) -> Any:
    """What is read of an epoch of `ROWS` whose line vouches for a file of pictures."""
    line = line_of(write_samples(folder, 3, ROWS))
    line["files"] = {"inputs": write_samples(folder, 3, rows, "inputs")}
    return read_samples(folder, line)


def test_pictures_are_read_back(tmp_path: Path) -> None:
    rows = pictures((3, 32, 7))
    found = with_inputs(tmp_path, rows)
    assert found.inputs.tobytes() == rows.tobytes()
    assert found.no_inputs is None


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (pictures((3, 33, 7)), "something else"),
        (pictures((3, 0, 7)), "something else"),
        (pictures((2, 7, 7)), "something else"),
        (pictures((3, 7)), "something else"),
        (np.zeros(2, [("place", "<i8"), ("picture", "<f4", (1, 2, 2))]), "something else"),
        (np.zeros(2, [("place", "<i8")]), "something else"),
        (pictures((1, 2, 2), range(257)), "does not hold the 257 rows"),
        (pictures((1, 2, 2), (0, 3)), "of no sample"),
        (pictures((1, 2, 2), (-1, 0)), "of no sample"),
    ],
)
def test_pictures_of_hostile_sizes_or_places_are_refused(
    tmp_path: Path, rows: Any, words: str
) -> None:
    found = with_inputs(tmp_path, rows)
    assert found.inputs is None
    assert words in found.no_inputs
    assert found.rows is not None


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    said = write_samples(tmp_path, 3, ROWS)
    path = samples_path(tmp_path, 3)
    path.rename(tmp_path / "elsewhere.npy")
    path.symlink_to("elsewhere.npy")
    assert "was refused" in str(read_samples(tmp_path, line_of(said)).reason)
    path.unlink()
    os.mkfifo(path)
    assert "is no regular file" in str(read_samples(tmp_path, line_of(said)).reason)
    path.unlink()
    path.mkdir()
    assert "was refused" in str(read_samples(tmp_path, line_of(said)).reason)


def test_a_file_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    said = write_samples(tmp_path, 3, ROWS)
    os.truncate(samples_path(tmp_path, 3), 2**40)  # sparse: it takes no space
    assert "is larger than the 228 MiB that are read" in str(
        read_samples(tmp_path, line_of(said)).reason
    )
    assert module.MAX_ROWS * 16 < 2**40


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (None, "no samples of it were kept"),
        ({"reason": "its samples were weighted"}, "its samples were weighted"),
        ({"rows": 3, "crc": "00000000"}, "samples-3.npy is gone"),
        ({}, "samples-3.npy is gone"),
    ],
)
def test_a_line_without_a_file_says_why(tmp_path: Path, said: Any, words: str) -> None:
    line = {"epoch": 3}
    if said is not None:
        line["samples"] = said
    assert words in str(read_samples(tmp_path, line).reason)


def test_only_files_of_samples_are_dropped(tmp_path: Path) -> None:
    for epoch in (1, 2, 30):
        write_samples(tmp_path, epoch, ROWS)
    others = ["journal-rank0.jsonl", "samples-x.npy", "samples-2.npy.bak", "my-samples-2.npy"]
    for name in others:
        (tmp_path / name).touch()
    drop_samples(tmp_path, {30, 7})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, "samples-30.npy"])


def test_a_disk_that_fails_leaves_the_older_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = write_samples(tmp_path, 3, ROWS)
    tmp_path.chmod(0o500)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("a superuser may write anywhere")
        with pytest.raises(OSError, match="denied"):
            write_samples(tmp_path, 3, ROWS[:1])
    finally:
        tmp_path.chmod(0o700)
    assert read_samples(tmp_path, line_of(said)).rows is not None
