"""Colour conversion between hex strings, RGB triples and HSL."""

RGB = tuple[int, int, int]


def parse_hex(code: str) -> RGB:
    """Accept '#3af' as well as '#33aaff'."""
    digits = code.removeprefix("#")
    if len(digits) == 3:
        digits = "".join(d * 2 for d in digits)
    if len(digits) != 6:
        raise ValueError(f"bad colour code: {code}")
    red, green, blue = bytes.fromhex(digits)
    return red, green, blue


def to_hex(rgb: RGB) -> str:
    return "#" + bytes(rgb).hex()


def to_hsl(rgb: RGB) -> tuple[float, float, float]:
    """Hue in degrees; saturation and lightness from 0 to 1."""
    r, g, b = (channel / 255 for channel in rgb)
    high, low = max(r, g, b), min(r, g, b)
    lightness, chroma = (high + low) / 2, high - low
    if chroma == 0:
        return 0.0, 0.0, lightness
    if high == r:
        sector = (g - b) / chroma % 6
    elif high == g:
        sector = (b - r) / chroma + 2
    else:
        sector = (r - g) / chroma + 4
    return 60 * sector, chroma / (1 - abs(2 * lightness - 1)), lightness


def blend(first: RGB, second: RGB, share: float) -> RGB:
    """Mix two colours; share=0 gives the first and share=1 the second."""
    r, g, b = (round(a + (z - a) * share) for a, z in zip(first, second))
    return r, g, b


def readable_ink(background: RGB) -> str:
    weights = (0.299, 0.587, 0.114)
    brightness = sum(w * c for w, c in zip(weights, background))
    return "#000000" if brightness > 140 else "#ffffff"
