"""Least recently used cache with hit and miss counters."""

from collections import OrderedDict
from typing import Callable


class LRUCache:
    """Keeps at most `capacity` entries and forgets the stalest one first."""

    def __init__(self, capacity: int):
        if capacity < 1:
            raise ValueError("capacity must be positive")
        self.capacity = capacity
        self.hits = 0
        self.misses = 0
        self._entries: OrderedDict = OrderedDict()

    def get(self, key, default=None):
        try:
            self._entries.move_to_end(key)
        except KeyError:
            self.misses += 1
            return default
        self.hits += 1
        return self._entries[key]

    def put(self, key, value) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self.capacity:
            self._entries.popitem(last=False)

    def get_or_compute(self, key, compute: Callable):
        """Look key up, calling compute(key) only when it is absent."""
        marker = object()
        found = self.get(key, marker)
        if found is marker:
            found = compute(key)
            self.put(key, found)
        return found

    @property
    def hit_rate(self) -> float:
        lookups = self.hits + self.misses
        return self.hits / lookups if lookups else 0.0
