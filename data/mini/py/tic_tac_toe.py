"""Noughts and crosses with a player that never loses."""

from functools import cache

EMPTY = "." * 9
LINES = (
    (0, 1, 2), (3, 4, 5), (6, 7, 8),
    (0, 3, 6), (1, 4, 7), (2, 5, 8),
    (0, 4, 8), (2, 4, 6),
)


def winner(board: str) -> str | None:
    for a, b, c in LINES:
        if board[a] != "." and board[a] == board[b] == board[c]:
            return board[a]
    return None


def to_move(board: str) -> str:
    return "X" if board.count("X") == board.count("O") else "O"


def moves(board: str) -> list[int]:
    return [i for i, square in enumerate(board) if square == "."]


def play(board: str, square: int) -> str:
    if board[square] != ".":
        raise ValueError(f"square {square} is taken")
    return board[:square] + to_move(board) + board[square + 1 :]


@cache
def value(board: str) -> int:
    """Outcome for the side to move under best play: 1, 0 or -1."""
    if winner(board):
        return -1  # the opponent has just completed a line
    options = moves(board)
    return max((-value(play(board, m)) for m in options), default=0)


def best_move(board: str) -> int:
    return min(moves(board), key=lambda m: value(play(board, m)))


def show(board: str) -> str:
    return "\n".join(" ".join(board[row : row + 3]) for row in (0, 3, 6))
