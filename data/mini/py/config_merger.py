"""Layer configuration: defaults, then a file, then the environment."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any


def merge(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return a new mapping in which extra wins; nested mappings are merged."""
    merged = deepcopy(dict(base))
    for key, value in extra.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = deepcopy(value)
    return merged


def guess_type(text: str) -> Any:
    """Interpret the text of an environment variable."""
    lowered = text.strip().lower()
    if lowered in ("true", "yes", "on"):
        return True
    if lowered in ("false", "no", "off"):
        return False
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def from_environment(environ: Mapping[str, str], prefix: str) -> dict[str, Any]:
    """Turn APP_DATABASE__PORT=5432 into {'database': {'port': 5432}}."""
    found: dict[str, Any] = {}
    for name, text in environ.items():
        if not name.startswith(prefix):
            continue
        *parents, leaf = name.removeprefix(prefix).lower().split("__")
        nested: dict[str, Any] = {leaf: guess_type(text)}
        for parent in reversed(parents):
            nested = {parent: nested}
        found = merge(found, nested)
    return found
