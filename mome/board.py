"""What a build shows: a live table in JupyterLab, a line in a terminal, one now and then in a log."""

import html
import shutil
import sys
import time

from mome.config import is_batch

SECONDS_BETWEEN_LOG_LINES, LOG_WIDTH = 20, 160
PRIOR_SECONDS = 10.0  # as if so much had been built as fast as planned
CLEAR = "\r\033[K"  # of a terminal's line


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def format_seconds(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


class Board:
    """What is under way: `note` takes the engine's events, `draw` shows it and is called every second.

    `planned` are the seconds that each recipe may take, by name; `wall` those of all on this many workers.
    """

    def __init__(self, planned: dict[str, float], wall: float):
        self.total, self.planned, self.wall, self.done = len(planned), planned, wall, 0
        self.running: dict[str, dict] = {}
        self.ended: dict[str, tuple[float, float]] = {}  # {name: seconds that it took, and was planned for}
        self.started, self.drawn, self.handle = time.monotonic(), 0.0, None
        self.is_lab = not is_batch() and is_notebook()
        self.is_watched = sys.stderr.isatty() and not self.is_lab

    def note(self, event: dict) -> None:
        """Take {"name", "title", "state"}, progress {"name", "done", "total", "note"} or {"name", "said"}."""
        name, now = event["name"], time.monotonic()
        if "said" in event:
            say(f"{CLEAR if self.is_watched else ''}{event['said']}")
        if event.get("state") in ("built", "failed"):
            task = self.running.pop(name, {})
            self.ended[name] = self.measure(name, task | {"done": 1, "total": 1}) if task else (0.0, 0.0)
            self.done += event["state"] == "built"
            return
        task = self.running.setdefault(name, {"since": now})
        task.update(event)
        if event.get("state") == "running":  # it has its core
            task["since"] = now
        if "done" in event:
            task.setdefault("resumed", event["done"] / max(1, event["total"]))

    def measure(self, name: str, task: dict) -> tuple[float, float]:
        """Return a task's seconds so far, and those planned for what it did in them; none where unknown."""
        if "total" not in task:
            return 0.0, 0.0
        part = task["done"] / max(1, task["total"]) - task.get("resumed", 0.0)
        return time.monotonic() - task["since"], self.planned.get(name, 0.0) * part

    def estimate_left(self) -> float:
        """Return about how many seconds are left: the plan's, as much longer as all took so far than planned.

        Plans know the speed at which this store was built before; a first GPU may be a thousand times faster.
        """
        running = {name: (self.measure(name, task), task) for name, task in list(self.running.items())}
        times = [*self.ended.values(), *(measured for measured, _ in running.values())]
        spent, through = (PRIOR_SECONDS + sum(column) for column in zip((0.0, 0.0), *times, strict=True))
        done = sum(self.planned.get(name, 0.0) for name in self.ended)
        done += sum(self.planned.get(name, 0.0) * task["done"] / max(1, task["total"])
                    for name, (_, task) in running.items() if "total" in task)
        return self.wall * max(0.0, 1 - done / max(1e-9, sum(self.planned.values()))) * spent / through

    def draw(self, is_last: bool = False) -> None:
        clock, left = format_seconds(time.monotonic() - self.started), self.estimate_left()
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
