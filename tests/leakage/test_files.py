"""`ptmetrics audit`: folders of pictures and tables, as text and as JSON, and what they are refused for."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ptmetrics.cli import main

ROWS = [{"id": f"r{i}", "a": i * 0.37 % 1, "b": (i * i) % 17, "label": i % 2} for i in range(40)]
TEXTS = [{"text": f"sentence number {i} of a story", "label": i % 2} for i in range(40)]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8")
    elif path.suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(
                file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ","
            )
            table.writeheader()
            table.writerows(rows)
    return path


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert main(["audit", *map(str, arguments), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("rows", [ROWS, TEXTS], ids=["numbers", "texts"])
def test_equal_rows_of_tables_are_found_whatever_their_label(
    ending: str, rows: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = write(tmp_path / f"train.{ending}", rows[:30])
    changed = [{**row, "label": 1 - row["label"]} for row in rows[29:]]
    val = write(tmp_path / f"val.{ending}", changed)
    options = ["--no-near"]
    if "id" in rows[0]:
        options += ["--ids", "id"]
    found = told(capsys, train, val, *options)
    assert found["exact"] == [[29, 0]]
    assert found["conflicts"] == [["train", 29, 0]]
    assert found["ids"] == ([[29, 0]] if "id" in rows[0] else [])
    assert found["not_checked"]["near"] == "not asked for"
    assert ("ids" in found["not_checked"]) == ("id" not in rows[0])


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_files_of_two_kinds_are_compared_by_what_they_say(
    ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The label 1 of JSON was once another one than that of CSV, and its number 0 was missing."""
    rows = [{"a": i % 7, "b": float(i), "id": i, "label": i % 2} for i in range(30)]
    train = write(tmp_path / "train.csv", rows)
    val = write(tmp_path / f"val.{ending}", rows[:8])
    found = told(capsys, train, val, "--no-near", "--ids", "id")
    assert found["exact"] == found["ids"] == [[row, row] for row in range(8)]
    assert found["conflicts"] == []


def test_a_file_that_is_no_parquet_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "val.parquet").write_bytes(b"PAR1junk")
    train = write(tmp_path / "train.csv", ROWS)
    assert main(["audit", str(train), str(tmp_path / "val.parquet")]) != 0
    assert "val.parquet: expected a parquet file" in capsys.readouterr().err


def test_groups_are_told_by_a_column(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = write(tmp_path / "train.csv", [{**row, "who": "a"} for row in ROWS[:20]])
    val = write(
        tmp_path / "val.csv", [{**row, "who": "ab"[i % 2]} for i, row in enumerate(ROWS[20:])]
    )
    found = told(capsys, train, val, "--ids", "id", "--groups", "who", "--label", "label")
    assert len(found["groups"]) == 10
    assert not found["exact"]


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def test_folders_of_pictures_are_compared_and_a_damaged_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(6):
        picture(tmp_path / "train" / "cat" / f"{seed}.png", seed)
    picture(tmp_path / "val" / "dog" / "a.png", 3)
    picture(tmp_path / "val" / "dog" / "b.png", 77)
    picture(tmp_path / "val" / "dog" / ".hidden.png", 1)
    (tmp_path / "val" / "dog" / "c.jpg").write_bytes(b"\xff\xd8 torn")
    found = told(capsys, tmp_path / "train", tmp_path / "val")
    assert found["exact"] == [[3, 0]]
    assert found["conflicts"] == [["train", 3, 0]]
    assert list(found["refused"]["val"]) == ["2"]
    assert found["files"]["train"]["3"].endswith("cat/3.png")
    assert main(["audit", str(tmp_path / "train"), str(tmp_path / "val")]) == 0
    text = capsys.readouterr().out
    assert "train/cat/3.png) = val 0 (" in text
    assert "1 rows of val could not be read (2: " in text


REFUSED = {
    "nothing there": ("no.csv", None, "expected a folder or a file, got nothing at that path"),
    "another ending": ("a.xls", "x", "expected a folder of pictures or a file that ends in"),
    "a torn line": ("a.jsonl", '{"a": 1}\n{"a":', "a.jsonl, line 2: expected JSON"),
    "no object": ("a.jsonl", "3\n", "a.jsonl, line 1: expected an object, got int"),
    "ragged": ("a.csv", "a,b\n1\n", "a.csv, line 2: expected 2 values"),
    "empty": ("a.csv", "a,b\n", "expected samples that can be read, got none"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_with_its_place(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, content, words = REFUSED[case]
    if content is not None:
        (tmp_path / name).write_text(content)
    assert main(["audit", str(tmp_path / name), str(tmp_path / name)]) == 2
    assert words in capsys.readouterr().err


def test_tables_of_other_columns_and_unlike_sets_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write(tmp_path / "a.csv", ROWS)
    second = write(tmp_path / "b.csv", TEXTS)
    assert main(["audit", str(first), str(second)]) == 2
    assert (
        "val: expected columns as in the training set (id, a, b), got text"
        in capsys.readouterr().err
    )
    assert main(["audit", str(first), str(first), "--label", "nope"]) == 2
    assert "expected a column 'nope', got id, a, b, label" in capsys.readouterr().err
    picture(tmp_path / "folder" / "x" / "1.png", 1)
    assert main(["audit", str(tmp_path / "folder"), str(second)]) == 2
