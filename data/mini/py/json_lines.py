"""Read, write and filter files that hold one JSON object per line."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

Record = dict[str, Any]


def read(stream: TextIO, strict: bool = True) -> Iterator[Record]:
    """Yield records; with strict=False damaged lines are passed over."""
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            if strict:
                raise ValueError(f"line {number} is not JSON: {error.msg}") from error
            continue
        if isinstance(record, dict):
            yield record
        elif strict:
            raise ValueError(f"line {number} is not an object")


def write(stream: TextIO, records: Iterable[Record]) -> int:
    written = 0
    for record in records:
        stream.write(json.dumps(record, ensure_ascii=False, sort_keys=True))
        stream.write("\n")
        written += 1
    return written


def where(records: Iterable[Record], **wanted: Any) -> Iterator[Record]:
    """Keep the records whose fields equal all of the wanted values."""
    return (r for r in records if all(r.get(k) == v for k, v in wanted.items()))


def load(path: Path) -> list[Record]:
    with path.open(encoding="utf-8") as stream:
        return list(read(stream))
