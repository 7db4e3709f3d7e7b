"""Summarise the columns of a CSV file: type, range and missing cells."""

import csv
import io
from dataclasses import dataclass, field


@dataclass
class Column:
    name: str
    missing: int = 0
    numbers: list[float] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def feed(self, cell: str | None) -> None:
        cell = (cell or "").strip()
        if not cell:
            self.missing += 1
            return
        try:
            self.numbers.append(float(cell))
        except ValueError:
            self.texts.append(cell)

    def describe(self) -> str:
        if self.texts:
            distinct = len(set(self.texts))
            return f"{self.name}: text, {distinct} distinct, {self.missing} missing"
        if self.numbers:
            low, high = min(self.numbers), max(self.numbers)
            return f"{self.name}: number {low:g}..{high:g}, {self.missing} missing"
        return f"{self.name}: empty"


def summarise(text: str) -> list[Column]:
    """Read CSV text with a header row and collect facts per column."""
    reader = csv.DictReader(io.StringIO(text))
    columns = [Column(name) for name in reader.fieldnames or []]
    for row in reader:
        for column in columns:
            column.feed(row[column.name])
    return columns
