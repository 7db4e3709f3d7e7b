"""Lay out rows as a table of plain text."""

from typing import Any, Sequence


def cell_text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.2f}"
    return str(value)


def is_numeric(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def render(headers: Sequence[str], rows: Sequence[Sequence[Any]], gap: str = "  ") -> str:
    """Return the table; columns that hold only numbers are aligned right."""
    for row in rows:
        if len(row) != len(headers):
            raise ValueError(f"expected {len(headers)} cells, got {len(row)}")
    body = [[cell_text(value) for value in row] for row in rows]
    widths, right = [], []
    for k, header in enumerate(headers):
        widths.append(max([len(header), *(len(line[k]) for line in body)]))
        right.append(bool(rows) and all(is_numeric(row[k]) for row in rows))

    def layout(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(cells, widths, right)
        )
        return gap.join(padded).rstrip()

    rule = gap.join("-" * width for width in widths)
    return "\n".join([layout(headers), rule, *map(layout, body)])


def render_dicts(records: Sequence[dict[str, Any]]) -> str:
    """Build headers from the keys, in order of first appearance."""
    headers = list(dict.fromkeys(key for record in records for key in record))
    return render(headers, [[record.get(h) for h in headers] for record in records])
