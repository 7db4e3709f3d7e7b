"""Polynomials in one variable, stored from the constant term upward."""

from __future__ import annotations

from itertools import zip_longest


class Polynomial:
    def __init__(self, *coefficients: float):
        trimmed = list(coefficients)
        while len(trimmed) > 1 and trimmed[-1] == 0:
            trimmed.pop()
        self.coefficients = tuple(trimmed) or (0,)

    @property
    def degree(self) -> int:
        return len(self.coefficients) - 1

    def __call__(self, x: float) -> float:
        """Evaluate at x with Horner's scheme."""
        total = 0.0
        for coefficient in reversed(self.coefficients):
            total = total * x + coefficient
        return total

    def __add__(self, other: Polynomial) -> Polynomial:
        pairs = zip_longest(self.coefficients, other.coefficients, fillvalue=0)
        return Polynomial(*(a + b for a, b in pairs))

    def __mul__(self, other: Polynomial) -> Polynomial:
        product = [0.0] * (self.degree + other.degree + 1)
        for i, a in enumerate(self.coefficients):
            for j, b in enumerate(other.coefficients):
                product[i + j] += a * b
        return Polynomial(*product)

    def derivative(self) -> Polynomial:
        return Polynomial(*(k * c for k, c in enumerate(self.coefficients) if k))

    def __str__(self) -> str:
        terms = []
        for power, c in enumerate(self.coefficients):
            if c:
                terms.append({0: f"{c:g}", 1: f"{c:g}x"}.get(power, f"{c:g}x^{power}"))
        return " + ".join(reversed(terms)) or "0"
