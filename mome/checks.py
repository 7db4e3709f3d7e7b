"""Checks of what a person gives: each error names the parameter, the value received and what is allowed."""

import math
import traceback
from pathlib import Path


def check_choice(name: str, value, allowed) -> None:
    """Raise ValueError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{name}={value!r} is unknown; choose one of: {', '.join(map(str, allowed))}")


def check_range(name: str, value, low: float, high: float = math.inf, whole: bool = False) -> None:
    """Raise ValueError unless `value` is a number (a whole one on request) in [low, high]."""
    right_type = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not right_type or not math.isfinite(value) or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        limits = f"in [{low:g}, {high:g}]" if high != math.inf else f"of at least {low:g}"
        raise ValueError(f"{name}={value!r} is not allowed; it must be {kind} {limits}")


def check_seeds(seeds, name: str = "seeds") -> list[int]:
    """Return `seeds` as a list of ints; ValueError for an empty list, repeats, negative or broken values."""
    if isinstance(seeds, str):
        parts = [part.strip() for part in seeds.split(",")]
        if not all(part.isdecimal() for part in parts):
            raise ValueError(f"{name}={seeds!r} is not allowed; give whole numbers such as 0,1,2")
        seeds = [int(part) for part in parts]
    if not isinstance(seeds, list) or not seeds:
        raise ValueError(f"{name}={seeds!r} is not allowed; give a list of whole numbers, such as [0, 1, 2]")
    for seed in seeds:
        check_range(name, seed, 0, 2**31 - 1, whole=True)
    if len(set(seeds)) != len(seeds):
        raise ValueError(f"{name}={seeds!r} repeats a seed; every seed may stand once")
    return seeds


def check_shares(shares, languages=None) -> None:
    """Raise ValueError unless `shares` is "equal", "imbalanced" or, as mapping or pairs, positive numbers."""
    if shares in ("equal", "imbalanced"):
        return
    if isinstance(shares, str) or not shares:
        raise ValueError(f"shares={shares!r} is not allowed; give equal, imbalanced, or a number for every "
                         "language, for example {'en': 2, 'fr': 1}")
    for language, share in dict(shares).items():
        check_range(f"shares[{language!r}]", share, 1e-6)
    if languages is not None and set(dict(shares)) != set(languages):
        raise ValueError(f"shares={shares!r} is not allowed; it must name each of: {', '.join(languages)}")


def is_sentence(error: BaseException) -> bool:
    """True where a `raise` of mome's own code made the error: its text is then written for people."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return Path(frame.filename).is_relative_to(Path(__file__).parent) and frame.line.startswith("raise ")


def describe_error(error: BaseException) -> str:
    """Return our own errors' sentence, of others type, text and place; of a full disk what to do."""
    if is_sentence(error):
        return str(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    told = f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"
    return f"the disk is full, make room and try again: {told}" if "No space left" in told else told
