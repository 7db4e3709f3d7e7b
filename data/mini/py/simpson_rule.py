"""Numerical integration with Simpson's rule, fixed and adaptive."""


def simpson(f, a, b, panels=100):
    """Integrate f from a to b using an even number of equal panels."""
    if panels <= 0 or panels % 2:
        raise ValueError("panels must be a positive even number")
    h = (b - a) / panels
    odd = sum(f(a + k * h) for k in range(1, panels, 2))
    even = sum(f(a + k * h) for k in range(2, panels, 2))
    return h / 3 * (f(a) + 4 * odd + 2 * even + f(b))


def adaptive(f, a, b, tolerance=1e-8, max_depth=40):
    """Split panels only where the curve bends, until the error is small."""

    def one_panel(fa, fm, fb, width):
        return width / 6 * (fa + 4 * fm + fb)

    def refine(a, fa, b, fb, m, fm, whole, tolerance, depth):
        lm, rm = (a + m) / 2, (m + b) / 2
        flm, frm = f(lm), f(rm)
        left = one_panel(fa, flm, fm, m - a)
        right = one_panel(fm, frm, fb, b - m)
        error = left + right - whole
        if depth == 0 or abs(error) <= 15 * tolerance:
            # Richardson's correction squeezes out one more order.
            return left + right + error / 15
        half = tolerance / 2
        return refine(a, fa, m, fm, lm, flm, left, half, depth - 1) + refine(
            m, fm, b, fb, rm, frm, right, half, depth - 1
        )

    middle = (a + b) / 2
    fa, fm, fb = f(a), f(middle), f(b)
    whole = one_panel(fa, fm, fb, b - a)
    return refine(a, fa, b, fb, middle, fm, whole, tolerance, max_depth)
