"""Colour on a terminal that wants it, plain text everywhere else."""

import os
import sys
from collections.abc import Callable
from typing import IO

Paint = Callable[[str, str], str]
CODES = {"good": "32", "bad": "31", "open": "33", "strong": "1", "dim": "2"}


def plain(text: str, style: str) -> str:
    """The text as it is."""
    return text


def colour(text: str, style: str) -> str:
    """The text between two ANSI codes; `style` is a key of `CODES`."""
    return f"\x1b[{CODES[style]}m{text}\x1b[0m"


def paint_for(stream: IO[str] | None = None) -> Paint:
    """`colour` for a terminal (default: standard output), unless NO_COLOR is set (no-color.org); else `plain`."""
    stream = sys.stdout if stream is None else stream
    return colour if stream.isatty() and not os.environ.get("NO_COLOR") else plain
