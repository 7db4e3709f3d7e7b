"""Write integers in any base from 2 to 36, and read them back."""

from string import ascii_lowercase, digits

ALPHABET = digits + ascii_lowercase
PREFIXES = {"0b": 2, "0o": 8, "0x": 16}


def _check(base: int) -> None:
    if not 2 <= base <= len(ALPHABET):
        raise ValueError(f"unsupported base {base}")


def to_base(number: int, base: int, width: int = 0) -> str:
    """Spell number in the given base, padded with zeros to width digits."""
    _check(base)
    sign, number = ("-", -number) if number < 0 else ("", number)
    places = []
    while number:
        number, remainder = divmod(number, base)
        places.append(ALPHABET[remainder])
    return sign + ("".join(reversed(places)) or "0").rjust(width, "0")


def from_base(text: str, base: int) -> int:
    _check(base)
    cleaned = text.strip().lower().replace("_", "")
    negative = cleaned.startswith("-")
    body = cleaned.lstrip("+-")
    if not body:
        raise ValueError("no digits given")
    value = 0
    for symbol in body:
        place = ALPHABET.find(symbol)
        if not 0 <= place < base:
            raise ValueError(f"{symbol!r} is not a digit in base {base}")
        value = value * base + place
    return -value if negative else value


def guess_base(literal: str) -> int:
    """Read the base from a prefix such as 0x; ten is the fallback."""
    return PREFIXES.get(literal[:2].lower(), 10)
