"""Finding the zeros of a continuous function of one variable."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

Function = Callable[[float], float]


class Root(NamedTuple):
    x: float
    steps: int


def bisect(f: Function, left: float, right: float, tolerance: float = 1e-9) -> Root:
    """Halve the bracket [left, right] until it is narrower than tolerance."""
    f_left, f_right = f(left), f(right)
    if f_left * f_right > 0:
        raise ValueError("f must change sign between the two ends")
    steps = 0
    while right - left > tolerance:
        middle = (left + right) / 2
        if middle in (left, right):
            break  # no float lies between the ends any more
        f_middle = f(middle)
        if f_left * f_middle <= 0:
            right = middle
        else:
            left, f_left = middle, f_middle
        steps += 1
    return Root((left + right) / 2, steps)


def sign_changes(f: Function, start: float, stop: float, pieces: int) -> Iterator[tuple[float, float]]:
    """Scan an interval and yield the small brackets that hold a zero."""
    width = (stop - start) / pieces
    for k in range(pieces):
        a, b = start + k * width, start + (k + 1) * width
        if f(a) * f(b) < 0:
            yield a, b


def all_roots(f: Function, start: float, stop: float, pieces: int = 100) -> list[float]:
    return [bisect(f, a, b).x for a, b in sign_changes(f, start, stop, pieces)]
