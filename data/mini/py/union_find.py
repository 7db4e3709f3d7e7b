"""Disjoint sets with path halving and union by size.

The structure answers one question quickly: are two things connected?
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable


class UnionFind:
    def __init__(self, members: Iterable[Hashable] = ()):
        self._parent: dict[Hashable, Hashable] = {}
        self._size: dict[Hashable, int] = {}
        for member in members:
            self.add(member)

    def add(self, member: Hashable) -> None:
        if member not in self._parent:
            self._parent[member] = member
            self._size[member] = 1

    def find(self, member: Hashable) -> Hashable:
        """Return the representative of the set that holds member."""
        parent = self._parent
        while parent[member] != member:
            parent[member] = parent[parent[member]]
            member = parent[member]
        return member

    def union(self, a: Hashable, b: Hashable) -> bool:
        """Join two sets; False means they were one set already."""
        big, small = self.find(a), self.find(b)
        if big == small:
            return False
        if self._size[big] < self._size[small]:
            big, small = small, big
        self._parent[small] = big
        self._size[big] += self._size.pop(small)
        return True

    def groups(self) -> list[set[Hashable]]:
        gathered: dict[Hashable, set[Hashable]] = defaultdict(set)
        for member in self._parent:
            gathered[self.find(member)].add(member)
        return list(gathered.values())
