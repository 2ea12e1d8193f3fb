"""Logs that other tools wrote: told from a journal by their content, read whole, within limits."""

from pathlib import Path

from ptmetrics.errors import RecordError
from ptmetrics.record.foreign_csv import read_csv
from ptmetrics.record.foreign_json import read_json
from ptmetrics.record.foreign_rows import Logged

MAX_BYTES = 64 * 2**20


def is_foreign(path: Path) -> bool:
    """Whether a file is not one of our journals.

    A journal is named so, or its first line begins as its records do; the rest is for the formats to tell.

    Raises:
        OSError: If it cannot be opened.
    """
    if path.suffix == ".jsonl":
        return False
    with path.open("rb") as file:
        return not file.read(8).startswith(b'{"v":')


def read_foreign(path: Path, *, limit: int = MAX_BYTES) -> Logged:
    """Read a log of Lightning, Hugging Face or Keras, or a CSV file with names like theirs or ours.

    Args:
        path: The file.
        limit: Bytes that it may have.

    Raises:
        RecordError: If the file is too large, is no text in UTF-8, or holds no log that can be read.
        OSError: If it cannot be read.
    """
    name = str(path)
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        cure = "Thin it out: one line for each epoch is enough."
        raise RecordError(name, f"a log of at most {limit // 2**20} MiB", "a larger file", cure)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        cure = "Save it as UTF-8; a checkpoint or a picture is no log."
        raise RecordError(name, "text in UTF-8", f"byte {error.start} that is not", cure) from None
    if "\0" in text or not text.strip():
        got, cure = (
            ("NUL bytes" if text.strip() else "an empty file"),
            "Pass the log of a run that has begun.",
        )
        raise RecordError(name, "a log with numbers in it", got, cure)
    return read_json(name, text) if text.lstrip()[0] in "{[" else read_csv(name, text)
