"""A panel: its first answer as a figure of the run, and, while a person watches, controls that change it."""

import asyncio
import gc
from collections.abc import Callable, Iterator

from mome.checks import describe_error
from mome.config import WIDGET, is_batch
from mome.playground.answers import Answer, fit, frame_image, tell_words
from mome.playground.fields import Field, make_widget
from mome.runs.state import find_shell

NAMING = """const name = panel => panel.querySelectorAll(".widget-slider").forEach(slider => slider
  .querySelector(".noUi-handle")?.setAttribute("aria-label", slider.querySelector(".widget-label").title));
const watch = panel => new MutationObserver(() => name(panel)).observe(
  panel, {childList: true, subtree: true});
const begin = tries => {  // this runs before its panel stands on the page, and sliders come later still
  const panel = element.closest(".mome-panel");
  panel ? (name(panel), watch(panel)) : tries && setTimeout(begin, 100, tries - 1);
};
begin(600);"""
# What stays in a saved notebook is not seen above the living panel, which shows the same.
ONCE = """<style>.jp-OutputArea-child:has([data-name="{0}"]):has(~ .jp-OutputArea-child .mome-{0})
{{display: none}}</style>"""
LIVE: dict[str, object] = {}  # {panel: its box}: of a name the last one lives, as of a figure the last counts
HINT = "This panel answers while its notebook runs: run this cell to bring it to life."


def show_panel(run, name: str, ask: Callable, fields: dict[str, Field], button: str = "") -> Answer:
    """Show what `ask` answers to the fields' first values as figure `name` of the run, and return it.

    `ask(**values)` returns an `Answer`, or an iterator of them, of which the last one stays. In JupyterLab
    and voila the controls follow: every change asks again, or with a `button` every press of it.
    """
    answer = last_of(ask(**{key: field.value for key, field in fields.items()}))
    if answer.plot:
        run.figure(name, answer.words, answer.plot, *answer.arguments, **answer.options)
    if find_shell():
        from IPython.display import display

        page = answer.page * (not answer.says_all) if answer.plot else tell_words(answer.words) + answer.page
        if page:
            still = f'<div data-name="{name}">{page}</div>'
            display({"text/html": still, "text/plain": answer.words}, raw=True)
        if not is_batch():
            close_panel(name)
            gc.collect()  # a later one would walk through all that is loaded: a pause of half a second
            gc.freeze()
            publish_panel(name, make_panel(name, ask, fields, answer, button))
    return answer


def close_panel(name: str) -> None:
    """End the panel of that name, if one lives: its cell runs again, and it would hold its models."""
    if name in LIVE:
        for widget in [*list_widgets(LIVE.pop(name))]:
            widget.close()
        gc.unfreeze()


def list_widgets(widget) -> Iterator:
    """Yield a widget and all that it is made of: layouts and styles, too."""
    import ipywidgets

    for part in widget.trait_values().values():
        for child in part if isinstance(part, tuple) else [part]:
            if isinstance(child, ipywidgets.Widget):
                yield from list_widgets(child)
    yield widget


def publish_panel(name: str, box) -> None:
    """Show live widgets, marked so that a notebook is saved with the hint in their place."""
    from IPython.display import publish_display_data

    LIVE[name] = box
    shown = {WIDGET: {"version_major": 2, "version_minor": 0, "model_id": box.model_id},
             "text/plain": HINT, "text/html": f"<p><i>{HINT}</i></p>"}
    publish_display_data(shown, metadata={"mome": {"panel": name}})


def make_panel(name: str, ask: Callable, fields: dict[str, Field], answer: Answer, button: str = ""):
    """Return the box of a panel's live widgets, with the answer to their first values."""
    import ipywidgets

    controls = {key: make_widget(field) for key, field in fields.items()}
    shown = [ipywidgets.HTML(layout={"width": "auto"}) for _ in range(3)]
    teller = Teller(ask, controls, *shown)
    if button:
        start, stop = ipywidgets.Button(description=button), ipywidgets.Button(description="Stop")
        start.on_click(teller.start)
        stop.on_click(teller.stop)
        rows = [*group_controls(fields, controls), ipywidgets.HBox([start, stop])]
    else:
        for control in controls.values():
            control.observe(teller.start, "value")
        rows = group_controls(fields, controls)
    teller.show(answer)
    teller.draw(answer)
    once = ipywidgets.HTML(ONCE.format(name), layout={"display": "none"})
    box = ipywidgets.VBox([*rows, ipywidgets.VBox(shown).add_class("mome-answer"), name_sliders(), once],
                          layout={"width": "100%", "overflow": "hidden"})
    return box.add_class("mome-panel").add_class(f"mome-{name}")


def group_controls(fields: dict[str, Field], controls: dict) -> list:
    """Return rows of controls: what is typed has one of its own, a group one under its name."""
    import ipywidgets

    rows: dict[tuple[str, str], list] = {}
    for key, field in fields.items():
        is_typed = isinstance(controls[key], ipywidgets.Textarea)
        rows.setdefault((field.group, key if is_typed else ""), []).append(controls[key])
    wrapped, line = {"flex_flow": "row wrap", "width": "100%", "align_items": "center"}, {"width": "100%"}
    named = {place: [ipywidgets.Label(place[0], layout=line)] if place[0] else [] for place in rows}
    return [ipywidgets.HBox([*named[place], *row], layout=wrapped) for place, row in rows.items()]


def name_sliders():
    """Return a widget, not seen, by which screen readers learn a slider's name: ipywidgets gives it none."""
    import ipywidgets

    script = {"output_type": "display_data", "metadata": {}, "data": {"application/javascript": NAMING}}
    return ipywidgets.Output(outputs=(script,), layout={"height": "0", "margin": "0"})


class Teller:
    """Asks again whenever it is started, and shows the answers; what it was still telling ends."""

    def __init__(self, ask: Callable, controls: dict, words, page, picture):
        self.ask, self.controls, self.task = ask, controls, None
        self.words, self.page, self.picture = words, page, picture

    def start(self, _=None) -> None:
        self.stop()
        values = {key: control.value for key, control in self.controls.items()}
        self.task = asyncio.ensure_future(self.tell(values))

    def stop(self, _=None) -> None:
        if self.task:
            self.task.cancel()

    def show(self, answer: Answer) -> None:
        """Show all of an answer but its picture."""
        self.words.value, self.page.value = tell_words(answer.words), fit(answer.page)

    def draw(self, answer: Answer) -> None:
        self.picture.value = frame_image(answer)

    async def tell(self, values: dict) -> None:
        """Show answer after answer, words before pictures; in between the kernel listens.

        An error is told in words.
        """
        try:
            answers = self.ask(**values)
            for answer in [answers] if isinstance(answers, Answer) else answers:
                self.show(answer)
                await asyncio.sleep(0.001)
            self.draw(answer)
            await asyncio.sleep(0.001)
            gc.collect()  # while the answer is looked at: fifteen figures at once would hold up a later one
        except Exception as error:
            self.words.value = tell_words(describe_error(error), "alert")
            self.page.value = self.picture.value = ""


def last_of(answers: Answer | Iterator[Answer]) -> Answer:
    """Return an answer, or the last one of several."""
    return answers if isinstance(answers, Answer) else [*answers][-1]
