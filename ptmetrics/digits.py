"""How a number is shown, in text, on a page and in a notebook: the one rule for its digits."""

from math import isfinite

_DIGITS = 4  # after the point, of a score or a loss below 10
_MOST_DIGITS = 8
_SMALL = 1e-4
_LARGE = ((1e6, ".3e"), (1e5, ",.0f"), (1e3, ",.1f"))
"""From which size on errors, which come in any unit, are shown so."""


def number(value: float) -> str:
    """A number by itself: four digits after the point, unless it is tiny or from 10 on.

    Example:
        >>> number(0.95), number(0.0007), number(0.00000712), number(109.57438), number(52341.7)
        ('0.9500', '0.0007', '7.12e-06', '109.57', '52,341.7')
    """
    return numbers(value)[0]


def numbers(*values: float) -> list[str]:
    """Numbers that are read together, as a score with its bounds and a threshold, in one format.

    Four digits after the point, three from 10 on and two from 100 on; more where the numbers lie so
    close that these would not tell them apart.

    Example:
        >>> numbers(0.0007395, 0.0, 0.0012, 0.1)
        ['0.0007', '0.0000', '0.0012', '0.1000']
        >>> numbers(0.95, 0.94995, 0.95004)
        ['0.950000', '0.949950', '0.950040']
    """
    form = _format_of([value for value in values if isfinite(value)])
    texts = [format(value, form) for value in values]
    if form.endswith("e"):
        return [text if value else "0" for value, text in zip(values, texts, strict=True)]
    return texts


def _format_of(finite: list[float]) -> str:
    size = max(map(abs, finite), default=0.0)
    for least, form in _LARGE:
        if size >= least:
            return form
    apart = size * 5  # of a number by itself one digit that counts is enough
    if finite and max(finite) > min(finite):
        apart = max(finite) - min(finite)
    digits = _DIGITS - (size >= 10) - (size >= 100)
    while 0 < apart < 5 * 10.0**-digits and digits < _MOST_DIGITS:
        digits += 2
    if digits > _DIGITS and size < _SMALL:
        return ".2e"
    return f".{digits}f"
