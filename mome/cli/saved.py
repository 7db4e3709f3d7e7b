"""An extension of Jupyter's server: a saved notebook keeps the words of live panels, not their dead widgets.

`etc/jupyter/jupyter_server_config.d/mome.json` of the environment enables it, and `mome lab` does.
"""

from contextlib import suppress

from mome.config import WIDGET

STATE = "application/vnd.jupyter.widget-state+json"
REFERENCE = "IPY_MODEL_"  # how a widget's state names another widget


def _jupyter_server_extension_points() -> list[dict]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(app) -> None:
    """Let the server's notebooks lose their panels' widgets when they are saved."""
    app.contents_manager.register_pre_save_hook(clean_before_save)


def clean_before_save(model, **_) -> None:
    """Strip what is about to be saved; a notebook of a form that nobody foresaw is saved as it is."""
    with suppress(Exception):
        if model["type"] == "notebook" and model["content"]["nbformat"] == 4:
            strip_panels(model["content"])


def strip_panels(notebook: dict) -> None:
    """Take the widget views out of panels' outputs, and the states that only these views used.

    A panel's output has metadata {"mome": {"panel": name}}. Its text and HTML stay: without a kernel they are
    all that can be shown.
    """
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    panels = [output["data"] for output in outputs if is_panel(output)]
    gone = [data.pop(WIDGET)["model_id"] for data in panels if WIDGET in data]
    state = notebook["metadata"].get("widgets", {}).get(STATE, {}).get("state")
    if not gone or not state:
        return
    kept = [output["data"][WIDGET]["model_id"] for output in outputs if WIDGET in output.get("data", {})]
    for name in find_models(state, gone) - find_models(state, kept):
        state.pop(name, None)
    if not state:
        del notebook["metadata"]["widgets"]


def is_panel(output: dict) -> bool:
    about = output.get("metadata", {}).get("mome")
    return isinstance(about, dict) and "panel" in about and isinstance(output.get("data"), dict)


def find_models(state: dict, names: list[str]) -> set[str]:
    """Return the names of the models and of all that they refer to."""
    found, waiting = set(), list(names)
    while waiting:
        if (name := waiting.pop()) not in found:
            found.add(name)
            waiting.extend(list_references(state.get(name, {})))
    return found


def list_references(value):
    """Yield the names of the models that are referred to anywhere within a value."""
    if isinstance(value, str) and value.startswith(REFERENCE):
        yield value.removeprefix(REFERENCE)
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from list_references(item)
