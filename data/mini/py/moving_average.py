"""Smoothing of noisy series, as generators that work on any stream."""

from collections import deque
from itertools import islice


def simple(stream, window):
    """Yield the mean of each full window of consecutive values."""
    if window < 1:
        raise ValueError("window must be at least 1")
    source = iter(stream)
    recent = deque(islice(source, window), maxlen=window)
    if len(recent) < window:
        return
    total = sum(recent)
    yield total / window
    for value in source:
        total += value - recent[0]
        recent.append(value)
        yield total / window


def exponential(stream, alpha=0.3):
    """Weigh the newest value by alpha and all the past by the rest."""
    if not 0 < alpha <= 1:
        raise ValueError("alpha must be in (0, 1]")
    level = None
    for value in stream:
        level = value if level is None else alpha * value + (1 - alpha) * level
        yield level


def running_median(stream, window):
    recent = deque(maxlen=window)
    for value in stream:
        recent.append(value)
        ranked = sorted(recent)
        half = len(ranked) // 2
        yield ranked[half] if len(ranked) % 2 else (ranked[half - 1] + ranked[half]) / 2


def crossings(fast, slow):
    """Indices at which the fast series moves from below to above the slow one."""
    above = [f > s for f, s in zip(fast, slow)]
    return [i for i in range(1, len(above)) if above[i] and not above[i - 1]]
