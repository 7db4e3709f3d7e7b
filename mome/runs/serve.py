"""The server of `mome demo`: voila on copies of notebooks, behind a token, with nothing from elsewhere.

voila, an optional package, is loaded with this file.
"""

import json
import logging
import os
import secrets
import socket
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

from jupyter_server import DEFAULT_STATIC_FILES_PATH
from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.base.handlers import JupyterHandler
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from tornado.ioloop import IOLoop
from tornado.web import authenticated
from traitlets.config import Config
from voila.app import Voila
from voila.exporter import VoilaMarkdownRenderer
from voila.static_file_handler import AllowListFileHandler
from voila.tornado.contentshandler import VoilaContentsHandler
from voila.tornado.handler import TornadoVoilaHandler
from voila.tornado.treehandler import TornadoVoilaTreeHandler
from voila.voila_identity_provider import VoilaIdentityProvider, VoilaLoginHandler

from mome.config import home
from mome.engine import ENVIRONMENT
from mome.runs.demo import is_loopback
from mome.runs.execute import NotebookRun
from mome.runs.render import FormulaRenderer
from mome.runs.report import load_page
from mome.store import write_json, write_text

NOT_SERVED = (AllowListFileHandler, TornadoVoilaTreeHandler, VoilaContentsHandler,  # files and folders
              TornadoVoilaHandler, VoilaLoginHandler)  # the notebooks and the login have pages of ours
WIDGETS = ["@voila-dashboards/widgets-manager8", "@jupyter-widgets/jupyterlab-manager"]  # all that is loaded
POLICY = ("default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; object-src 'none'; "
          "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
          "frame-ancestors 'self'; base-uri 'self'; form-action 'self'")
MINUTES_KEPT = 10  # a kernel whose page went without a word
CLOSED = "<p>These pages need their token: open the whole address that <code>mome demo</code> printed.</p>"
FAILED = "The page stopped here. `mome demo` tells why in its terminal."


class DemoMarkdown(FormulaRenderer, VoilaMarkdownRenderer):
    """Voila's prose with formulas as MathML, which needs no script."""


class IndexPage(JupyterHandler):
    """The page that leads to the notebooks'."""

    @authenticated
    def get(self):
        self.finish(self.settings["index"])


class ClosedPage(JupyterHandler):
    """Where a request without the token is sent: there is no form, as the address holds the token."""

    @allow_unauthenticated
    def get(self):
        self.set_status(403)
        self.finish(load_page("page.html").render() + CLOSED)


class NotebookPage(TornadoVoilaHandler):
    """A notebook by its name: its cells are executed in a kernel of the page's own."""

    async def get(self, name):
        assert self.xsrf_token  # sets the cookie with which the page, when it is left, ends its kernel
        await super().get(f"{name}.ipynb")


class DemoServer(Voila):
    """Voila with an index of pages instead of the folder's tree. No file is served but voila's own."""

    def init_handlers(self) -> list:
        found = [handler for handler in super().init_handlers() if handler[1] not in NOT_SERVED]
        page = {"template_paths": self.template_paths, "config": self.config,
                "voila_configuration": self.voila_configuration}
        names = "|".join(self.app.settings["names"])
        own = [(r"/", IndexPage), (r"/login", ClosedPage), (rf"/({names})\.html", NotebookPage, page)]
        return [*own, *found]


def make_server(runs: list[NotebookRun], index: str, folder: Path, address: str, port: int) -> DemoServer:
    """Return a server of the runs' notebooks, which lie in `folder/pages`, and of an index; a token is drawn.

    What Jupyter has installed or configured for its other servers has no say, but for voila's own files.
    """
    write_jupyter(folder / "jupyter")
    planned, visits = {run.notebook: run for run in runs}, count(1)

    def parameterize(handler, notebook, cwd):
        run = planned[Path(handler.request.path).stem]
        values = json.loads(run.parameters) | {"out": str(folder / f"demo-{next(visits)}" / run.notebook)}
        return parameterize_notebook(load_notebook_node(run.path), values)

    settings = {"index": index, "names": [*planned], "allow_remote_access": not is_loopback(address),
                "static_path": DEFAULT_STATIC_FILES_PATH, "static_url_prefix": "/voila/static/",
                "headers": {"Content-Security-Policy": POLICY, "Referrer-Policy": "same-origin"}}
    server = DemoServer(config_file_paths=[], tornado_settings=settings, config=Config({
        "Voila": {"ip": address, "port": port, "open_browser": False, "root_dir": str(folder / "pages"),
                  "token": secrets.token_hex(24), "identity_provider_class": VoilaIdentityProvider,
                  "connection_dir_root": str(folder), "log_level": logging.ERROR},
        "VoilaConfiguration": {
            "template": "mome", "allow_template_override": "NO", "allow_theme_override": "NO",
            "file_allowlist": [], "extension_allowlist": WIDGETS, "prelaunch_hook": parameterize},
        "VoilaExporter": {"markdown_renderer_class": DemoMarkdown},
        "VoilaExecutor": {"cell_error_instruction": FAILED},
        "MappingKernelManager": {"cull_idle_timeout": 60 * MINUTES_KEPT, "cull_interval": 60}}))
    logging.getLogger("tornado").setLevel(logging.ERROR)  # a browser asks for much that is not there
    server.initialize([])
    return server


def write_jupyter(folder: Path) -> None:
    """Write a folder for JUPYTER_PATH: the page's template, and a kernel of this Python that only reads.

    It has one thread, this store, and MOME_NOTEBOOK, with which `run.build` builds nothing.
    """
    template, kernel = folder / "voila/templates/mome", folder / "kernels/python3"
    for path in (template, kernel):
        path.mkdir(parents=True, exist_ok=True)
    write_json(template / "conf.json", {"base_template": "lab"})
    write_text(template / "index.html.j2", (Path(__file__).parent / "demo.html").read_text(encoding="utf-8"))
    environment = {name: str(value) for name, value in ENVIRONMENT.items()}
    write_json(kernel / "kernel.json", {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}",
                 "--IPKernelApp.log_level=CRITICAL"],
        "display_name": "Python 3", "language": "python",
        "env": {**environment, "MOME_BATCH": "0", "MOME_HOME": str(home()), "MOME_NOTEBOOK": "demo"}})
    others = os.environ.get("JUPYTER_PATH", "")
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [str(folder), others]))


def serve(server: DemoServer, tell: Callable[[str], None]) -> None:
    """Serve until an interrupt; `tell` gets the address, with the token, once somebody listens there."""
    IOLoop.current().add_callback(lambda: tell(write_address(server.ip, server.port, server.token)))
    server.start()


def write_address(address: str, port: int, token: str) -> str:
    """Return the address of the pages for a browser; of a server on all addresses by the machine's name."""
    host = socket.gethostname() if address in ("0.0.0.0", "::") else address
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{port}/?token={token}"
