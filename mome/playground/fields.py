"""What a person can set in a panel, as plain data, and the widget that sets it."""

from dataclasses import dataclass
from typing import Any

LONGEST_TEXT = 4_000  # characters of a typed text that are read: more than any panel shows


@dataclass(frozen=True)
class Field:
    """A control with its label and first value.

    With `options` it is a choice of one, with a `step` a number from `low` to `high` (`upright`: the slider
    stands), a bool is a switch, and other text is typed. Fields of one `group` stand together under its name.
    """

    label: str
    value: Any
    options: tuple = ()
    low: float = 0
    high: float = 1
    step: float = 0
    upright: bool = False
    group: str = ""


def make_widget(field: Field):
    """Return the field's widget; each tells its value while it is changed, not only at the end."""
    import ipywidgets

    shown = {"value": field.value, "description": field.label, "style": {"description_width": "initial"}}
    wide = {"width": f"min(100%, {15 + 0.5 * len(field.label):g}em)"}
    if field.options:
        return ipywidgets.Dropdown(options=field.options, layout=wide, **shown)
    if isinstance(field.value, bool):
        return ipywidgets.Checkbox(indent=False, layout={"width": "auto", "margin": "2px 1em"}, **shown)
    if field.step:
        limits = {"min": field.low, "max": field.high, "step": field.step}
        limits["tooltip"] = f"{field.group}: {field.label}" if field.group else field.label
        kind = ipywidgets.IntSlider if isinstance(field.value, int) else ipywidgets.FloatSlider
        standing = {"height": "12em", "width": "4.6em"}
        return kind(orientation="vertical" if field.upright else "horizontal",
                    layout=standing if field.upright else wide, **limits, **shown)
    # Its label stands above: beside a long one little room is left on a narrow page.
    above = {"width": "100%", "height": "auto", "flex_flow": "column", "align_items": "flex-start"}
    return ipywidgets.Textarea(rows=3, layout=above, **shown)


def clean_text(text: str) -> str:
    """Return what is read of a typed text: its beginning, with what UTF-8 cannot hold as question marks."""
    return text[:LONGEST_TEXT].encode("utf-8", "replace").decode()
