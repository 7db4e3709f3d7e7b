"""Measure a directory and draw it as a tree."""

import os
from collections import Counter
from pathlib import Path


def human_size(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def total_size(folder: Path) -> int:
    """Sum the sizes of all regular files below folder, ignoring links."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if not path.is_symlink():
                total += path.stat().st_size
    return total


def size_by_extension(folder: Path) -> Counter[str]:
    usage: Counter[str] = Counter()
    for path in folder.rglob("*"):
        if path.is_file():
            usage[path.suffix.lower() or "(none)"] += path.stat().st_size
    return usage


def draw(folder: Path, depth: int = 2, indent: str = "") -> list[str]:
    """Return the lines of an indented listing, folders before files."""
    lines = []
    entries = sorted(folder.iterdir(), key=lambda p: (p.is_file(), p.name))
    for entry in entries:
        is_folder = entry.is_dir() and not entry.is_symlink()
        lines.append(f"{indent}{entry.name}{'/' if is_folder else ''}")
        if is_folder and depth > 1:
            lines.extend(draw(entry, depth - 1, indent + "    "))
    return lines
