"""Two ways to limit how often something may happen."""

import time
from collections import defaultdict, deque
from collections.abc import Callable

Clock = Callable[[], float]


class TokenBucket:
    """Allows short bursts while holding the long run rate steady."""

    def __init__(self, rate: float, burst: int, clock: Clock = time.monotonic):
        self.rate = rate
        self.burst = burst
        self._clock = clock
        self._tokens = float(burst)
        self._updated = clock()

    def allow(self, cost: float = 1.0) -> bool:
        now = self._clock()
        gained = (now - self._updated) * self.rate
        self._tokens = min(self.burst, self._tokens + gained)
        self._updated = now
        if self._tokens < cost:
            return False
        self._tokens -= cost
        return True


class SlidingWindow:
    """Permits at most `limit` calls per client in any `period` seconds."""

    def __init__(self, limit: int, period: float, clock: Clock = time.monotonic):
        self.limit, self.period, self._clock = limit, period, clock
        self._seen: dict[str, deque[float]] = defaultdict(deque)

    def allow(self, client: str) -> bool:
        now, stamps = self._clock(), self._seen[client]
        while stamps and stamps[0] <= now - self.period:
            stamps.popleft()
        if len(stamps) >= self.limit:
            return False
        stamps.append(now)
        return True
