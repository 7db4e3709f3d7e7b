"""What a model is worth: scores, intervals, claims over seeds, forgetting, the price of routing."""

WOBBLE_POINTS = 4  # of a curve, at least


def is_wobble_point(step, steps: int):
    """Return whether a wobble is measured at a step (or steps): whole cycles of two, in the second half."""
    return (step % 2 == 0) & (step > steps / 2)
