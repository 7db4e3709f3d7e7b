"""A typed stack and a bracket checker built on top of it."""

from typing import Generic, TypeVar

T = TypeVar("T")


class Stack(Generic[T]):
    """Last in, first out container backed by a list."""

    def __init__(self) -> None:
        self._items: list[T] = []

    def push(self, item: T) -> None:
        self._items.append(item)

    def pop(self) -> T:
        if not self._items:
            raise IndexError("pop from an empty stack")
        return self._items.pop()

    def peek(self) -> T | None:
        return self._items[-1] if self._items else None

    def __len__(self) -> int:
        return len(self._items)


PAIRS = {")": "(", "]": "[", "}": "{"}


def is_balanced(source: str) -> bool:
    """Return True when every bracket in source closes in the right order."""
    opened: Stack[str] = Stack()
    for char in source:
        if char in PAIRS.values():
            opened.push(char)
        elif char in PAIRS:
            if opened.peek() != PAIRS[char]:
                return False
            opened.pop()
    return len(opened) == 0
