"""What a person left as it is, fitted to the languages that were given; what was chosen stays, or is refused.
"""

from collections.abc import Callable

from mome.scales import SCALES, resolve_scale

# The notebooks' own values of what depends on the number or the names of the languages.
USUAL = {"language": "en", "added_language": "es", "imbalance": [4.0, 3.0, 2.0, 1.0],
         "kinds": ["student", "JEET", "teacher"]}
ADDED = ("es", "it")  # both are in every corpus, or in mini


def fit_defaults(notebook: str, values: dict, chosen, tell: Callable[[str], None]) -> dict:
    """Return a notebook's values, those that nobody chose fitted to its languages; each is told in a line.

    Not chosen is what does not stand in `chosen` and has the workbook's own value.
    """
    languages, fitted = values["languages"], {}
    left = {name for name, value in USUAL.items()
            if name in values and name not in chosen and values[name] == value}
    if "language" in left and "en" not in languages:
        fitted["language"] = languages[0]
    if "added_language" in left and "es" in languages:
        fitted["added_language"] = next((name for name in ADDED if name not in languages), "")
    if "imbalance" in left and len(languages) not in (1, len(USUAL["imbalance"])):
        fitted["imbalance"] = spread_shares(len(languages))
    if "kinds" in left and len(languages) < 2:
        fitted["kinds"] = [kind for kind in USUAL["kinds"] if kind != "JEET"]
    for name, value in fitted.items():
        tell(f"{notebook}: {name}={value!r} in place of {USUAL[name]!r}, for languages={languages!r}")
    overrides = share_batches(values["scale"], values["overrides"], languages, tell)
    return {**values, **fitted, "overrides": overrides}


def spread_shares(n: int) -> list[float]:
    """Return n shares, evenly from the first of the usual ones down to the last."""
    first, last = USUAL["imbalance"][0], USUAL["imbalance"][-1]
    return [round(first - (first - last) * place / (n - 1), 3) for place in range(n)]


def share_batches(scale: str, overrides: dict, languages, tell: Callable[[str], None]) -> dict:
    """Return the overrides, with a batch that the languages can share where none was chosen.

    It is the even multiple of their number nearest to the scale's: both losses of chapter 3 take halves.
    """
    resolved, n = resolve_scale(scale, overrides), len(languages)
    if "batch_size" in overrides or resolved.batch_size % n == 0:
        return overrides
    usual, micro = SCALES[scale].batch_size, resolved.micro_batch_size
    least = micro if "micro_batch_size" in overrides else 1
    sizes = [size for size in range(n, usual + micro + 2 * n, n) if size % 2 == 0 and size >= least]
    size = min(sizes, key=lambda size: abs(size - usual))
    tell(f"batch_size={size} in place of {usual}, which {n} languages cannot share")
    return overrides | {"batch_size": size, "micro_batch_size": min(micro, size)}
