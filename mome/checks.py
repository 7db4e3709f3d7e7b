"""Checks of what a person gives: each error names the parameter, the value received and what is allowed."""

import dis
import math
import numbers
from pathlib import Path
from tempfile import TemporaryFile

OWN_FOLDER, RAISE = Path(__file__).parent, dis.opmap["RAISE_VARARGS"]


def is_number(value, kind=numbers.Real) -> bool:
    """True for a number of a kind; a bool is none."""
    return isinstance(value, kind) and not isinstance(value, bool)


def is_finite(value) -> bool:
    """True for a number that a float can hold, NaN and infinities left out."""
    try:
        return is_number(value) and math.isfinite(value)
    except OverflowError:  # a whole number of more than 308 digits
        return False


def check_choice(name: str, value, allowed) -> None:
    """Raise ValueError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{name}={value!r} is unknown; choose one of: {', '.join(map(str, allowed))}")


def check_range(name: str, value, low: float, high: float = math.inf, whole: bool = False) -> None:
    """Raise ValueError unless `value` is a number (a whole one on request) in [low, high]."""
    right_type = is_finite(value) and isinstance(value, int if whole else (int, float))
    if not right_type or not low <= value <= high:
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


def check_writable(name: str, path: Path) -> None:
    """Raise ValueError, which begins with `name`, unless a folder is there, or can be made, to be written."""
    path = Path(path).expanduser().absolute()
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    if not there.is_dir():
        raise ValueError(f"{name}={str(path)!r} is not allowed; {there} is a file, give a folder")
    try:
        with TemporaryFile(dir=there):
            return
    except OSError as error:
        told = error.strerror or error
    raise ValueError(f"{name}={str(path)!r} cannot be written ({told}); give another folder")


def find_raise(error: BaseException):
    """Return the innermost place of an error's traceback; None for one that was never raised."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return place


def is_sentence(error: BaseException) -> bool:
    """True where a `raise` of mome's own code, or of a cell of needs, made the error: written for people.

    The compiled code tells, as the file may have changed or be out of reach since it was loaded.
    """
    place = find_raise(error)
    if place is None:
        return False
    code = place.tb_frame.f_code
    is_own = code.co_filename.startswith("<needs of ") or Path(code.co_filename).is_relative_to(OWN_FOLDER)
    return is_own and code.co_code[place.tb_lasti] == RAISE


def describe_error(error: BaseException) -> str:
    """Return our own errors' sentence, of others type, text and place; of a full disk what to do."""
    if is_sentence(error):
        return str(error)
    place, told = find_raise(error), f"{type(error).__name__}: {error}"
    if place is not None:
        told += f" ({Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno})"
    return f"the disk is full, make room and try again: {told}" if "No space left" in told else told
