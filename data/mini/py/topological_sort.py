"""Order tasks so that each one comes after everything it depends on."""

from collections import defaultdict


class CycleError(ValueError):
    def __init__(self, stuck):
        super().__init__("circular dependency among: " + ", ".join(sorted(stuck)))
        self.stuck = stuck


def layers(needs):
    """Group tasks into waves; the tasks of one wave can run side by side.

    The argument maps each task to the names of the tasks it needs.
    """
    waiting = {task: set(before) for task, before in needs.items()}
    for before in needs.values():
        for task in before:
            waiting.setdefault(task, set())
    unlocks = defaultdict(list)
    for task, before in waiting.items():
        for other in before:
            unlocks[other].append(task)

    ready = sorted(task for task, before in waiting.items() if not before)
    waves = []
    while ready:
        waves.append(ready)
        upcoming = []
        for done in ready:
            del waiting[done]
            for task in unlocks[done]:
                waiting[task].discard(done)
                if not waiting[task]:
                    upcoming.append(task)
        ready = sorted(upcoming)
    if waiting:
        raise CycleError(set(waiting))
    return waves


def order(needs):
    return [task for wave in layers(needs) for task in wave]
