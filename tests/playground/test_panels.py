import asyncio
import gc
import json
import weakref
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest

from mome.config import WIDGET
from mome.playground import panels
from mome.playground.answers import Answer, tell_words
from mome.playground.fields import LONGEST_TEXT, Field, clean_text, make_widget
from mome.runs.drawing import describe_plot, draw_plot

FIELDS = [Field("typed", "some text"), Field("choice", "b", ("a", "b")),
          Field("named", "fr", (("French", "fr"),)),
          Field("switch", True), Field("whole", 3, low=1, high=9, step=1),
          Field("upright", 0.5, low=0.0, high=1.0, step=0.1, upright=True)]


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.label)
def test_a_widget_has_its_fields_label_and_first_value(field):
    widget = make_widget(field)
    assert (widget.value, widget.description) == (field.value, field.label)


def test_what_is_read_of_a_text_is_its_beginning_as_utf_8_can_hold_it():
    assert clean_text("é\ud800\x00") == "é?\x00"
    assert clean_text("é" * 2 * LONGEST_TEXT) == "é" * LONGEST_TEXT


class Fake:
    """A run that keeps what it is shown."""

    def __init__(self):
        self.shown = []

    def figure(self, name, caption, plot, *arguments, **options):
        draw_plot(describe_plot(plot, arguments, options))
        plt.close("all")
        self.shown.append((name, caption))


def count(to):
    for number in range(1, to + 1):
        yield Answer(f"at <{number}>", page=f"<b>{number}</b>")


def test_outside_of_a_page_a_panel_is_its_last_answer_to_the_first_values():
    from mome.figures.playground import plot_pages

    run = Fake()
    ask = lambda words: iter([Answer("no"), Answer(words, plot_pages, ("a prompt", {"en": words}))])  # noqa: E731
    assert panels.show_panel(run, "writing", ask, {"words": Field("words", "yes")}).words == "yes"
    assert run.shown == [("writing", "yes")]


@pytest.fixture
def page(monkeypatch):
    """A kernel that keeps what is displayed."""
    shown = []
    monkeypatch.setattr(panels, "find_shell", lambda: SimpleNamespace())
    import IPython.display

    monkeypatch.setattr(IPython.display, "display", lambda data, **_: shown.append((data, {})))
    monkeypatch.setattr(IPython.display, "publish_display_data",
                        lambda data, metadata: shown.append((data, metadata)))
    monkeypatch.delenv("MOME_BATCH", raising=False)
    return shown


def test_a_live_panel_is_marked_and_says_in_words_what_a_saved_notebook_shows_of_it(page):
    async def show():
        fields = {"to": Field("to", 2, high=4, step=1)}
        panels.show_panel(Fake(), "router", lambda to: Answer(f"{to}"), fields)

    asyncio.run(show())
    data, metadata = page[-1]
    assert metadata == {"mome": {"panel": "router"}}
    assert WIDGET in data
    assert panels.HINT in data["text/html"]
    json.dumps(data)


def test_under_a_command_a_panel_has_no_widgets(page, monkeypatch):
    monkeypatch.setenv("MOME_BATCH", "1")
    panels.show_panel(Fake(), "router", count, {"to": Field("to", 2, high=4, step=1)})
    assert [metadata for _, metadata in page] == [{}]  # the page of the answer, and nothing else


def find(box, kind):
    return [box] * isinstance(box, kind) + [
        part for child in getattr(box, "children", ()) for part in find(child, kind)]


def live(fields, ask, button=""):
    import ipywidgets

    first = panels.last_of(ask(**{key: field.value for key, field in fields.items()}))
    box = panels.make_panel("router", ask, fields, first, button)
    return box, lambda: "".join(part.value for part in find(box, ipywidgets.HTML))


def test_a_change_is_answered_and_what_was_being_told_ends():
    import ipywidgets

    async def play():
        box, told = live({"to": Field("to", 1, low=1, high=9_999, step=1)}, count)
        await asyncio.sleep(0.05)
        first = told()
        slider, = find(box, ipywidgets.IntSlider)
        slider.value = 9_999
        await asyncio.sleep(0.05)
        middle, slider.value = told(), 2
        await asyncio.sleep(0.2)
        return first, middle, told()

    first, middle, end = asyncio.run(play())
    assert "at &lt;1&gt;" in first
    assert middle not in (first, end)
    assert "at &lt;2&gt;" in end


def test_a_button_starts_and_another_stops_what_is_told_step_by_step():
    import ipywidgets

    async def play():
        box, told = live({"to": Field("to", 9_999, low=1, high=9_999, step=1)}, count, "Write")
        start, stop = find(box, ipywidgets.Button)
        assert (start.description, stop.description) == ("Write", "Stop")
        assert tell_words("at <9999>") in told()  # the answer to the first values
        start.click()
        await asyncio.sleep(0.05)
        stop.click()
        await asyncio.sleep(0.02)
        stopped = told()
        await asyncio.sleep(0.05)
        return stopped, told()

    stopped, later = asyncio.run(play())
    assert "<b>9999</b>" not in stopped
    assert stopped == later


def test_the_answer_of_the_first_values_is_asked_for_once_and_the_panel_shows_it(page, monkeypatch):
    asked, made = [], []
    make = panels.make_panel
    monkeypatch.setattr(panels, "make_panel", lambda *given: made.append(make(*given)) or made[-1])

    async def show():
        panels.show_panel(Fake(), "router", lambda to: asked.append(to) or Answer(f"at {to}"),
                          {"to": Field("to", 2, high=4, step=1)})
        await asyncio.sleep(0.05)

    import ipywidgets

    asyncio.run(show())
    assert asked == [2]
    assert "at 2" in "".join(part.value for part in find(made[0], ipywidgets.HTML))


def test_a_cell_that_runs_again_leaves_no_widget_of_its_former_panel_and_lets_go_of_its_model(page):
    import ipywidgets

    class Model:
        def ask(self, to):
            return Answer(f"at {to}")

    def count_widgets():
        gc.collect()
        widgets = [thing for thing in gc.get_objects() if issubclass(type(thing), ipywidgets.Widget)]
        return sum(widget.comm is not None for widget in widgets)

    async def show(model):
        panels.show_panel(Fake(), "again", model.ask, {"to": Field("to", 2, high=4, step=1)}, "Go")

    model = Model()
    asyncio.run(show(model))
    held = weakref.ref(model)
    del model
    gc.unfreeze()
    first = count_widgets()
    gc.freeze()
    assert held() is not None
    asyncio.run(show(Model()))
    assert held() is None
    gc.unfreeze()
    assert count_widgets() == first


def test_a_picture_is_drawn_with_its_words_unless_the_page_says_all():
    import ipywidgets

    from mome.figures.playground import plot_pages

    async def play(says_all):
        drawn = plot_pages, ("a prompt", {"en": "b"})
        answer = Answer('a "<word>"', *drawn, page="<i>b</i>", says_all=says_all)
        box, told = live({"to": Field("to", 1, low=1, high=3, step=1)},
                         lambda to: answer if to != 2 else Answer("none"))
        seen, (slider,) = [told()], find(box, ipywidgets.IntSlider)
        for slider.value in (2, 3):
            await asyncio.sleep(0.5)
            seen.append(told())
        return seen

    first, without, again = asyncio.run(play(False))
    for shown in (first, again):
        assert '<img alt="a &quot;&lt;word&gt;&quot;"' in shown
        assert "<i>b</i>" in shown
    assert not [shown for shown in (without, *asyncio.run(play(True))) if "<img" in shown]


def test_a_static_panel_without_a_picture_has_its_words(page, monkeypatch):
    monkeypatch.setenv("MOME_BATCH", "1")
    panels.show_panel(Fake(), "router", lambda text: Answer("Type a text."), {"text": Field("text", "")})
    assert "Type a text." in page[-1][0]["text/html"]


def test_an_error_is_a_sentence_on_the_page_and_markup_in_it_is_text():
    import ipywidgets

    def fail(to):
        yield Answer("before", page="<i>before</i>")
        if to == 2:
            raise KeyError("<script>")

    async def play():
        box, told = live({"to": Field("to", 1, high=2, step=1)}, fail)
        assert "before" in told()
        slider, = find(box, ipywidgets.IntSlider)
        slider.value = 2
        await asyncio.sleep(0.05)
        return told()

    told = asyncio.run(play())
    assert 'role="alert"' in told
    assert "&lt;script&gt;" in told
    assert "<script>" not in told
    assert "before" not in told


def test_a_typed_text_has_a_row_of_its_own_and_a_group_its_name():
    import ipywidgets

    fields = {"text": Field("text", ""), **{name: Field(name, True, group="both") for name in "ab"}}
    rows = panels.group_controls(fields, {name: make_widget(field) for name, field in fields.items()})
    assert [len(row.children) for row in rows] == [1, 3]
    assert find(rows[1], ipywidgets.Label)[0].value == "both"
