"""A Bloom filter: a compact set that may err, but only on the yes side."""

import hashlib
from math import ceil, exp, log


class BloomFilter:
    def __init__(self, expected: int, error_rate: float = 0.01):
        if expected < 1 or not 0 < error_rate < 1:
            raise ValueError("need expected >= 1 and 0 < error_rate < 1")
        self.size = ceil(-expected * log(error_rate) / log(2) ** 2)
        self.hashes = max(1, round(self.size / expected * log(2)))
        self.added = 0
        self._bits = bytearray((self.size + 7) // 8)

    def _positions(self, key: str):
        """Derive all positions from two halves of a single digest."""
        raw = hashlib.blake2b(key.encode("utf-8"), digest_size=16).digest()
        first = int.from_bytes(raw[:8], "big")
        second = int.from_bytes(raw[8:], "big") | 1
        for k in range(self.hashes):
            yield (first + k * second) % self.size

    def add(self, key: str) -> None:
        for position in self._positions(key):
            self._bits[position // 8] |= 1 << position % 8
        self.added += 1

    def __contains__(self, key: str) -> bool:
        return all(self._bits[p // 8] >> p % 8 & 1 for p in self._positions(key))

    def false_positive_rate(self) -> float:
        """Estimate the error rate from the number of keys added so far."""
        filled = 1 - exp(-self.hashes * self.added / self.size)
        return filled**self.hashes
