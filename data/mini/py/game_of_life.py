"""Conway's Game of Life on an unbounded board.

Only living cells are stored, so the board may drift as far as it likes.
"""

from collections import Counter

Cell = tuple[int, int]

GLIDER = frozenset({(1, 0), (2, 1), (0, 2), (1, 2), (2, 2)})
BLINKER = frozenset({(0, 1), (1, 1), (2, 1)})


def step(alive: frozenset[Cell]) -> frozenset[Cell]:
    """Advance the board by one generation."""
    crowd = Counter(
        (x + dx, y + dy)
        for x, y in alive
        for dx in (-1, 0, 1)
        for dy in (-1, 0, 1)
        if dx or dy
    )
    return frozenset(
        cell for cell, near in crowd.items() if near == 3 or (near == 2 and cell in alive)
    )


def generation(alive: frozenset[Cell], n: int) -> frozenset[Cell]:
    for _ in range(n):
        alive = step(alive)
    return alive


def from_picture(picture: str) -> frozenset[Cell]:
    """Read a drawing in which '#' marks a living cell."""
    rows = picture.strip("\n").splitlines()
    return frozenset((x, y) for y, row in enumerate(rows) for x, c in enumerate(row) if c == "#")


def to_picture(alive: frozenset[Cell], width: int, height: int) -> str:
    return "\n".join(
        "".join("#" if (x, y) in alive else "." for x in range(width)) for y in range(height)
    )
