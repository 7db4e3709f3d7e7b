"""Training: the one loop, its batches, its optimizer, its checkpoints, and what a step costs."""

from mome.checks import check_range

MOST_EVALUATIONS = 10_000


def evaluation_steps(steps: int, evaluations: int) -> set[int]:
    """Return the steps, from 1, after which a training is evaluated: evenly spaced, the last among them."""
    check_range("evaluations", evaluations, 1, MOST_EVALUATIONS, whole=True)
    evaluations = min(evaluations, steps)
    return {round((number + 1) * steps / evaluations) for number in range(evaluations)}
