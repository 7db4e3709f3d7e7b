"""What a notebook keeps of live panels when it is saved, by the function and through Jupyter's own server."""

import copy

import nbformat
import pytest
from jupyter_core.utils import ensure_async, run_sync
from jupyter_server.serverapp import ServerApp

from mome.cli.saved import STATE, clean_before_save, strip_panels
from mome.config import WIDGET


def show(name, **metadata):
    view = {"model_id": name, "version_major": 2}
    data = {"text/plain": "words", "text/html": "<p>words</p>", WIDGET: view}
    return nbformat.v4.new_output("display_data", data=data, metadata=metadata)


@pytest.fixture
def notebook():
    """A panel of a box that holds a slider, and somebody's own box of the same layout."""
    state = {"panel": {"state": {"children": ["IPY_MODEL_slider"], "layout": "IPY_MODEL_layout"}},
             "slider": {"state": {"value": 1}}, "layout": {"state": {}},
             "own": {"state": {"children": ["IPY_MODEL_layout"], "more": {"deep": "IPY_MODEL_deep"}}},
             "deep": {"state": {}}}
    cell = nbformat.v4.new_code_cell("show()", outputs=[show("panel", mome={"panel": "router"}), show("own")])
    return nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("# A"), cell], metadata={"widgets": {STATE: {"state": state}}})


def test_a_saved_panel_keeps_its_words_and_loses_its_widget_with_the_states_that_only_it_used(notebook):
    strip_panels(notebook)
    panel, own = notebook.cells[1].outputs
    assert panel.data == {"text/plain": "words", "text/html": "<p>words</p>"}
    assert own.data[WIDGET]["model_id"] == "own"
    assert set(notebook.metadata.widgets[STATE].state) == {"own", "layout", "deep"}
    nbformat.validate(notebook)
    before = copy.deepcopy(notebook)
    strip_panels(notebook)
    assert notebook == before


def test_the_last_widget_takes_the_notebooks_whole_state_with_it(notebook):
    del notebook.cells[1].outputs[1], notebook.metadata.widgets[STATE].state["own"]
    del notebook.metadata.widgets[STATE].state["deep"]
    strip_panels(notebook)
    assert "widgets" not in notebook.metadata


@pytest.mark.parametrize("model", [
    {}, {"type": "file", "content": "text"}, {"type": "notebook", "content": None},
    {"type": "notebook", "content": {"nbformat": 3, "worksheets": []}},
    {"type": "notebook", "content": {"nbformat": 4, "metadata": {}, "cells": [{"outputs": [
        {"metadata": {"mome": {"panel": "router"}}, "data": {WIDGET: "no mapping"}},
        {"metadata": {"mome": "text"}}, {"metadata": None}]}]}}])
def test_what_is_no_usual_notebook_is_saved_all_the_same(model):
    clean_before_save(model=model, path="a.ipynb", contents_manager=None)


@pytest.mark.parametrize("manager", ["LargeFileManager", "AsyncLargeFileManager"])
def test_a_server_with_the_extension_saves_panels_as_words(notebook, manager, tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path / "config"))
    app = ServerApp(root_dir=str(tmp_path), allow_root=True, open_browser=False, config_dir=str(tmp_path))
    app.initialize(["--ServerApp.jpserver_extensions=mome.cli.saved=True", "--ServerApp.port=0",
                    f"--ServerApp.contents_manager_class=jupyter_server.services.contents.largefilemanager.{manager}"],
                   find_extensions=False, new_httpserver=False)
    model = {"type": "notebook", "format": "json", "content": notebook}
    run_sync(ensure_async)(app.contents_manager.save(model, "a.ipynb"))
    panel, own = nbformat.read(tmp_path / "a.ipynb", as_version=4).cells[1].outputs
    assert WIDGET not in panel.data and WIDGET in own.data
