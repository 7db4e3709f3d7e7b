from functools import total_ordering

ABSOLUTE_ZERO = -273.15


@total_ordering
class Temperature:
    """A temperature held in kelvin and readable on any common scale."""

    def __init__(self, kelvin: float):
        if kelvin < 0:
            raise ValueError("nothing is colder than absolute zero")
        self.kelvin = kelvin

    @classmethod
    def from_celsius(cls, degrees: float):
        return cls(degrees - ABSOLUTE_ZERO)

    @classmethod
    def from_fahrenheit(cls, degrees: float):
        return cls.from_celsius((degrees - 32) * 5 / 9)

    @property
    def celsius(self) -> float:
        return self.kelvin + ABSOLUTE_ZERO

    @property
    def fahrenheit(self) -> float:
        return self.celsius * 9 / 5 + 32

    def __eq__(self, other):
        if not isinstance(other, Temperature):
            return NotImplemented
        return abs(self.kelvin - other.kelvin) < 1e-9

    def __lt__(self, other):
        if not isinstance(other, Temperature):
            return NotImplemented
        return self.kelvin < other.kelvin and self != other

    def __format__(self, spec: str) -> str:
        """Use the last letter of the format spec as the scale: c, f or k."""
        scale = (spec[-1:] or "c").lower()
        reading = {"c": self.celsius, "f": self.fahrenheit, "k": self.kelvin}[scale]
        mark = "K" if scale == "k" else "°" + scale.upper()
        return f"{reading:{spec[:-1] or '.1f'}} {mark}"
