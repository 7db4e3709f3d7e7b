from __future__ import annotations

from bisect import bisect_right


class IntervalSet:
    """A set of numbers stored as sorted, disjoint half-open intervals."""

    def __init__(self) -> None:
        self.spans: list[tuple[float, float]] = []

    def add(self, low: float, high: float) -> None:
        """Insert [low, high), merging every span it touches."""
        if low >= high:
            raise ValueError(f"bad interval: [{low}, {high})")
        kept = []
        for start, end in self.spans:
            if end < low or start > high:
                kept.append((start, end))
            else:
                low, high = min(low, start), max(high, end)
        kept.append((low, high))
        self.spans = sorted(kept)

    def remove(self, low: float, high: float) -> None:
        """Cut [low, high) out, splitting spans where needed."""
        remaining = []
        for start, end in self.spans:
            if start < low:
                remaining.append((start, min(end, low)))
            if end > high:
                remaining.append((max(start, high), end))
        # A span clear of the cut falls into exactly one of the two cases.
        self.spans = [span for span in remaining if span[0] < span[1]]

    def __contains__(self, point: float) -> bool:
        index = bisect_right(self.spans, (point, float("inf"))) - 1
        return index >= 0 and self.spans[index][0] <= point < self.spans[index][1]

    def total(self) -> float:
        return sum(end - start for start, end in self.spans)
