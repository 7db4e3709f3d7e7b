"""Split long result lists into pages and build page navigation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Sequence, TypeVar

Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Page(Generic[Entry]):
    entries: Sequence[Entry]
    number: int
    last: int
    total: int

    @property
    def has_next(self) -> bool:
        return self.number < self.last

    @property
    def has_previous(self) -> bool:
        return self.number > 1


def paginate(entries: Sequence[Entry], number: int = 1, size: int = 20) -> Page[Entry]:
    """Return page `number`, counting from one; wild numbers are clamped."""
    if size < 1:
        raise ValueError("a page shows at least one entry")
    last = max(1, -(-len(entries) // size))
    number = min(max(number, 1), last)
    begin = (number - 1) * size
    return Page(entries[begin : begin + size], number, last, len(entries))


def navigation(page: Page, around: int = 2) -> list[int | None]:
    """Page numbers to show as links, with None where some were left out."""
    near = range(page.number - around, page.number + around + 1)
    shown = sorted({1, page.last, *(n for n in near if 1 <= n <= page.last)})
    links: list[int | None] = []
    for n in shown:
        if links and n - links[-1] > 1:
            links.append(None)
        links.append(n)
    return links
