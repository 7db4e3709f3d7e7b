"""What a build shows: a live table in JupyterLab, a line in a terminal, one now and then in a log."""

import html
import shutil
import sys
import time

from mome.config import is_batch

SECONDS_BETWEEN_LOG_LINES, LOG_WIDTH = 20, 160
CLEAR = "\r\033[K"  # of a terminal's line


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def format_seconds(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


class Board:
    """What is under way: `note` takes the engine's events, `draw` shows it and is called every second."""

    def __init__(self, total: int, seconds: float):
        self.total, self.expected, self.done = total, seconds, 0
        self.running: dict[str, dict] = {}
        self.started, self.drawn, self.handle = time.monotonic(), 0.0, None
        self.is_lab = not is_batch() and is_notebook()
        self.is_watched = sys.stderr.isatty() and not self.is_lab

    def note(self, event: dict) -> None:
        """Take {"name", "title", "state"}, progress {"name", "done", "total", "note"} or {"name", "said"}."""
        name = event["name"]
        if "said" in event:
            say(f"{CLEAR if self.is_watched else ''}{event['said']}")
        if event.get("state") in ("built", "failed"):
            self.running.pop(name, None)
            self.done += event["state"] == "built"
        else:
            self.running.setdefault(name, {}).update(event)

    def draw(self, is_last: bool = False) -> None:
        spent = time.monotonic() - self.started
        clock, left = format_seconds(spent), self.expected - spent
        left = f" · about {format_seconds(left)} left" if left > 1 else ""
        tasks = [describe_task(task) for task in list(self.running.values())]
        line = " · ".join([f"[{self.done}/{self.total}] {clock}", *tasks]) + left
        if self.is_lab:
            rows = "".join(f"<tr><td>{html.escape(task)}</td></tr>" for task in tasks)
            self.show(f"<b>built {self.done} of {self.total}</b> · {clock}{left}<table>{rows}</table>")
        elif self.is_watched:
            text = "" if is_last else line[:shutil.get_terminal_size().columns - 1]
            print(f"{CLEAR}{text}", end="", file=sys.stderr, flush=True)
        elif not is_last and time.monotonic() - self.drawn > SECONDS_BETWEEN_LOG_LINES:
            self.drawn = time.monotonic()
            say(line[:LOG_WIDTH])

    def show(self, page: str) -> None:
        from IPython.display import HTML, display

        if self.handle is None:
            self.handle = display(HTML(page), display_id=True)
        else:
            self.handle.update(HTML(page))


def describe_task(task: dict) -> str:
    count = f" {task['done']}/{task['total']}" if "total" in task else ""
    return f"{task.get('title', '')}{count} {task.get('note', '')}".strip()


def is_notebook() -> bool:
    """True in a Jupyter kernel."""
    shell = sys.modules.get("IPython")
    return shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"
