"""How lines become text: printable whatever a record holds, with colour on a terminal that wants it.

What is shown is built as lines, and joined by `Paint.join`, the one border that text passes.
"""

import os
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TextIO

from ptmetrics.record.printable import printable

STYLE_CODES = {"good": "32", "bad": "31", "open": "33", "strong": "1", "dim": "2"}


WIDTH = 96
"""Columns that a text takes at most, so that it fits into a console of 100."""


class Styled(NamedTuple):
    """A part of a line in a style of `STYLE_CODES`."""

    text: str
    style: str


Line = str | Sequence[str | Styled]


def wrap(text: str, head: str = "", *, indent: int = 4) -> list[str]:
    """A text behind its head as lines that fit; those behind the first one are indented."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=head,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [head.rstrip()]


@dataclass(frozen=True)
class Paint:
    r"""Joins lines for one place.

    Called with a text and a style, it gives that text alone.

    Args:
        colour: Whether styles become ANSI codes.
        encoding: What the place can show.

    Example:
        >>> paint = Paint(colour=True)
        >>> paint.join(["two lines", ["of which one is ", Styled("strong", "strong")]])
        'two lines\nof which one is \x1b[1mstrong\x1b[0m'
    """

    colour: bool = False
    encoding: str = "utf-8"

    def __call__(self, text: str, style: str) -> str:
        """The text in a style of `STYLE_CODES`."""
        shown = printable(text, self.encoding)
        if not self.colour:
            return shown
        return f"\x1b[{STYLE_CODES[style]}m{shown}\x1b[0m"

    def join(self, lines: Iterable[Line]) -> str:
        """The lines as text."""
        return "\n".join(map(self._joined, lines))

    def _joined(self, line: Line) -> str:
        if isinstance(line, str):
            shown = printable(line, self.encoding)
            if len(shown) > WIDTH:
                spaces = len(shown) - len(shown.lstrip())
                shown = "\n".join(wrap(shown, indent=spaces + 4))
            return shown
        whole = "".join(part.text if isinstance(part, Styled) else part for part in line)
        if len(whole) > WIDTH:
            return self._joined(whole)  # a style may not be cut in two
        shown = ""
        for part in line:
            if isinstance(part, Styled):
                shown += self(part.text, part.style)
            else:
                shown += printable(part, self.encoding)
        return shown


plain = Paint()
colour = Paint(colour=True)


def paint_for(stream: TextIO | None = None) -> Paint:
    """Paint for a stream, by default standard output; colour for a terminal without NO_COLOR.

    Source: no-color.org for the variable.
    """
    stream = stream or sys.stdout
    wanted = stream.isatty() and not os.environ.get("NO_COLOR")
    return Paint(wanted, stream.encoding or "utf-8")
