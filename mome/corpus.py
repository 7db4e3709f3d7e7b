"""Where documents come from: every corpus yields rows {language, article_id, text}."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import re
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import lxml.etree
import lxml.html

from mome.artifacts import track
from mome.config import check_corpus, check_languages, repository

log = logging.getLogger("mome")
HELP_PACKAGES = {"en": ("libreoffice-help-en-us", "en-US"), "fr": ("libreoffice-help-fr", "fr"), "de": ("libreoffice-help-de", "de")}
BLOCKS = {"h1", "h2", "h3", "h4", "h5", "h6", "p", "pre"}
# Folders of the CPython library that are tests, data tables or vendored wheels rather than Python a person would read.
SKIPPED_PYTHON = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "encodings", "pydoc_data", "ensurepip", "turtledemo"}
TEXT_ENDINGS = {".txt", ".md", ".py", ".jsonl"}
WIKI_MARKS = {"_START_ARTICLE_": "", "_START_SECTION_": "", "_START_PARAGRAPH_": "", "_NEWLINE_": "\n"}


class CorpusUnavailable(ValueError):
    """The corpus cannot be had here: no network, no package manager, or no such files."""


def help_documents(languages: list[str]) -> Iterator[dict]:
    """Yield LibreOffice's help pages (natural languages) and the installed CPython library (py).

    The article id of a page is its path, the same in every language; that of a Python file its path in the library.
    """
    natural = [language for language in languages if language != "py"]
    check_languages(natural or ["en"], list(HELP_PACKAGES))
    with tempfile.TemporaryDirectory(prefix="mome-help-") as scratch:
        roots = fetch_help_packages(natural, Path(scratch)) if natural else {}
        for language, root in roots.items():
            pages = sorted(root.rglob("*.html"))
            for page in track(pages, f"parse help {language}", len(pages)):
                text = parse_help_page(page.read_bytes())
                if text:
                    yield {"language": language, "article_id": page.relative_to(root).as_posix(), "text": text}
    if "py" in languages:
        yield from python_documents()


def fetch_help_packages(languages: list[str], scratch: Path) -> dict[str, Path]:
    """Download and unpack the help packages under `scratch`; return the folder of pages of each language.

    apt keeps its state and cache there too, so nothing is installed, no root is needed, and signatures are checked.
    """
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise CorpusUnavailable(f"corpus='help' needs {tool}, which this machine lacks; choose corpus='wiki40b', 'mini' or 'folder:PATH'")
    for folder in ("state/lists/partial", "cache/archives/partial", "debs", "pages"):
        (scratch / folder).mkdir(parents=True)
    options = [f"Dir::State={scratch / 'state'}", f"Dir::Cache={scratch / 'cache'}", "Acquire::Retries=3", "Acquire::http::Timeout=30",
               "Acquire::https::Timeout=30", "Acquire::Languages=none", "APT::Sandbox::User=root"]
    apt = ["apt-get", "-q", *(word for option in options for word in ("-o", option))]
    # A failing third-party source makes `update` fail although Debian's own lists are whole: the download decides.
    subprocess.run([*apt, "update"], cwd=scratch, capture_output=True, text=True, check=False)
    packages = [HELP_PACKAGES[language][0] for language in languages]
    result = subprocess.run([*apt, "download", *packages], cwd=scratch / "debs", capture_output=True, text=True, check=False)
    archives = sorted((scratch / "debs").glob("*.deb"))
    if result.returncode or len(archives) < len(packages):
        reason = next((line for line in result.stderr.splitlines() if line.startswith("E:")), "no answer from the package servers")
        raise CorpusUnavailable(f"corpus='help' cannot be downloaded ({reason}); check the network, or choose corpus='mini' or 'folder:PATH'")
    for archive in archives:
        subprocess.run(["dpkg-deb", "-x", str(archive), str(scratch / "pages")], check=True)
    base = scratch / "pages/usr/share/libreoffice/help"
    return {language: base / HELP_PACKAGES[language][1] / "text" for language in languages}


def parse_help_page(html: bytes) -> str:
    """Return the page's headings and paragraphs, one a line, without navigation; empty when it has none."""
    try:
        tree = lxml.html.document_fromstring(html, parser=lxml.html.HTMLParser(encoding="utf-8"))
    except lxml.etree.ParserError:  # an empty document
        return ""
    area = tree.get_element_by_id("DisplayArea", None)
    if area is None:
        return ""
    for line_break in area.iter("br"):
        line_break.tail = f" {line_break.tail or ''}"
    lines = []
    for element in area.iter(*BLOCKS):
        text = element.text_content()
        lines += text.splitlines() if element.tag == "pre" else [" ".join(text.split())]
    return "\n".join(line.rstrip() for line in lines if line.strip())


def python_documents() -> Iterator[dict]:
    """Yield the installed CPython library, one document a file, without tests and data tables."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(path for path in root.rglob("*.py") if not SKIPPED_PYTHON & set(path.relative_to(root).parts))
    if not files:
        raise CorpusUnavailable(f"language='py' of corpus 'help' needs the CPython library as files, and {root} holds none; choose corpus='mini'")
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:  # a handful of old files declare another encoding
            continue
        if text.strip():
            yield {"language": "py", "article_id": path.relative_to(root).as_posix(), "text": text}


def folder_documents(folder: Path, languages: list[str]) -> Iterator[dict]:
    """Yield `<language>/**/*.txt|.md|.py|.jsonl`; the article id is the path under the language's folder, without its ending.

    A line of a .jsonl file is an object with `text` and, if given, `article_id`. Raises CorpusUnavailable for a language
    without text, ValueError for a file that is not UTF-8 or not JSON lines.
    """
    for language in languages:
        root, found = folder / language, False
        files = sorted(path for path in root.rglob("*") if path.suffix in TEXT_ENDINGS and "__pycache__" not in path.parts and path.is_file())
        for path in files:
            name = path.relative_to(root).with_suffix("").as_posix()
            for number, row in enumerate(read_rows(path)):
                if row["text"].strip():
                    found = True
                    default_id = f"{name}:{number}" if path.suffix == ".jsonl" else name
                    yield {"language": language, "article_id": str(row.get("article_id", default_id)), "text": row["text"]}
        if not found:
            present = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
            raise CorpusUnavailable(f"languages: {language!r} has no text in {folder}; it holds: {', '.join(present) or 'nothing'}")


def read_rows(path: Path) -> list[dict]:
    """Return the rows of a file, each with a `text`; ValueError names the file that is not UTF-8 or not JSON lines of texts."""
    try:
        text = path.read_text(encoding="utf-8")
        # Not splitlines(): JSON allows some of its line ends, such as U+2028, within a string.
        rows = [json.loads(line) for line in text.split("\n") if line.strip()] if path.suffix == ".jsonl" else [{"text": text}]
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} cannot be read as UTF-8 {path.suffix[1:]}: {error}") from None
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise ValueError(f"{path}: row {number} is not allowed; every line must be an object whose text is a string, such as {{\"text\": \"...\"}}")
    return rows


def wiki40b_documents(languages: list[str], characters: int, load=None) -> Iterator[dict]:
    """Yield Wiki40B articles and CodeParrot files from the hub, streamed, until `characters` of each language.

    `load(language)` returns an iterable of rows and stands in for the hub in tests.
    """
    load = load or stream_from_hub
    for language in languages:
        taken = 0
        try:
            for number, row in enumerate(load(language)):
                text = row["content"] if language == "py" else strip_wiki_marks(row["text"])
                article_id = f"{row.get('repo_name', '')}/{row.get('path', number)}" if language == "py" else row["wikidata_id"]
                if text.strip():
                    yield {"language": language, "article_id": str(article_id), "text": text}
                    taken += len(text)
                if taken >= characters:
                    break
        except (OSError, ConnectionError) as error:
            raise CorpusUnavailable(f"corpus='wiki40b' cannot be read from the hub ({error}); choose corpus='help', 'mini' or 'folder:PATH'") from None


def stream_from_hub(language: str):
    from datasets import load_dataset

    if language == "py":
        return load_dataset("codeparrot/codeparrot-clean-valid", split="train", streaming=True)
    return load_dataset("google/wiki40b", language, split="train", streaming=True)


def strip_wiki_marks(text: str) -> str:
    for mark, replacement in WIKI_MARKS.items():
        text = text.replace(mark, replacement)
    return re.sub(r"\n{2,}", "\n", text).strip()


def hub_is_reachable(seconds: float = 5.0) -> bool:
    """True when the data hub answers; asked before streaming, whose own retries take minutes."""
    from huggingface_hub import HfApi

    try:
        HfApi().dataset_info("google/wiki40b", timeout=seconds)
        return True
    except Exception as error:  # any failure means the same here: not available
        log.info("hub not reachable: %s", type(error).__name__)
        return False


def corpus_candidates(corpus: str, languages: list[str]) -> Iterator[tuple[str, str]]:
    """Yield (corpus, why) in the order to try: one pair for a corpus chosen by name, for `auto` help, wiki40b, mini.

    A candidate of `auto` is yielded only when what can be told at once (tools on the path, the hub's answer) speaks for it.
    """
    check_corpus(corpus)
    if corpus == "folder:PATH":
        raise ValueError("corpus='folder:PATH' is not allowed; put your own folder after folder:, with one sub-folder per language")
    if corpus != "auto":
        yield corpus, "chosen by name"
        return
    if set(languages) <= {*HELP_PACKAGES, "py"} and shutil.which("apt-get") and shutil.which("dpkg-deb"):
        yield "help", "apt-get is here and brings LibreOffice's help"
    if hub_is_reachable():
        yield "wiki40b", "the package servers gave no help pages, and the hub answers"
    yield "mini", "neither the package servers nor the hub are within reach"


def read_documents(corpus: str, languages: list[str], characters: int) -> Iterator[dict]:
    """Yield the documents of a corpus named as by `corpus_candidates`. `characters` caps the hub's stream per language."""
    if corpus == "help":
        return help_documents(languages)
    if corpus == "wiki40b":
        return wiki40b_documents(languages, characters)
    return folder_documents(corpus_folder(corpus), languages)


def corpus_folder(corpus: str) -> Path:
    return repository() / "data" / "mini" if corpus == "mini" else Path(corpus.removeprefix("folder:")).expanduser()


def corpus_version(corpus: str, languages: list[str]) -> dict:
    """Return what, beside its name, tells one state of a corpus from another; it becomes part of the artefact's name."""
    if corpus == "help":
        return {"python": platform.python_version()} if "py" in languages else {}
    if corpus == "wiki40b":
        return {}
    digest, folder = hashlib.sha256(), corpus_folder(corpus)
    for language in languages:
        for path in sorted((folder / language).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return {"sha256": digest.hexdigest()}
