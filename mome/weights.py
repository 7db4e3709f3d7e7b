"""What this process has read of the store: a bundle leaves out large weights that no notebook reads."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from mome import store
from mome.config import store_dir

_rows: dict[str, set[int]] = defaultdict(set)  # of cached targets; of other weights none are noted


def open_weights(folder: Path) -> Path:
    """Return a folder whose weights are about to be read; NotBuilt where a bundle has left them out."""
    folder = Path(folder)
    if folder.parent == store_dir() and (left_out := store.list_left_out(folder)):
        raise store.NotBuilt(f"{folder} came from a bundle without {', '.join(left_out)}, which no notebook "
                             "read; delete the folder, and the next build makes it again")
    note_read(folder)
    return folder


def note_read(folder: Path, rows: Iterable[int] = ()) -> None:
    if folder.parent == store_dir():
        _rows[folder.name].update(rows)


def list_read() -> dict:
    """Return {"found": names of what was read of the store, "weights": {name: rows of its targets}}."""
    return {"found": sorted({path.name for path in store.checked}),
            "weights": {name: sorted(rows) for name, rows in sorted(_rows.items())}}
