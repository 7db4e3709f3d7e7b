"""Retry a flaky function with growing pauses between attempts."""

import functools
import time


class GaveUp(Exception):
    """All attempts failed; the last error is kept as the cause."""


def delays(first, factor, ceiling):
    """Yield pauses that grow geometrically up to a ceiling."""
    pause = first
    while True:
        yield min(pause, ceiling)
        pause *= factor


def retry(attempts=3, on=(Exception,), first=0.1, factor=2.0, ceiling=10.0, sleep=time.sleep):
    """Decorator factory.

    The sleep function is a parameter so that tests need not really wait.
    """
    if attempts < 1:
        raise ValueError("at least one attempt is required")

    def decorate(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            pauses = delays(first, factor, ceiling)
            for attempt in range(1, attempts + 1):
                try:
                    return function(*args, **kwargs)
                except on as error:
                    if attempt == attempts:
                        name = function.__name__
                        raise GaveUp(f"{name} failed {attempts} times") from error
                sleep(next(pauses))

        return wrapper

    return decorate
