"""The shift cipher attributed to Julius Caesar, and a way to break it."""

import string

# Rough share of each letter in ordinary English prose, in percent.
ENGLISH = dict(zip("etaoinshrdlu", (12.7, 9.1, 8.2, 7.5, 7.0, 6.7, 6.3, 6.1, 6.0, 4.3, 4.0, 2.8)))


def shift_table(key: int) -> dict[int, int]:
    key %= 26
    lower = string.ascii_lowercase
    upper = string.ascii_uppercase
    return str.maketrans(
        lower + upper,
        lower[key:] + lower[:key] + upper[key:] + upper[:key],
    )


def encrypt(message: str, key: int) -> str:
    """Shift each letter forward by key places, keeping its case."""
    return message.translate(shift_table(key))


def decrypt(message: str, key: int) -> str:
    return encrypt(message, -key)


def english_score(text: str) -> float:
    """Higher means the letters look more like English."""
    return sum(ENGLISH.get(char, 0.0) for char in text.lower())


def crack(message: str) -> tuple[int, str]:
    """Try all 26 keys and return the most plausible key and plain text."""
    best = max(range(26), key=lambda key: english_score(decrypt(message, key)))
    return best, decrypt(message, best)
