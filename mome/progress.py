"""How far something is: a bar where a person watches, a report to the engine within a task, else nothing."""

import time
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from contextvars import ContextVar

from mome.config import is_batch

_listener: ContextVar[Callable[[dict], None] | None] = ContextVar("listener", default=None)
SECONDS_BETWEEN_REPORTS = 0.5


@contextmanager
def heard_by(listener: Callable[[dict], None]):
    """Within, progress is told to `listener` as {"text", "done", "total", "note"}; no bar is drawn."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


class Progress:
    """How many of `total` steps are done. `resumed` were done before, by an interrupted build."""

    def __init__(self, text: str, total: int, resumed: int = 0):
        self.text, self.total, self.done, self.note = text, total, resumed, ""
        self.listener, self.reported, self.bar = _listener.get(), 0.0, None
        if self.listener is None and not is_batch():
            from tqdm import tqdm  # a text: a widget is dead when a notebook is opened again

            self.bar = tqdm(total=total, initial=resumed, desc=text, leave=False, delay=1)

    def update(self, note: str = "", n: int = 1) -> None:
        self.done, self.note = self.done + n, note or self.note
        if self.bar is not None:
            if note:
                self.bar.set_postfix_str(note, refresh=False)
            self.bar.update(n)
        elif self.listener and time.monotonic() - self.reported > SECONDS_BETWEEN_REPORTS:
            self.reported = time.monotonic()
            self.listener({"text": self.text, "done": self.done, "total": self.total, "note": self.note})


@contextmanager
def progress(text: str, total: int, resumed: int = 0):
    """Yield a `Progress` that starts at `resumed`, and close its bar whatever happens."""
    shown = Progress(text, total, resumed)
    try:
        yield shown
    finally:
        if shown.bar is not None:
            shown.bar.close()


def track(items: Iterable, text: str, total: int):
    """Yield the items, moving by one for each."""
    with progress(text, total) as shown:
        for item in items:
            yield item
            shown.update()
