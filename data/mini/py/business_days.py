"""Calendar arithmetic that knows about weekends and holidays."""

from collections.abc import Collection, Iterator
from datetime import date, timedelta

ONE_DAY = timedelta(days=1)
SATURDAY = 5


def is_workday(day: date, holidays: Collection[date] = ()) -> bool:
    return day.weekday() < SATURDAY and day not in holidays


def days_between(first: date, last: date) -> Iterator[date]:
    """Yield each date from first up to, but not including, last."""
    while first < last:
        yield first
        first += ONE_DAY


def count_workdays(first: date, last: date, holidays: Collection[date] = ()) -> int:
    return sum(is_workday(day, holidays) for day in days_between(first, last))


def add_workdays(start: date, amount: int, holidays: Collection[date] = ()) -> date:
    """Move forward (or back, if amount is negative) over working days."""
    direction = ONE_DAY if amount >= 0 else -ONE_DAY
    remaining, day = abs(amount), start
    while remaining:
        day += direction
        remaining -= is_workday(day, holidays)
    return day


def nth_weekday(year: int, month: int, weekday: int, nth: int) -> date:
    """For example the third Friday: weekday=4 and nth=3."""
    first = date(year, month, 1)
    offset = (weekday - first.weekday()) % 7
    found = first + timedelta(days=offset + 7 * (nth - 1))
    if found.month != month:
        raise ValueError(f"{year}-{month:02d} has no weekday number {nth} of that kind")
    return found
