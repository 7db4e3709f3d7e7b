"""Fractions the old way: Egyptian sums, continued fractions, mixed numbers."""

from fractions import Fraction
from math import ceil


def egyptian(value: Fraction) -> list[Fraction]:
    """Split a proper fraction into distinct unit fractions, greedily."""
    if not 0 < value < 1:
        raise ValueError("expected a fraction strictly between 0 and 1")
    parts = []
    while value > 0:
        unit = Fraction(1, ceil(1 / value))
        parts.append(unit)
        value -= unit
    return parts


def continued(value: Fraction) -> list[int]:
    """Return the terms of the continued fraction of a rational number."""
    terms = []
    while True:
        whole = value.numerator // value.denominator
        terms.append(whole)
        value -= whole
        if value == 0:
            return terms
        value = 1 / value


def rebuild(terms: list[int]) -> Fraction:
    """Inverse of continued()."""
    *front, last = terms
    result = Fraction(last)
    for term in reversed(front):
        result = term + 1 / result
    return result


def mixed(value: Fraction) -> str:
    """Format 7/3 as '2 1/3'."""
    sign = "-" if value < 0 else ""
    whole, rest = divmod(abs(value.numerator), value.denominator)
    if rest == 0:
        return f"{sign}{whole}"
    lead = f"{whole} " if whole else ""
    return f"{sign}{lead}{rest}/{value.denominator}"
