"""What a reader does in a browser, each in a call: open a notebook, run it, type, drag, look."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import mome
from mome.cli.lab import SAVED

BROWSERS = ("chromium", "google-chrome", "chromium-browser")
TOKEN, SECONDS = "letmein", 120  # the longest wait for a kernel
SETTINGS = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}
OFFLINE = ["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
# Quiet for half a second: no cell waits or runs, and the kernel says that it is idle.
IS_QUIET = """() => {
  const state = document.querySelector(".jp-Notebook-ExecutionIndicator")?.dataset.status;
  const prompts = [...document.querySelectorAll(".jp-Notebook .jp-InputPrompt")];
  const busy = state !== "idle" || prompts.some(prompt => prompt.textContent.includes("*"));
  window.quietSince = busy ? null : window.quietSince ?? performance.now();
  return !busy && performance.now() - window.quietSince > 500;
}"""


NAMELESS = re.compile(r"\s*- (textbox|slider|button|checkbox|combobox|spinbutton|switch|radio)(?! \")")


def find_browser() -> str:
    """Return the path of a Chromium, or nothing."""
    return next(filter(None, map(shutil.which, BROWSERS)), "")


@contextmanager
def open_browser():
    """Yield a Chromium that reaches this machine only."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=OFFLINE)
        yield browser
        browser.close()


@contextmanager
def serve(words: list[str], folder: Path, home: Path):
    """Run `python -m WORDS` without the user's settings; yield the address that it tells, then end it."""
    folder.mkdir(parents=True, exist_ok=True)
    own = {name: str(folder / name.lower()) for name in (
        "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_WORKSPACES_DIR",
        "JUPYTERLAB_SETTINGS_DIR", "IPYTHONDIR")}
    given = {"MOME_HOME": str(home), "PYTHONPATH": str(Path(mome.__file__).parents[1]),
             "OMP_NUM_THREADS": "1"}
    log = folder / "server.log"
    with open(log, "w") as said:
        server = subprocess.Popen([sys.executable, "-m", *words], env=os.environ | own | given,
                                  stdout=said, stderr=said, stdin=subprocess.DEVNULL)
    try:
        yield wait_for_address(server, log)
    finally:
        server.send_signal(signal.SIGINT if "demo" in words else signal.SIGTERM)
        server.wait(30)


def wait_for_address(server: subprocess.Popen, log: Path) -> str:
    for _ in range(SECONDS * 10):
        said = log.read_text()
        if found := re.search(r"http://127\.0\.0\.1:\d+/\S*token=\S+", said):
            return found[0].replace("...", TOKEN)  # Jupyter does not tell a token that it was given
        assert server.poll() is None, said[-3000:]
        time.sleep(0.1)
    raise AssertionError(f"no address is told: {said[-3000:]}")


def serve_lab(notebooks: Path, folder: Path, home: Path):
    """Return a context of JupyterLab, with a token, on a folder of notebooks: its address."""
    settings = folder / "settings"
    settings.mkdir(parents=True, exist_ok=True)
    (settings / "overrides.json").write_text(json.dumps(SETTINGS))
    words = ["jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0", SAVED,
             f"--IdentityProvider.token={TOKEN}", f"--LabApp.app_settings_dir={settings}", str(notebooks)]
    return serve(words, folder, home)


def serve_demo(folder: Path, home: Path, **parameters):
    """Return a context of `mome demo` with these parameters: its address, with the token."""
    given = [word for name, value in parameters.items() for word in ("-p", f"{name}={json.dumps(value)}")]
    return serve(["mome", "demo", "--no-browser", *given], folder, home)


def copy_notebook(path: Path, folder: Path, **parameters) -> Path:
    """Copy a notebook with some values of its cell `parameters` changed; return where it is."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cell = next(cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", []))
    lines = "".join(cell["source"]).splitlines()
    for name, value in parameters.items():
        place, = (number for number, line in enumerate(lines) if line.startswith(f"{name}:"))
        lines[place] = f"{lines[place].partition(' = ')[0]} = {value!r}"
    cell["source"] = "\n".join(lines)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / path.name).write_text(json.dumps(notebook), encoding="utf-8")
    return folder / path.name


def open_notebook(page, lab: str, name: str) -> None:
    page.goto(lab.replace("/lab?", f"/lab/tree/{name}?reset&"))
    page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=SECONDS * 1000)


def open_playground(page, demo: str) -> None:
    """Open 06 as a page of `mome demo`, and wait until its last panel is there."""
    page.goto(demo.replace("/?", "/06_playground.html?"))
    page.locator(".mome-stages .mome-answer").wait_for(timeout=SECONDS * 1000)
    wait_until_still(page)


def run_all(page) -> None:
    wait_until_idle(page)
    start_all(page)
    wait_until_idle(page)


def start_all(page) -> None:
    """Choose "Run All Cells" in the menu until a cell waits or has run."""
    started = page.locator(".jp-InputPrompt", has_text=re.compile(r"\[[*\d]"))
    for _ in range(3):  # a choice in the moment in which the kernel comes is lost
        choose(page, "Run", "Run All Cells")
        for _ in range(50):
            if started.count():
                return
            page.wait_for_timeout(100)
    raise AssertionError(f"nothing runs: {page.locator('body').aria_snapshot()[-3000:]}")


def choose(page, menu: str, entry: str) -> None:
    page.locator(".lm-MenuBar-itemLabel", has_text=menu).first.click()
    page.locator(".lm-Menu-itemLabel").get_by_text(entry, exact=True).click()


def wait_until_idle(page, seconds: float = SECONDS) -> None:
    page.wait_for_function(IS_QUIET, timeout=seconds * 1000, polling=200)


def find_panel(page, name: str):
    """Return the live panel of that name, in sight."""
    panel = page.locator(f".mome-{name}").first
    panel.scroll_into_view_if_needed()
    return panel


def read_answers(place) -> str:
    """Return the answers in a panel or on a page; the text of what is out of sight, too."""
    return "\n".join(place.locator(".mome-answer").all_text_contents())


def wait_for_change(panel, before: str, seconds: float = 20) -> str:
    """Return the panel's answer as soon as it is another one than before."""
    answer = panel.locator(".mome-answer").first.element_handle()
    panel.page.wait_for_function("([node, before]) => node.isConnected && node.textContent !== before",
                                 arg=[answer, before], timeout=seconds * 1000, polling=50)
    return answer.text_content()


def type_text(panel, text: str, number: int = 0) -> None:
    """Replace what a text field holds, key by key."""
    panel.locator("textarea").nth(number).click()
    panel.page.keyboard.press("Control+A")
    panel.page.keyboard.type(text)


def drag(handle, right: float = 0, down: float = 0) -> None:
    """Drag a slider's handle by so many pixels with the mouse."""
    handle.scroll_into_view_if_needed()
    box, mouse = handle.bounding_box(), handle.page.mouse
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    mouse.move(x, y)
    mouse.down()
    mouse.move(x + right, y + down, steps=8)
    mouse.up()


def list_errors(page) -> list[str]:
    """Return the tracebacks, and what stands where a widget cannot be shown."""
    kinds = ", ".join(f'[data-mime-type="application/vnd.jupyter.{kind}"]' for kind in ("error", "stderr"))
    found = page.locator(kinds).filter(has_text="Traceback").all_text_contents()
    return [*found, *page.get_by_text("Error displaying widget").all_text_contents()]


def take_picture(page, name: str) -> None:
    """Keep what the page looks like, where MOME_SCREENSHOTS names a folder."""
    if folder := os.environ.get("MOME_SCREENSHOTS"):
        page.wait_for_timeout(700)  # what has come into sight is drawn
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def wait_until_still(place, before: str = "", seconds: float = 20) -> str:
    """Return the answers in a panel or on a page, once they rest for half a second.

    They have become others than `before`, where that is told.
    """
    answer = wait_for_change(place, before, seconds) if before else read_answers(place)
    for _ in range(int(2 * seconds)):
        time.sleep(0.5)
        last, answer = answer, read_answers(place)
        if last == answer:
            return answer
    raise AssertionError(f"the answer goes on changing after {seconds} s: {answer[-200:]}")


def list_clipped(panel) -> list[str]:
    """Return what stands beyond the panel's right edge, but for what can be scrolled to within the panel."""
    return panel.evaluate("""panel => {
      const edge = panel.getBoundingClientRect().right + 1, own = panel.querySelector(".mome-answer");
      const scrolls = node => node !== panel && node !== own && (
        ["auto", "scroll"].includes(getComputedStyle(node).overflowX) || scrolls(node.parentElement));
      return [...panel.querySelectorAll("*")].filter(node => node.getBoundingClientRect().right > edge
        && !scrolls(node.parentElement)).map(node => `${node.tagName} ${node.textContent.slice(0, 40)}`);
    }""")


def list_unreachable(panel) -> list[str]:
    """Return the controls that Tab does not reach from the first one, and those without a name."""
    controls = [node for node in panel.locator("textarea, input, select, button, [role=slider]").all()
                if node.is_visible()]
    nodes = [control.element_handle() for control in controls]
    nodes[0].focus()
    reached, presses = {0}, 3 * len(nodes)
    for _ in range(presses):  # a slider's number is reached, too, and is no control
        panel.page.keyboard.press("Tab")
        reached.add(panel.page.evaluate("nodes => nodes.indexOf(document.activeElement)", nodes))
    missed = [f"not by Tab: {controls[number]}" for number in {*range(len(nodes))} - reached]
    return missed + [line.strip() for line in panel.aria_snapshot().splitlines() if NAMELESS.match(line)]
