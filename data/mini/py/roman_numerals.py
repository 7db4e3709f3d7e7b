"""Conversion between integers and Roman numerals, strict in both directions."""

SYMBOLS = (
    (1000, "M"), (900, "CM"), (500, "D"), (400, "CD"),
    (100, "C"), (90, "XC"), (50, "L"), (40, "XL"),
    (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"),
)


def to_roman(number: int) -> str:
    if not 1 <= number <= 3999:
        raise ValueError("only 1 to 3999 can be written as a Roman numeral")
    pieces = []
    for value, symbol in SYMBOLS:
        count, number = divmod(number, value)
        pieces.append(symbol * count)
    return "".join(pieces)


def from_roman(numeral: str) -> int:
    """Parse a numeral, refusing unusual spellings such as 'IIII' or 'VX'."""
    text = numeral.strip().upper()
    total, position = 0, 0
    for value, symbol in SYMBOLS:
        while text.startswith(symbol, position):
            total += value
            position += len(symbol)
    # Writing the answer back exposes any spelling that is not canonical.
    if not text or position != len(text) or total > 3999 or to_roman(total) != text:
        raise ValueError(f"not a Roman numeral: {numeral!r}")
    return total


def chapter_titles(names: list[str]) -> list[str]:
    """Number a list of chapter names in the classical manner."""
    return [f"{to_roman(i)}. {name}" for i, name in enumerate(names, start=1)]
