"""Statistics that can be updated one observation at a time."""

from math import inf, sqrt


class RunningStats:
    """Mean and variance by Welford's method, which never stores the data."""

    def __init__(self):
        self.count = 0
        self.mean = 0.0
        self.low = inf
        self.high = -inf
        self._spread = 0.0

    def observe(self, x):
        self.count += 1
        delta = x - self.mean
        self.mean += delta / self.count
        self._spread += delta * (x - self.mean)
        self.low = min(self.low, x)
        self.high = max(self.high, x)
        return self

    @property
    def variance(self):
        """Sample variance; undefined until two values have been seen."""
        if self.count < 2:
            raise ValueError("variance needs at least two observations")
        return self._spread / (self.count - 1)

    @property
    def deviation(self):
        return sqrt(self.variance)

    def merge(self, other):
        """Return the statistics of both samples taken together."""
        joint = RunningStats()
        joint.count = self.count + other.count
        if joint.count == 0:
            return joint
        gap = other.mean - self.mean
        joint.mean = self.mean + gap * other.count / joint.count
        joint._spread = self._spread + other._spread
        joint._spread += gap * gap * self.count * other.count / joint.count
        joint.low, joint.high = min(self.low, other.low), max(self.high, other.high)
        return joint
