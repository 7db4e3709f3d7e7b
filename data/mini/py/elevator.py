"""An elevator that sweeps up and down, serving calls along its way."""

from enum import IntEnum


class Direction(IntEnum):
    DOWN = -1
    IDLE = 0
    UP = 1


class Elevator:
    def __init__(self, floors: int, at: int = 0):
        self.floors = floors
        self.at = at
        self.direction = Direction.IDLE
        self.calls: set[int] = set()
        self.log: list[str] = []

    def call(self, floor: int) -> None:
        """Press the button on a floor."""
        if not 0 <= floor < self.floors:
            raise ValueError(f"there is no floor {floor}")
        self.calls.add(floor)

    def _choose_direction(self) -> Direction:
        if not self.calls:
            return Direction.IDLE
        above = any(floor > self.at for floor in self.calls)
        below = any(floor < self.at for floor in self.calls)
        if self.direction is Direction.DOWN:
            return Direction.DOWN if below else Direction.UP
        return Direction.UP if above else Direction.DOWN

    def tick(self) -> None:
        """Open the doors if this floor was called, otherwise move one floor."""
        if self.at in self.calls:
            self.calls.remove(self.at)
            self.log.append(f"open {self.at}")
            return
        self.direction = self._choose_direction()
        self.at += self.direction

    def run(self) -> list[str]:
        while self.calls:
            self.tick()
        self.direction = Direction.IDLE
        return self.log
