"""Run callbacks at given times on a virtual clock."""

import heapq
from dataclasses import dataclass, field
from itertools import count
from typing import Callable


@dataclass(order=True)
class Job:
    due: float
    order: int
    action: Callable[[], object] = field(compare=False)
    every: float | None = field(default=None, compare=False)
    cancelled: bool = field(default=False, compare=False)


class Scheduler:
    def __init__(self) -> None:
        self.now = 0.0
        self._queue: list[Job] = []
        self._order = count()  # keeps jobs due together in insertion order

    def after(self, delay: float, action: Callable[[], object], every: float | None = None) -> Job:
        """Plan an action; give `every` to repeat it with that period."""
        if delay < 0 or (every is not None and every <= 0):
            raise ValueError("times must not run backwards")
        job = Job(self.now + delay, next(self._order), action, every)
        heapq.heappush(self._queue, job)
        return job

    def run_until(self, deadline: float) -> int:
        """Advance the clock to the deadline; return how many jobs ran."""
        ran = 0
        while self._queue and self._queue[0].due <= deadline:
            job = heapq.heappop(self._queue)
            if job.cancelled:
                continue
            self.now = job.due
            job.action()
            ran += 1
            if job.every is not None and not job.cancelled:
                job.due += job.every
                job.order = next(self._order)
                heapq.heappush(self._queue, job)
        self.now = max(self.now, deadline)
        return ran
