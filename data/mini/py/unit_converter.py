"""Convert lengths, masses and volumes by way of a base unit."""

from typing import Final

# Each table gives the size of a unit measured in the base unit of its kind.
TABLES: Final = {
    "length": {
        "mm": 0.001, "cm": 0.01, "m": 1.0, "km": 1000.0,
        "in": 0.0254, "ft": 0.3048, "yd": 0.9144, "mi": 1609.344,
    },
    "mass": {"g": 0.001, "kg": 1.0, "t": 1000.0, "oz": 0.028349523125, "lb": 0.45359237},
    "volume": {"ml": 0.001, "l": 1.0, "cup": 0.2365882365, "gal": 3.785411784},
}


class IncompatibleUnits(TypeError):
    """The two units measure different kinds of quantity."""


def kind_of(unit: str) -> str:
    for kind, table in TABLES.items():
        if unit in table:
            return kind
    raise KeyError(f"unknown unit {unit!r}")


def convert(amount: float, source: str, target: str) -> float:
    kind = kind_of(source)
    if kind_of(target) != kind:
        raise IncompatibleUnits(f"{source} and {target} cannot be compared")
    table = TABLES[kind]
    return amount * table[source] / table[target]


def best_unit(amount: float, unit: str, candidates: list[str]) -> tuple[float, str]:
    """Pick the largest candidate that still shows at least one whole unit."""
    converted = [(convert(amount, unit, other), other) for other in candidates]
    readable = [pair for pair in converted if abs(pair[0]) >= 1]
    if readable:
        return min(readable, key=lambda pair: abs(pair[0]))
    return max(converted, key=lambda pair: abs(pair[0]))
