"""How fast 06 opens and its panels answer, as the browser sees it: JupyterLab on a finished store.

    python tests/browser/measure_reactions.py --corpus help@2026-11-26   # in the store of MOME_HOME
    python tests/browser/measure_reactions.py --scale smoke --corpus mini --times 10
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parent))

import yaml
from browsing import (
    copy_notebook,
    find_panel,
    open_browser,
    open_notebook,
    serve_lab,
    start_all,
    wait_until_still,
)

from mome.config import home, repository

# From a control's event to the answer's change, and until the picture that belongs to it is there, too.
WATCH = """panel => {
  const answer = panel.querySelector(".mome-answer");
  window.changes = [];
  window.began = null;
  for (const kind of ["input", "change", "keydown", "click"])
    panel.addEventListener(kind, () => window.began ??= performance.now(), true);
  new MutationObserver(() => window.began && window.changes.push(performance.now() - window.began))
    .observe(answer, {childList: true, subtree: true, characterData: true});
}"""
FIRST = """() => document.querySelector(".jp-OutputArea-output img[alt]")"""
DONE = """() => document.querySelector(".mome-stages .mome-answer") &&
  ![...document.querySelectorAll(".jp-InputPrompt")].some(prompt => prompt.textContent.includes("*"))"""


def press(panel, number: int) -> None:
    """Change the panel by one event: a letter in its text, a step of a slider, Write or a switch."""
    keyboard, sliders = panel.page.keyboard, panel.locator(".noUi-handle")
    texts, boxes = panel.locator("textarea"), panel.locator("input[type=checkbox]")
    write = panel.get_by_role("button", name="Write")
    if write.count():
        write.click()
    elif texts.count():
        texts.first.focus()
        keyboard.type("abcdefghij"[number % 10])
    elif sliders.count():
        sliders.first.focus()
        keyboard.press("ArrowUp" if number % 2 else "ArrowDown")
    else:
        boxes.first.click()


def measure(panel, times: int) -> dict[str, float]:
    """Return median and worst milliseconds to the first change of the answer, and to its last one."""
    wait_until_still(panel, seconds=60)
    panel.evaluate(WATCH)
    first, last = [], []
    for number in range(times):
        panel.page.evaluate("window.changes = []; window.began = null")
        press(panel, number)
        panel.page.wait_for_function("window.changes.length > 0", timeout=60_000)
        wait_until_still(panel, seconds=60)
        changes = panel.page.evaluate("window.changes")
        first.append(changes[0])
        last.append(changes[-1])
    return {"median": median(first), "worst": max(first), "whole median": median(last),
            "whole worst": max(last)}


def open_and_measure(page, lab: str, names: list[str], times: int) -> None:
    started = time.perf_counter()
    open_notebook(page, lab, "06_playground.ipynb")
    print(f"JupyterLab shows 06 after {time.perf_counter() - started:.1f} s", flush=True)
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(timeout=60_000)
    started = time.perf_counter()
    start_all(page)
    page.wait_for_function(FIRST, timeout=600_000)
    print(f"its first figure after {time.perf_counter() - started:.1f} s", flush=True)
    page.wait_for_function(DONE, timeout=600_000)
    print(f"all panels after {time.perf_counter() - started:.1f} s", flush=True)
    for name in names:
        found = measure(find_panel(page, name), times)
        told = ", ".join(f"{what} {value:.0f} ms" for what, value in found.items())
        print(f"{name:10} {told}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("scale", "laptop"), ("corpus", "auto"), ("languages", ""), ("seeds", "0,1,2"),
                          ("panels", "router,reading,writing,losses,alpha,microscope,board,stages")):
        parser.add_argument(f"--{name}", default=default)
    parser.add_argument("--times", type=int, default=30)
    parser.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    values = {"scale": given.scale, "corpus": given.corpus, "seeds": json.loads(f"[{given.seeds}]")}
    values |= {"languages": given.languages.split(",")} if given.languages else {}
    values |= {name: yaml.safe_load(value) for name, _, value in (p.partition("=") for p in given.parameter)}
    os.environ.pop("OMP_NUM_THREADS", None)
    with TemporaryDirectory() as made:
        copy_notebook(repository() / "notebooks/06_playground.ipynb", Path(made) / "notebooks", **values)
        lab = serve_lab(Path(made) / "notebooks", Path(made) / "lab", home())
        with lab as address, open_browser() as browser:
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            open_and_measure(page, address, given.panels.split(","), given.times)


if __name__ == "__main__":
    main()
