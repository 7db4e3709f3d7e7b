"""A run's folder: resolved configuration, figures, tables; metrics.json, written last, means complete."""

import html
import itertools
import os
import time
from pathlib import Path

from mome import engine
from mome.board import say
from mome.checks import check_choice
from mome.config import runs_dir
from mome.evaluate.claims import conclude, describe_part
from mome.plan import make_plan
from mome.provenance import tell_provenance, versions
from mome.recipe import collect, list_ancestors, to_plain
from mome.runs import CLAIMS
from mome.runs.drawing import describe_plot, frame_figure, save_figure
from mome.runs.parameters import check_known, fit_values, read_kernel
from mome.runs.reference import compare_with_reference, describe_differences
from mome.runs.spelling import read_again
from mome.runs.state import Heartbeat, find_shell, is_taken
from mome.scales import resolve_scale
from mome.store import NotBuilt, read_json, write_json, write_text
from mome.weights import list_read


class Run:
    """One execution of one notebook. Its folder appears at the first build, table or figure.

    A cell that is executed again writes again what it wrote: of a name or a claim the last counts.
    """

    def __init__(self, notebook: str, values: dict, folder: Path):
        self.notebook, self.folder, self.is_fresh = notebook, folder, not folder.exists()
        self.values = {name: value for name, value in values.items() if name != "out"}
        self.scale = resolve_scale(values["scale"], values["overrides"])
        self.figures, self.findings, self.tables, self.heartbeat = {}, {}, {}, None
        self.started = time.perf_counter()
        check_same_run(folder, values)

    @property
    def id(self) -> str:
        return self.folder.parent.name if self.folder.name == self.notebook else self.folder.name

    def open_folder(self, part: str = "") -> Path:
        """Return the run's folder or a part of it, made and with its config.json."""
        if self.heartbeat is None:
            if self.is_fresh and self.folder.exists():  # of another run, which started in the same second
                self.folder = fresh_folder(self.notebook)
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / "config.json", {
                "notebook": self.notebook, "parameters": self.values, "scale": to_plain(self.scale),
                "versions": versions(), **tell_provenance()})
            self.heartbeat = Heartbeat(self.folder)
        (self.folder / part).mkdir(parents=True, exist_ok=True)
        return self.folder / part

    def build(self, needs, tracker: str = "") -> None:
        """Build what is missing of the needs, within a command nothing: there all was built before.

        A `tracker`, such as tensorboard (by default MOME_TRACKER), follows the trainings.

        The names of the needs stay with the run, and `mome clean` leaves them.
        """
        note_needs(self.open_folder(), needs)
        if not os.environ.get("MOME_NOTEBOOK"):
            engine.build(needs, tracker=tracker)
            return
        plan = make_plan(needs)
        excused = engine.find_excused(plan)
        for recipe in plan.missing:
            if recipe.name not in excused:
                raise NotBuilt(f"{recipe.name} ({recipe.title}) was not planned: let the cell 'needs' use "
                               "the parameters and nothing else")

    def figure(self, name: str, caption: str, plot, *arguments, **options) -> None:
        """Draw a figure by a `plot_*` function of `mome.figures`, keep it as PNG and as data, and show it.

        In a notebook it stands over its caption, which is its alt text, too.

        It is drawn from what is kept (JSON, numbers to six digits), so `mome publish` draws it again byte for
        byte. ValueError for an argument that is no table, list, text or number.
        """
        folder, data = self.open_folder("figures"), describe_plot(plot, arguments, options)
        write_text(folder / f"{name}.json", data)
        save_figure(data, self.id, folder / f"{name}.png")
        self.figures[name] = {"name": name, "caption": caption}
        if find_shell():
            from IPython.display import publish_display_data

            shown = frame_figure(folder / f"{name}.png", caption)
            publish_display_data({"text/html": shown, "text/plain": caption})

    def table(self, table, name: str) -> None:
        table.to_parquet(self.open_folder("tables") / f"{name}.parquet")
        self.tables[name] = name

    def finding(self, text: str) -> str:
        """Keep a computed sentence and return it."""
        self.findings[text] = {"text": text, "verdict": "", "claim": "", "parts": []}
        return text

    def claim(self, claim: str, text: str, parts: list[dict]) -> str:
        """Keep the verdict on a claim, C1 to C5, with its parts (`evaluate.claims.ask`); return it in words.

        `text` says in at most 25 words what was measured; the parts hold the numbers.
        """
        check_choice("claim", claim, CLAIMS)
        verdict = conclude(parts)
        self.findings[claim] = {"text": text, "verdict": verdict, "claim": claim, "parts": parts}
        return "\n".join([f"{claim} {verdict}: {text}", *(f"  {describe_part(part)}" for part in parts)])

    def beside_reference(self):
        """Return the parts of this run's claims beside those of the committed reference, to be shown."""
        entry = {"notebook": self.notebook, "parameters": self.values, "findings": [*self.findings.values()]}
        return compare_with_reference(entry).style.hide().set_caption(describe_differences(entry))

    def complete(self, metrics: dict) -> None:
        """Write metrics.json, which marks the run as complete."""
        folder, seconds = self.open_folder(), round(time.perf_counter() - self.started, 1)
        entry = {"notebook": self.notebook, "run": self.id, "parameters": self.values, "metrics": metrics,
                 "findings": [*self.findings.values()], "figures": [*self.figures.values()],
                 "tables": [*self.tables], "seconds": seconds, "versions": versions(), **tell_provenance()}
        write_json(folder / "read.json", list_read())
        write_json(folder / "metrics.json", entry)
        self.heartbeat.end()


def tell(*texts: str) -> None:
    """Show what `Run.finding` and `Run.claim` return, word by word, as sentences in a proportional face.

    The first line of each is a paragraph; the lines below it, a claim's parts, are a list behind a fold.
    """
    from IPython.display import display

    page = "".join(map(draw_sentence, texts))
    display({"text/plain": "\n".join(texts), "text/html": page}, raw=True)


def draw_sentence(text: str) -> str:
    """Return HTML of a finding or a claim."""
    sentence, *parts = (html.escape(line.strip(), quote=False) for line in text.split("\n"))
    if parts:  # a claim begins with its verdict
        verdict, colon, rest = sentence.partition(":")
        sentence = f"<b>{verdict}{colon}</b>{rest}"
    style = "font-family: system-ui, sans-serif; line-height: 1.5; max-width: 44em; margin: .3em 0"
    listed = "".join(f"<li>{part}</li>" for part in parts)
    folded = f"<details><summary>what was asked, and the numbers</summary><ul>{listed}</ul></details>"
    return f'<div style="{style}"><p style="margin:0">{sentence}</p>{folded if parts else ""}</div>'


def note_needs(folder: Path, needs) -> None:
    """Keep the names of what is built and of its ancestors: used, even when the build is interrupted."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "needs.txt", "a", encoding="utf-8") as file:
        file.writelines(f"{recipe.name}\n" for recipe in list_ancestors(collect(needs)))


def check_same_run(folder: Path, values: dict) -> None:
    """Raise ValueError when the folder holds a run of other parameters: going on would mix the two."""
    try:
        before = dict(read_json(folder / "config.json")["parameters"])
    except FileNotFoundError:
        return
    except (KeyError, TypeError):  # damaged: nothing is as it was
        before = {}
    changed = [f"{name} was {before.get(name)!r} and is {values.get(name)!r} now"
               for name in sorted({*before, *values} - {"out"}) if before.get(name) != values.get(name)]
    if changed:
        raise ValueError(f"out={str(folder)!r} holds a run of other parameters: {'; '.join(changed)}. "
                         "Give another folder, or remove this one")


def fresh_folder(name: str) -> Path:
    """Return a folder for a run that is not there yet, even when the clock has been set back."""
    path = runs_dir() / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    others = (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))
    return next(folder for folder in itertools.chain([path], others) if not folder.exists())


def start_run(notebook: str, **values) -> Run:
    """Return the run of the notebook that calls it with each of its parameters by name; writes nothing yet.

    The kernel's variables become the run's values: read as `mome run` would have where papermill has read
    them, fitted to the languages where nobody chose them. A parameter that a copy of a notebook has gained is
    among them. Raises ValueError for one that is not allowed, and for a misspelt one that papermill has put
    in, as papermill itself only warns of it.
    """
    declared, injected = read_kernel()
    variables = find_shell().user_ns if declared else {}
    declared = declared or values
    check_known(notebook, declared, injected)
    given = {name: variables.get(name, default) for name, default in declared.items()} | values
    usual = {**declared, "overrides": to_plain(resolve_scale("smoke"))}
    read = {name: read_again(name, given[name], usual.get(name)) for name in given}
    values = fit_values(notebook, declared, read, injected, say)
    variables.update({name: value for name, value in values.items() if repr(value) != repr(given[name])})
    told = ", ".join(f"{name}={value!r}" for name, value in injected.items()
                     if name != "out" and value != declared[name])
    if told and not os.environ.get("MOME_NOTEBOOK"):  # in an executed copy it beats what a person edits
        say(f"the cell '# Parameters' sets {told} over the cell above it")
    folder = choose_folder(notebook, values["out"])
    from mome.figures.style import set_style  # matplotlib, which plans can do without

    set_style()
    return Run(notebook, values, folder)


def choose_folder(notebook: str, out: str) -> Path:
    """Return the folder `out`, or a fresh one where none is named or where that one is not to be written."""
    folder = Path(out).expanduser().resolve() if out else fresh_folder(notebook)
    if os.environ.get("MOME_NOTEBOOK") or not is_taken(folder):
        return folder
    fresh = fresh_folder(notebook)
    say(f"{folder} holds another run, which stays as it is; this one goes to {fresh}")
    return fresh
