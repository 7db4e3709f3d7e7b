"""Stable merge sort, written from the bottom up, and inversion counts."""


def merge(left, right, key):
    """Combine two sorted lists; equal items keep left before right."""
    merged = []
    i = j = 0
    while i < len(left) and j < len(right):
        if key(right[j]) < key(left[i]):
            merged.append(right[j])
            j += 1
        else:
            merged.append(left[i])
            i += 1
    merged.extend(left[i:])
    merged.extend(right[j:])
    return merged


def merge_sort(items, key=lambda item: item):
    """Sort from the bottom up: runs of 1, then 2, then 4, and so on."""
    runs = [[item] for item in items]
    while len(runs) > 1:
        paired = [merge(runs[k], runs[k + 1], key) for k in range(0, len(runs) - 1, 2)]
        if len(runs) % 2:
            paired.append(runs[-1])
        runs = paired
    return runs[0] if runs else []


def count_inversions(items):
    """Number of pairs that stand in the wrong order."""

    def walk(part):
        if len(part) < 2:
            return part, 0
        half = len(part) // 2
        left, a = walk(part[:half])
        right, b = walk(part[half:])
        crossing, j = 0, 0
        for value in left:
            while j < len(right) and right[j] < value:
                j += 1
            crossing += j
        return merge(left, right, lambda v: v), a + b + crossing

    return walk(list(items))[1]
