"""Binary search and a few of its relatives."""

from collections.abc import Callable, Sequence


def first_true(low: int, high: int, test: Callable[[int], bool]) -> int:
    """Smallest n in [low, high) for which test(n) holds, or high if none.

    The test must switch from False to True at most once.
    """
    while low < high:
        middle = (low + high) // 2
        if test(middle):
            high = middle
        else:
            low = middle + 1
    return low


def index_of(items: Sequence, target) -> int:
    """Position of target in a sorted sequence; -1 if it is absent."""
    spot = first_true(0, len(items), lambda i: items[i] >= target)
    return spot if spot < len(items) and items[spot] == target else -1


def count_equal(items: Sequence, target) -> int:
    start = first_true(0, len(items), lambda i: items[i] >= target)
    stop = first_true(start, len(items), lambda i: items[i] > target)
    return stop - start


def rotation_point(items: Sequence) -> int:
    """Index of the smallest item in a sorted list that has been rotated."""
    if not items:
        raise ValueError("an empty list has no smallest item")
    return first_true(0, len(items) - 1, lambda i: items[i] <= items[-1])


def integer_root(n: int, k: int = 2) -> int:
    """Largest r such that r ** k does not exceed n."""
    if n < 0 or k < 1:
        raise ValueError("need n >= 0 and k >= 1")
    return first_true(0, n + 2, lambda r: r**k > n) - 1
