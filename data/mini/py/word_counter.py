"""Count the words of a text and describe how they are spread."""

import re
from collections import Counter

WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
COMMON = frozenset("a an and as at by for in is it of on or the to was with".split())


def words(text):
    """Yield the lowercase words of text in reading order."""
    for match in WORD.finditer(text.lower()):
        yield match.group()


def frequencies(text, skip_common=True):
    """Map each word to its count, leaving out filler words by default."""
    counts = Counter(words(text))
    if skip_common:
        for filler in COMMON:
            counts.pop(filler, None)
    return counts


def top_words(text, limit=10):
    # Ties are settled alphabetically so that results stay stable.
    ranked = sorted(frequencies(text).items(), key=lambda pair: (-pair[1], pair[0]))
    return ranked[:limit]


def summary(text):
    """Return line, word and letter totals together with the longest word."""
    found = list(words(text))
    return {
        "lines": len(text.splitlines()),
        "words": len(found),
        "distinct": len(set(found)),
        "letters": sum(char.isalpha() for char in text),
        "longest": max(found, key=len, default=""),
    }
