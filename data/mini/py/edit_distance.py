"""Levenshtein distance and a tiny spelling helper."""

from functools import lru_cache


def distance(source: str, target: str) -> int:
    """Fewest single letter edits that turn source into target."""
    previous = list(range(len(target) + 1))
    for i, a in enumerate(source, start=1):
        row = [i]
        for j, b in enumerate(target, start=1):
            delete = previous[j] + 1
            insert = row[j - 1] + 1
            substitute = previous[j - 1] + (a != b)
            row.append(min(delete, insert, substitute))
        previous = row
    return previous[-1]


def common_subsequence(left: str, right: str) -> str:
    """Return one longest string whose letters occur in order in both."""

    @lru_cache(maxsize=None)
    def solve(i: int, j: int) -> str:
        if i == len(left) or j == len(right):
            return ""
        if left[i] == right[j]:
            return left[i] + solve(i + 1, j + 1)
        return max(solve(i + 1, j), solve(i, j + 1), key=len)

    return solve(0, 0)


def suggest(word: str, dictionary: list[str], limit: int = 3) -> list[str]:
    """Offer the dictionary entries closest to a misspelled word."""
    worst = max(1, len(word) // 2)
    scored = [(distance(word, entry), entry) for entry in dictionary]
    return [entry for edits, entry in sorted(scored) if edits <= worst][:limit]
