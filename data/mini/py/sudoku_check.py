"""Check sudoku grids written as 81 characters, with 0 or '.' for a blank."""

from collections.abc import Iterator

DIGITS = set("123456789")


def parse(text: str) -> list[str]:
    squares = [c if c in DIGITS else "." for c in text if not c.isspace()]
    if len(squares) != 81:
        raise ValueError(f"a sudoku has 81 squares, not {len(squares)}")
    return squares


def units() -> Iterator[tuple[str, list[int]]]:
    """Yield a label and the nine square numbers of each row, column and box."""
    for n in range(9):
        yield f"row {n + 1}", [9 * n + k for k in range(9)]
        yield f"column {n + 1}", [9 * k + n for k in range(9)]
        corner = 27 * (n // 3) + 3 * (n % 3)
        yield f"box {n + 1}", [corner + 9 * (k // 3) + k % 3 for k in range(9)]


def conflicts(text: str) -> list[str]:
    """Describe every digit that is repeated inside a unit."""
    squares = parse(text)
    problems = []
    for label, places in units():
        filled = [squares[p] for p in places if squares[p] != "."]
        for digit in sorted(set(filled)):
            if filled.count(digit) > 1:
                problems.append(f"{label} repeats {digit}")
    return problems


def is_solved(text: str) -> bool:
    return "." not in parse(text) and not conflicts(text)


def candidates(text: str, row: int, column: int) -> set[str]:
    """Digits that may still go in a blank square (counted from zero)."""
    squares, here = parse(text), 9 * row + column
    seen = {squares[p] for _, places in units() if here in places for p in places}
    return DIGITS - seen
