"""Text of a record, or of a user, as any console can show it and none obeys it."""

_PLAIN_SIGNS = str.maketrans("✓✗→│−×·…", "+x>|-x.~") | {ord("∞"): "inf"}
"""For a console that lacks ours."""
_OF_ONE = {"are": "is", "were": "was", "have": "has", "did": "did"}
"""Verbs that do more than take an s."""


def printable(text: str, encoding: str = "utf-8") -> str:
    r"""The text as one line that any console can show and none obeys.

    Every kind of white space becomes a space. Control characters, escape codes, bidi controls and
    whatever else cannot be seen become "�", and what the encoding lacks a plain sign or "?".

    Example:
        >>> printable("cat\x1b[2J\ndog")
        'cat�[2J dog'
        >>> printable("✓ größe", "ascii")
        '+ gr??e'
    """
    if not text.isprintable():
        text = "".join(map(_printable_sign, text))
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_PLAIN_SIGNS).encode(encoding, "replace").decode(encoding)
    return text


def quantity(count: int, noun: str) -> str:
    """So many of something, in words.

    Example:
        >>> quantity(1, "class"), quantity(2, "class"), quantity(1000, "row")
        ('1 class', '2 classes', '1,000 rows')
    """
    ending = "s"
    if noun.endswith(("s", "tch")):
        ending = "es"
    if count == 1:
        ending = ""
    return f"{count:,} {noun}{ending}"


def agreeing(count: int, words: str) -> str:
    """What is said of so many: the first word, a verb in the plural, as the number asks for.

    Example:
        >>> agreeing(2, "have no sample"), agreeing(1, "have no sample"), agreeing(1, "lie there")
        ('have no sample', 'has no sample', 'lies there')
    """
    if count != 1:
        return words
    verb, space, rest = words.partition(" ")
    return _OF_ONE.get(verb, f"{verb}s") + space + rest


def _printable_sign(sign: str) -> str:
    if sign.isspace():
        return " "
    if sign.isprintable():
        return sign
    return "�"
