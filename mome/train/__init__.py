"""Training: the one loop, its batches, its optimizer, its checkpoints, and what a step costs."""


def evaluation_steps(steps: int, evaluations: int) -> set[int]:
    """Return the steps, from 1, after which a training is evaluated: evenly spaced, the last among them."""
    return {round((number + 1) * steps / evaluations) for number in range(evaluations)}
