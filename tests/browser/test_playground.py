"""00 and 06 as a reader uses them in JupyterLab, and 06 on a page of `mome demo`, in a real browser."""

import json
import urllib.request

import pytest
from browsing import (
    choose,
    drag,
    find_panel,
    list_clipped,
    list_errors,
    list_unreachable,
    open_notebook,
    open_playground,
    read_answers,
    run_all,
    take_picture,
    type_text,
    wait_for_change,
    wait_until_still,
)

from mome.playground.panels import HINT

pytestmark = pytest.mark.browser
PANELS = ("router", "reading", "writing", "losses", "alpha", "microscope", "board", "stages")
TYPED = ("router", "reading", "writing", "microscope")
FRENCH = "Cliquez sur le bouton"
PYTHON = "def read(path): return open(path)"
STILL = ".jp-OutputArea-output [data-name]"
INJECTED = "script, img[onerror], svg[onload], #injected"
HOSTILE = {
    "nothing": "", "blanks": " \n\t ", "a megabyte": "le bouton " * 100_000,
    "right to left": "اضغط على الزر لحفظ الملف לחץ על הכפתור", "emoji": "🙂🙃👩‍👩‍👧‍👦🇫🇷",
    "control characters": "".join(map(chr, range(1, 32))) + "\x7f\x85\u202e\u2028\ufeff",
    "HTML": "<script>window.hit = 1</script><img src=x onerror='window.hit = 2'><b id=injected>bold</b>"
            "</textarea><svg onload='window.hit = 3'>"}


@pytest.fixture(scope="module", params=["lab", "demo"])
def playground(request, new_page):
    """A page on 06, which has run through: in JupyterLab, and as `mome demo` shows it."""
    page, address = new_page(), request.getfixturevalue(request.param)
    if request.param == "lab":
        open_notebook(page, address, "06_playground.ipynb")
        run_all(page)
    else:
        open_playground(page, address)
    page.shown_by = request.param
    return page


def test_jupyterlab_runs_all_of_00_and_the_taste_is_there_with_its_words(lab, new_page):
    page = new_page()
    open_notebook(page, lab, "00_start_here.ipynb")
    run_all(page)
    assert list_errors(page) == []
    taste = page.get_by_role("img", name="Bits per byte of each language's held-out text")
    taste.scroll_into_view_if_needed()
    assert taste.evaluate("image => image.complete && image.naturalWidth > 100")
    take_picture(page, "00_lab")
    assert not page.get_by_role("dialog").count()
    page.close()


def test_06_runs_through_and_shows_every_panel_as_a_picture_and_alive(playground):
    assert list_errors(playground) == []
    for name in PANELS:
        panel = find_panel(playground, name)
        assert read_answers(panel).strip()
    # What a saved notebook keeps is there, but is not seen a second time.
    assert playground.locator(STILL).count() >= len(PANELS)
    assert [still for still in playground.locator(STILL).all() if still.is_visible()] == []


def test_no_other_panel_has_a_text_field_than_those_that_get_odd_text(playground):
    fields = {name: find_panel(playground, name).locator("textarea, input[type=text]").count()
              for name in PANELS}
    assert {name: n for name, n in fields.items() if n} == dict.fromkeys(TYPED, 1)


def test_the_route_follows_what_is_typed_from_french_over_a_mix_to_python(playground):
    panel, routes = find_panel(playground, "router"), []
    for text in (FRENCH, f"{FRENCH} {PYTHON}", PYTHON):
        before = read_answers(panel)
        type_text(panel, text)
        routes.append(wait_until_still(panel, before))
    assert len(set(routes)) == 3
    assert "for French" in routes[0] and "for Python" in routes[2]


def test_a_generation_is_written_to_its_end_and_another_one_is_stopped(playground):
    panel = find_panel(playground, "writing")
    write, stop = (panel.get_by_role("button", name=name) for name in ("Write", "Stop"))
    type_text(panel, FRENCH)
    before = read_answers(panel)
    write.click()
    whole = wait_until_still(panel, before)
    answer, stopping = (each.element_handle() for each in (panel.locator(".mome-answer"), stop))
    playground.evaluate("""([answer, stop]) => new MutationObserver((_, watch) => {
      watch.disconnect();
      stop.click();
    }).observe(answer, {childList: true, subtree: true, characterData: true})""", [answer, stopping])
    write.click()
    stopped = wait_until_still(panel, whole)
    assert 0 < len(stopped) < len(whole)


def test_a_slider_of_a_distribution_obeys_the_mouse_and_the_keyboard(playground):
    panel = find_panel(playground, "losses")
    handle, seen = panel.get_by_role("slider").first, [read_answers(panel)]
    drag(handle, down=-30)
    seen.append(wait_until_still(panel, seen[-1]))
    handle.focus()
    playground.keyboard.press("ArrowDown")
    seen.append(wait_until_still(panel, seen[-1]))
    assert len(set(seen)) == 3


@pytest.mark.parametrize("name", PANELS)
def test_every_control_is_reached_by_tab_and_has_a_name(playground, name):
    assert list_unreachable(find_panel(playground, name)) == []


@pytest.mark.parametrize("width", [1280, 768])
def test_no_panel_is_wider_than_its_place(playground, width):
    playground.set_viewport_size({"width": width, "height": 900})
    for name in PANELS:
        panel = find_panel(playground, name)
        take_picture(playground, f"06_{playground.shown_by}_{name}_{width}")
        assert panel.evaluate("node => node.scrollWidth <= node.clientWidth") and list_clipped(panel) == []
    playground.set_viewport_size({"width": 1280, "height": 900})


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_odd_text_gets_a_word_and_is_never_executed(playground, text):
    asked = [find_panel(playground, name) for name in TYPED]
    for panel in asked:
        panel.locator("textarea").fill(text)
    asked[2].get_by_role("button", name="Write").click()
    wait_until_still(playground)
    assert all(read_answers(panel).strip() for panel in asked)
    assert playground.locator(".mome-answer").locator(INJECTED).count() == 0
    assert list_errors(playground) == [] and playground.evaluate("window.hit") is None
    before = read_answers(asked[0])
    type_text(asked[0], f"le {len(text)}")
    assert wait_for_change(asked[0], before)


@pytest.mark.parametrize("playground", ["lab"], indirect=True)
def test_a_saved_notebook_opened_again_has_words_and_pictures_and_no_broken_widget(playground, lab, new_page):
    choose(playground, "File", "Save Notebook")
    playground.locator(".jp-mod-dirty").wait_for(state="detached")
    playground.close()
    stop_kernels(lab)
    page = new_page()
    open_notebook(page, lab, "06_playground.ipynb")
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()
    for seen in (page.locator(".jp-OutputArea-output img[alt]"), page.get_by_text(HINT)):
        seen.nth(len(PANELS) - 1).wait_for(state="attached")
    assert list_errors(page) == [] and page.locator(".mome-panel").count() == 0
    assert page.locator(STILL).first.is_visible()
    for output in page.locator(".jp-OutputArea-output").all():
        assert output.text_content().strip() or output.locator("img[alt]").count()
    take_picture(page, "06_reopened")


def stop_kernels(lab):
    def ask(method, what):
        request = urllib.request.Request(lab.replace("/lab?", f"/api/kernels{what}?"), method=method)
        with urllib.request.urlopen(request) as answer:
            return answer.read()

    for kernel in json.loads(ask("GET", "")):
        ask("DELETE", f"/{kernel['id']}")
