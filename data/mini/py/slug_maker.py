"""Turn headings into short, unique names that are safe inside a URL."""

import unicodedata
from collections.abc import Iterable

REPLACEMENTS = {"&": " and ", "@": " at ", "%": " percent ", "ß": "ss", "ø": "o", "'": ""}


def slugify(heading: str, max_length: int = 60) -> str:
    """Lowercase the heading, drop accents, and join its words with hyphens."""
    text = heading.lower()
    for symbol, spelled in REPLACEMENTS.items():
        text = text.replace(symbol, spelled)
    decomposed = unicodedata.normalize("NFKD", text)
    plain = decomposed.encode("ascii", "ignore").decode("ascii")
    cleaned = "".join(char if char.isalnum() else " " for char in plain)
    slug = ""
    for word in cleaned.split():
        longer = f"{slug}-{word}" if slug else word
        if len(longer) > max_length:
            # Stop at a whole word, unless the very first word is too long.
            slug = slug or word[:max_length]
            break
        slug = longer
    return slug or "untitled"


def unique_slugs(headings: Iterable[str]) -> list[str]:
    """Give each heading its own slug, adding -2, -3 and so on to repeats."""
    taken: set[str] = set()
    result = []
    for heading in headings:
        base = candidate = slugify(heading)
        number = 1
        while candidate in taken:
            number += 1
            candidate = f"{base}-{number}"
        taken.add(candidate)
        result.append(candidate)
    return result
