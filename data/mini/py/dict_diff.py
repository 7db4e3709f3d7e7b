# Compare two nested dictionaries and apply the difference later on.
from enum import Enum
from typing import Any, NamedTuple


class Kind(Enum):
    ADDED = "+"
    REMOVED = "-"
    CHANGED = "~"


class Change(NamedTuple):
    kind: Kind
    path: tuple
    old: Any = None
    new: Any = None

    def __str__(self):
        where = ".".join(map(str, self.path))
        tail = {
            Kind.ADDED: f" = {self.new!r}",
            Kind.CHANGED: f": {self.old!r} -> {self.new!r}",
        }
        return f"{self.kind.value} {where}{tail.get(self.kind, '')}"


def diff(old: dict, new: dict, path: tuple = ()) -> list[Change]:
    changes = [Change(Kind.REMOVED, (*path, k), old=old[k]) for k in old if k not in new]
    for key, value in new.items():
        here = (*path, key)
        if key not in old:
            changes.append(Change(Kind.ADDED, here, new=value))
        elif isinstance(value, dict) and isinstance(old[key], dict):
            changes += diff(old[key], value, here)
        elif old[key] != value:
            changes.append(Change(Kind.CHANGED, here, old[key], value))
    return changes


def patch(target: dict, changes: list[Change]) -> None:
    """Apply changes to target in place."""
    for change in changes:
        *parents, leaf = change.path
        spot = target
        for name in parents:
            spot = spot[name]
        if change.kind is Kind.REMOVED:
            del spot[leaf]
        else:
            spot[leaf] = change.new
