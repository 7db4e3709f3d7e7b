"""What `mome demo` shows and to whom: refusals, models, copies, static pages, and a server that is asked."""

import ast
import builtins
import html
import json
import re

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.testing import bind_unused_port
from tornado.websocket import websocket_connect

from mome.cli import demo as command
from mome.cli.main import main
from mome.runs import demo
from mome.runs.execute import NotebookRun
from mome.runs.parameters import read_cells

KERNEL = "/api/kernels/12345678-1234-1234-1234-123456789012"
MINI = {"scale": "smoke", "corpus": "mini"}


@pytest.fixture(autouse=True)
def nothing_built(own_home, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("something was built")

    monkeypatch.setattr("mome.engine.build", refuse)
    return own_home


@pytest.mark.parametrize("words, said", [
    (["--address", "0.0.0.0"], ["address='0.0.0.0'", "--public"]),
    (["--address", "example.org"], ["address='example.org'", "--public"]),
    (["--address", "::"], ["address='::'", "--public"]),
    (["--address", "192.0.2.7", "--public"], ["address='192.0.2.7'", "this machine"]),
    (["--port", "0"], ["port=0"]), (["--port", "70000"], ["port=70000"]),
    (["--export", "full"], ["'full'", "not empty"]), (["--scale", "huge"], ["scale='huge'"]),
    (["--languages", "en,xx"], ["'xx'"]), (["-p", "alpah=1"], ["'alpah'"])])
def test_bad_input_is_one_line_before_anything_is_built_or_served(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").touch()
    assert main(["demo", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and all(word in error for word in said), error
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "thesis.txt"]


def test_without_voila_a_sentence_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert main(["demo"]) == 2
    assert 'pip install "mome[demo]"' in capsys.readouterr().err


@pytest.mark.parametrize("address, is_local", [
    ("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),
    ("::", False), ("10.0.0.1", False), ("localhost.example.org", False)])
def test_what_only_this_machine_reaches_needs_no_consent(address, is_local):
    assert demo.is_loopback(address) is is_local


@pytest.mark.parametrize("address, host", [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("::", "pc"),
                                           ("0.0.0.0", "pc"), ("10.0.0.1", "10.0.0.1")])
def test_the_address_that_is_told_can_be_opened(address, host, monkeypatch):
    serve = pytest.importorskip("mome.runs.serve")
    monkeypatch.setattr("socket.gethostname", lambda: "pc")
    assert serve.write_address(address, 8866, "t") == f"http://{host}:8866/?token=t"


@pytest.mark.parametrize("given, is_there, expected", [
    ({"scale": "paper"}, False, {"scale": "paper"}), ({"corpus": "mini"}, False, {"corpus": "mini"}),
    ({"languages": ["en", "fr"]}, True, {"languages": ["en", "fr"]}), ({}, False, MINI),
    ({"languages": ["en", "fr"]}, False, {"languages": ["en", "fr"], **MINI})])
def test_the_usual_models_are_shown_where_all_is_there_and_else_small_ones(given, is_there, expected,
                                                                           monkeypatch):
    class Found:
        missing = () if is_there else ("a teacher",)

    monkeypatch.setattr(demo, "find_newest", lambda *_, **__: "a corpus")
    monkeypatch.setattr(demo, "read_needs", lambda path, values: values)
    monkeypatch.setattr(demo, "make_plan", lambda needs: Found)
    assert demo.choose_models(given)[0] == expected


def test_an_empty_store_means_small_models_and_no_question_to_the_network(monkeypatch):
    def ask(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr("mome.data.corpora.corpus_candidates", ask)
    assert demo.choose_models({})[0] == MINI


def test_the_taste_is_told_without_guesses_and_drawings_and_holds_together(tmp_path):
    taste, playground = demo.copy_notebooks(tmp_path)
    cells = read_cells(taste)
    text = "\n".join(cell["source"] for cell in cells)
    assert text.startswith("# ") and "## A taste" in text and "run.complete(" in text
    assert not re.search(r"_guesses\(|Your guess|plot_story|tell_costs\(|Glossary|How to cite", text)
    known = {*dir(builtins)}
    for tree in (ast.parse(cell["source"]) for cell in cells if cell["kind"] == "code"):
        names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
        known |= {node.id for node in names if isinstance(node.ctx, ast.Store)}
        known |= {getattr(node, "asname", None) or getattr(node, "name", None) or getattr(node, "arg", None)
                  for node in ast.walk(tree)}
        assert {node.id for node in names} <= known
    whole = len(read_cells(demo.find_notebook(demo.TASTE)))
    assert 10 < len(cells) < whole / 1.5 and len(read_cells(playground)) > whole / 2


def test_pages_link_to_each_other_and_to_nothing_that_is_not_served():
    text = "`06_playground`, [it](06_playground.ipynb#x), [03](03_kd_alpha.ipynb), [paper](https://a.b/c)"
    assert demo.adapt_links(text) == (
        "[06_playground](06_playground.html), [it](06_playground.html#x), 03, [paper](https://a.b/c)")


def test_static_pages_say_what_is_missing_and_need_no_network(tmp_path):
    runs = []
    for path in demo.copy_notebooks(tmp_path / "pages"):
        run = NotebookRun(path.stem, "", json.dumps({}), (), str(path), str(tmp_path / "runs" / path.stem))
        run.folder.mkdir(parents=True)
        (run.folder / "executed.ipynb").write_text(path.read_text())
        runs.append(run)
    index = demo.write_static(runs, "Executed today", tmp_path / "out")
    assert {path.name for path in index.parent.iterdir()} == {
        "index.html", "00_start_here.html", "06_playground.html"}
    assert "smallest modular model" in (index.parent / "00_start_here.html").read_text()
    for path in index.parent.iterdir():
        page = path.read_text()
        assert "Missing here" in page and "Executed today" in page and "default-src 'none'" in page
        assert not re.search(r"<script|<link|src=.?http|\.ipynb|start_run|highlight\W+>", page), path


def make_run(folder, notebook):
    run = NotebookRun("09_toy", "", json.dumps({"x": 2}), (), str(folder / "pages/09_toy.ipynb"), "")
    (folder / "pages").mkdir()
    (folder / "pages/09_toy.ipynb").write_text(json.dumps(notebook))
    return run


@pytest.fixture
def asked(make_toy, tmp_path, monkeypatch):
    """What a server answers, by what was asked: a status, a page, the kinds of messages of a kernel."""
    serve = pytest.importorskip("mome.runs.serve")
    monkeypatch.setenv("JUPYTER_PATH", "")
    monkeypatch.setattr("voila.app.signal.signal", lambda *_: None)
    told = "import os\nprint([x, *map(os.environ.get, ('OMP_NUM_THREADS', 'MOME_HOME', 'MOME_BATCH'))])"
    toy = make_toy(needs=None, parameters="x: int = 1", cells=(told, "raise ValueError('secret')"))
    notebook = json.loads(toy.read_text())
    notebook["cells"][0]["source"] = "A formula, $a^2$"
    server = serve.make_server([make_run(tmp_path, notebook)], "the index", tmp_path, "127.0.0.1", 1)
    found = {}

    def listen(self):
        socket, port = bind_unused_port()
        HTTPServer(self.app).add_socket(socket)
        found.update(IOLoop.current().run_sync(lambda: ask_all(f"127.0.0.1:{port}", self.token), 60))
        self.stop()

    monkeypatch.setattr(serve.DemoServer, "listen", listen)
    server.start()
    return found


async def ask_all(place, token):
    key, found = {"Authorization": f"token {token}"}, {}
    for path in ("/", "/09_toy.html", KERNEL, "/voila/files/09_toy.ipynb", "/voila/tree/",
                 "/voila/render/09_toy.ipynb", "/voila/api/contents/", "/voila/static/../../../etc/passwd"):
        for who, headers in (("stranger", {}), ("owner", key)):
            if (who, path) != ("owner", "/09_toy.html"):
                answer = await AsyncHTTPClient().fetch(f"http://{place}{path}", headers=headers,
                                                       raise_error=False)
                found[who, path] = answer.code, answer.body.decode(errors="replace")
    rebound = await AsyncHTTPClient().fetch(f"http://{place}/", headers={**key, "Host": "example.org"},
                                            raise_error=False)
    page = (await AsyncHTTPClient().fetch(f"http://{place}/09_toy.html", headers=key)).body.decode()
    name = re.search(r'"kernelId": "([^"]+)"', page)[1]
    kernel = f"ws://{place}/api/kernels/{name}/channels"
    with pytest.raises(HTTPClientError) as refused:
        await websocket_connect(HTTPRequest(kernel))
    kinds = await talk(await websocket_connect(HTTPRequest(kernel, headers=key)))
    return {**found, "rebound": rebound.code, "page": page, "stranger's kernel": refused.value.code,
            "answers": kinds}


async def talk(socket):
    """Return the kinds of the kernel's answers to a request to execute, then one that is allowed."""
    for kind, content in (("execute_request", {"code": "1", "silent": False}), ("kernel_info_request", {})):
        await socket.write_message(json.dumps({
            "channel": "shell", "parent_header": {}, "metadata": {}, "buffers": [], "content": content,
            "header": {"msg_id": kind, "session": "s", "msg_type": kind, "username": "", "version": "5.3"}}))
    kinds = []
    while "kernel_info_reply" not in kinds:
        kinds.append(json.loads(await socket.read_message())["header"]["msg_type"])
    socket.close()
    return kinds


def test_a_server_shows_pages_to_who_has_the_token_and_lets_nothing_be_executed_or_read(asked, tmp_path):
    assert asked["owner", "/"] == (200, "the index")
    paths = {path for who, path in (key for key in asked if len(key) == 2)}
    strangers = {path: asked["stranger", path] for path in paths}
    assert {code for code, _ in strangers.values()} == {403, 404}
    assert all(strangers[path][0] == 403 for path in ("/", "/09_toy.html", KERNEL))
    assert all(asked["owner", path][0] in (403, 404) for path in paths - {"/", "/09_toy.html"})
    assert (asked["rebound"], asked["stranger's kernel"]) == (403, 403)
    assert "execute_reply" not in asked["answers"] and "execute_input" not in asked["answers"]
    page = html.unescape(asked["page"])
    assert f"[2, '1', '{tmp_path / 'home'}', '0']" in page and "<msup>" in page
    assert "The page stopped here" in page and "secret" not in page and "raise" not in page
    hosts = {*re.findall(r"https?://([\w.]+)", page)} - {"127.0.0.1"}
    assert hosts <= {"www.w3.org", "purl.org", "creativecommons.org"}, "names in drawings and formulas"
