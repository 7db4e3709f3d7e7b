"""Dice in the notation of role playing games, such as 3d6+2."""

import random
import re
from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction

NOTATION = re.compile(r"(\d*)d(\d+)([+-]\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Dice:
    count: int
    sides: int
    bonus: int = 0

    @classmethod
    def parse(cls, text: str) -> "Dice":
        match = NOTATION.fullmatch(text.replace(" ", ""))
        if match is None or int(match[2]) == 0:
            raise ValueError(f"cannot read dice from {text!r}")
        return cls(int(match[1] or 1), int(match[2]), int(match[3] or 0))

    def roll(self, rng: random.Random) -> int:
        return self.bonus + sum(rng.randint(1, self.sides) for _ in range(self.count))

    def odds(self) -> dict[int, Fraction]:
        """Exact probability of each total."""
        table = {self.bonus: Fraction(1)}
        for _ in range(self.count):
            longer: dict[int, Fraction] = defaultdict(Fraction)
            for total, chance in table.items():
                for face in range(1, self.sides + 1):
                    longer[total + face] += chance / self.sides
            table = dict(longer)
        return table

    def expected(self) -> Fraction:
        return self.bonus + self.count * Fraction(self.sides + 1, 2)


def chance_at_least(dice: Dice, target: int) -> float:
    return float(sum(p for total, p in dice.odds().items() if total >= target))
