"""Immutable vectors in three dimensions."""

from __future__ import annotations

import math
from typing import NamedTuple


class Vec(NamedTuple):
    x: float
    y: float
    z: float = 0.0

    def plus(self, other: Vec) -> Vec:
        return Vec(self.x + other.x, self.y + other.y, self.z + other.z)

    def minus(self, other: Vec) -> Vec:
        return self.plus(other.scaled(-1))

    def scaled(self, factor: float) -> Vec:
        return Vec(*(factor * part for part in self))

    def dot(self, other: Vec) -> float:
        return sum(a * b for a, b in zip(self, other))

    def cross(self, other: Vec) -> Vec:
        """Vector at right angles to both operands."""
        return Vec(
            self.y * other.z - self.z * other.y,
            self.z * other.x - self.x * other.z,
            self.x * other.y - self.y * other.x,
        )

    def length(self) -> float:
        return math.hypot(*self)

    def unit(self) -> Vec:
        size = self.length()
        if size == 0:
            raise ZeroDivisionError("the zero vector has no direction")
        return self.scaled(1 / size)

    def angle_to(self, other: Vec) -> float:
        """Angle between two vectors in degrees, from 0 to 180."""
        cosine = self.unit().dot(other.unit())
        return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))
