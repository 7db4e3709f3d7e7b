# A singly linked list that can be iterated, reversed and searched.

from dataclasses import dataclass
from typing import Any, Iterable, Iterator, Optional


@dataclass
class Node:
    value: Any
    next: Optional["Node"] = None


class LinkedList:
    """Chain of nodes reached from a single head reference."""

    def __init__(self, values: Iterable[Any] = ()):
        self.head: Optional[Node] = None
        for value in reversed(list(values)):
            self.prepend(value)

    def prepend(self, value: Any) -> None:
        self.head = Node(value, self.head)

    def __iter__(self) -> Iterator[Any]:
        current = self.head
        while current is not None:
            yield current.value
            current = current.next

    def reverse(self) -> None:
        """Turn the chain around in place."""
        previous = None
        current = self.head
        while current is not None:
            current.next, previous, current = previous, current, current.next
        self.head = previous

    def remove(self, value: Any) -> bool:
        """Drop the first node holding value; report whether one was found."""
        anchor = Node(None, self.head)
        before = anchor
        while before.next is not None:
            if before.next.value == value:
                before.next = before.next.next
                self.head = anchor.next
                return True
            before = before.next
        return False
