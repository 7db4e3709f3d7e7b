"""Sort numbers into bins and draw them as bars of text."""

from math import ceil, log2


def bin_count(values):
    """Sturges' rule: a reasonable number of bins for a sample."""
    return max(1, ceil(log2(len(values))) + 1)


def histogram(values, bins=None):
    """Return (edges, counts), where edges has one more entry than counts."""
    if not values:
        raise ValueError("cannot bin an empty sample")
    bins = bins or bin_count(values)
    low, high = min(values), max(values)
    if low == high:
        low, high = low - 0.5, high + 0.5
    width = (high - low) / bins
    counts = [0] * bins
    for value in values:
        # The maximum itself belongs to the last bin, not to one beyond it.
        counts[min(int((value - low) / width), bins - 1)] += 1
    edges = [low + k * width for k in range(bins)] + [high]
    return edges, counts


def draw(values, bins=None, width=40, mark="*"):
    edges, counts = histogram(values, bins)
    tallest = max(counts)
    lines = []
    for left, right, count in zip(edges, edges[1:], counts):
        bar = mark * round(width * count / tallest)
        lines.append(f"{left:10.2f} to {right:10.2f} | {bar} {count}")
    return "\n".join(lines)


def cumulative(counts):
    """Share of the sample at or below the end of each bin."""
    total, seen, shares = sum(counts), 0, []
    for count in counts:
        seen += count
        shares.append(seen / total)
    return shares
