"""Run-length coding of strings, as pairs or as compact text."""

import re
from itertools import groupby

_CHUNK = re.compile(r"(\d*)(\D)", re.DOTALL)


def to_runs(text):
    """Return a list of (character, length) pairs.

    >>> to_runs("aaab")
    [('a', 3), ('b', 1)]
    """
    return [(char, sum(1 for _ in run)) for char, run in groupby(text)]


def from_runs(runs):
    return "".join(char * length for char, length in runs)


def encode(text):
    """Write each run as its length and character; a length of 1 is left out.

    >>> encode("wwwwx")
    '4wx'
    """
    if any(char.isdigit() for char in text):
        raise ValueError("digits cannot be encoded without an escape")
    return "".join(f"{n if n > 1 else ''}{char}" for char, n in to_runs(text))


def decode(packed):
    """Undo encode()."""
    return from_runs((char, int(digits or 1)) for digits, char in _CHUNK.findall(packed))


def ratio(text):
    """Packed size divided by original size; smaller is better."""
    if not text:
        return 1.0
    return len(encode(text)) / len(text)
