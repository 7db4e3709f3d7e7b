"""A publish and subscribe bus with wildcard topics."""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

Handler = Callable[[str, Any], None]


@dataclass(eq=False)
class Subscription:
    pattern: str
    handler: Handler
    once: bool = False


class EventBus:
    def __init__(self) -> None:
        self._subscriptions: list[Subscription] = []

    def subscribe(self, pattern: str, handler: Handler, once: bool = False) -> Callable[[], None]:
        """Register a handler and return a function that cancels it."""
        entry = Subscription(pattern, handler, once)
        self._subscriptions.append(entry)

        def cancel() -> None:
            if entry in self._subscriptions:
                self._subscriptions.remove(entry)

        return cancel

    def on(self, pattern: str) -> Callable[[Handler], Handler]:
        """Decorator form of subscribe."""

        def register(handler: Handler) -> Handler:
            self.subscribe(pattern, handler)
            return handler

        return register

    def publish(self, topic: str, payload: Any = None) -> int:
        """Call all matching handlers and return how many there were."""
        matching = [s for s in self._subscriptions if fnmatchcase(topic, s.pattern)]
        for entry in matching:
            if entry.once:
                self._subscriptions.remove(entry)
            entry.handler(topic, payload)
        return len(matching)
