"""What a panel answers: words, a picture, and text whose tokens are marked; as HTML for the page."""

import html
import io
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field

SCREEN_DPI = 100


@dataclass(frozen=True)
class Answer:
    """Words (plain text), and what goes with them: a `plot_*` function with what it draws, and `page`.

    `page` is HTML in which all that a person or a model wrote has been escaped. Where it `says_all`, it takes
    the picture's place on a live page, and the picture its place in a saved one.
    """

    words: str
    plot: Callable | None = None
    arguments: tuple = ()
    options: dict = field(default_factory=dict)
    page: str = ""
    says_all: bool = False


def tell_words(words: str, role: str = "status") -> str:
    """Return words as HTML; a screen reader tells them whenever they change."""
    return f'<p role="{role}" style="line-height:1.5;margin:.3em 0">{html.escape(words)}</p>'


def frame_image(answer: Answer) -> str:
    """Return the picture as HTML, the words for who cannot see it; nothing where it is not needed."""
    if not answer.plot or answer.says_all:
        return ""
    content, words = draw_image(answer), html.escape(answer.words)
    width = int.from_bytes(content[16:20], "big")
    # On a narrower page it scrolls, as letters must stay large enough to be read.
    look = f"width:{width}px;max-width:max(100%,{0.6 * width:.0f}px)"
    image = f'<img alt="{words}" style="{look}" src="data:image/png;base64,{b64encode(content).decode()}">'
    return fit(image)


def fit(page: str) -> str:
    """Return HTML that is as wide as its place, and scrolls by itself where it needs more."""
    return f'<div style="overflow-x:auto;contain:inline-size">{page}</div>' if page else ""


def draw_image(answer: Answer) -> bytes:
    """Return an answer's picture as PNG."""
    import warnings

    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    with warnings.catch_warnings():  # of letters that the font lacks: a person may type any
        warnings.filterwarnings("ignore", message="Glyph")
        figure = answer.plot(*answer.arguments, **answer.options)
        try:
            figure.savefig(buffer, dpi=SCREEN_DPI, pil_kwargs={"compress_level": 1})  # a tenth quicker
        finally:
            plt.close(figure)
    return buffer.getvalue()
