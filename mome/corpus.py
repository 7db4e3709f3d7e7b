"""Where documents come from: every corpus yields rows {language, article_id, text}."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import platform
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import lxml.etree
import lxml.html
import pyarrow
import pyarrow.parquet

from mome import hub
from mome.artifacts import track
from mome.config import CODE_LANGUAGES, CORPUS_LANGUAGES, check_corpus, check_languages, corpus_languages, repository

log = logging.getLogger("mome")
BLOCKS = {"h1", "h2", "h3", "h4", "h5", "h6", "p", "pre"}
# Folders of the CPython library that are tests, data tables or vendored wheels rather than Python a person would read.
SKIPPED_PYTHON = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "encodings", "pydoc_data", "ensurepip", "turtledemo"}
# Installed packages whose source is the reference corpus' Python: other hands and subjects than the standard library's.
REFERENCE_PACKAGES = ("matplotlib", "pandas", "seaborn", "sklearn")
TEXT_ENDINGS = {".txt", ".md", ".jsonl", ".parquet"}
CODE_ENDINGS = {".py", ".js", ".mjs", ".ts", ".c", ".h", ".cc", ".cpp", ".hpp", ".cs", ".java", ".kt", ".scala", ".go", ".rs", ".swift", ".rb", ".php",
                ".pl", ".r", ".R", ".jl", ".lua", ".hs", ".sh", ".sql"}


class CorpusUnavailable(ValueError):
    """The corpus cannot be had here: no network, no package manager, or no such files."""


def help_documents(languages: list[str]) -> Iterator[dict]:
    """Yield LibreOffice's help pages (natural languages) and the installed CPython library (py).

    The article id of a page is its path, the same in every language; that of a Python file its path in the library.
    """
    check_languages(languages, CORPUS_LANGUAGES["help"])
    natural = [language for language in languages if language != "py"]
    with tempfile.TemporaryDirectory(prefix="mome-help-") as scratch:
        yield from parse_help_pages(fetch_help_packages(natural, Path(scratch)) if natural else {})
    if "py" in languages:
        yield from python_documents()


def fetch_help_packages(languages: list[str], scratch: Path) -> dict[str, Path]:
    """Download and unpack the help packages under `scratch`; return the folder of pages of each language."""
    codes = {language: "en-us" if language == "en" else language for language in languages}
    files = fetch_packages("help", [f"libreoffice-help-{code}" for code in codes.values()], scratch)
    folders = {folder.name.lower(): folder / "text" for folder in (files / "usr/share/libreoffice/help").iterdir()}
    return {language: folders[code] for language, code in codes.items()}


def fetch_packages(corpus: str, packages: list[str], scratch: Path) -> Path:
    """Download Debian packages and unpack them under `scratch`; return the folder that then holds their files.

    apt keeps its state and cache there too, so nothing is installed, no root is needed, and signatures are checked.
    """
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise CorpusUnavailable(f"corpus={corpus!r} needs {tool}, which this machine lacks; choose corpus='wiki40b', 'mini' or 'folder:PATH'")
    for folder in ("state/lists/partial", "cache/archives/partial", "debs", "pages"):
        (scratch / folder).mkdir(parents=True)
    options = [f"Dir::State={scratch / 'state'}", f"Dir::Cache={scratch / 'cache'}", "Acquire::Retries=3", "Acquire::http::Timeout=30",
               "Acquire::https::Timeout=30", "Acquire::Languages=none", "APT::Sandbox::User=root"]
    apt = ["apt-get", "-q", *(word for option in options for word in ("-o", option))]
    # A failing third-party source makes `update` fail although Debian's own lists are whole: the download decides.
    subprocess.run([*apt, "update"], cwd=scratch, capture_output=True, text=True, check=False)
    result = subprocess.run([*apt, "download", *packages], cwd=scratch / "debs", capture_output=True, text=True, check=False)
    archives = sorted((scratch / "debs").glob("*.deb"))
    if result.returncode or len(archives) < len(packages):
        reason = next((line for line in result.stderr.splitlines() if line.startswith("E:")), "no answer from the package servers")
        raise CorpusUnavailable(f"corpus={corpus!r} cannot be downloaded ({reason}); check the network, or choose corpus='mini' or 'folder:PATH'")
    for archive in archives:
        subprocess.run(["dpkg-deb", "-x", str(archive), str(scratch / "pages")], check=True)
    return scratch / "pages"


def parse_help_pages(roots: dict[str, Path], part: float = 1.0) -> Iterator[dict]:
    """Yield the pages with text of every language's folder, or the first part of them."""
    for language, root in roots.items():
        pages = sorted(root.rglob("*.html"))
        pages = pages[:round(part * len(pages))]
        for page in track(pages, f"parse help {language}", len(pages)):
            text = parse_help_page(page.read_bytes())
            if text:
                yield {"language": language, "article_id": page.relative_to(root).as_posix(), "text": text}


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
        lines += block_lines(element)
    return "\n".join(lines)


def block_lines(element) -> list[str]:
    """Return the lines of text of a heading, paragraph or piece of code; only code has more than one."""
    text = element.text_content()
    lines = text.splitlines() if element.tag == "pre" else [" ".join(text.split())]
    return [line.rstrip() for line in lines if line.strip()]


def reference_documents(languages: list[str]) -> Iterator[dict]:
    """Yield the sections of the Debian Reference (natural languages) and the source of installed packages (py).

    The article id of a section is its page and anchor, the same in every language. Another domain than help: how a Debian
    system is run, and how scientific Python is written.
    """
    natural = [language for language in languages if language != "py"]
    if natural:
        with tempfile.TemporaryDirectory(prefix="mome-reference-") as scratch:
            files = fetch_packages("reference", [f"debian-reference-{language}" for language in natural], Path(scratch))
            for language in natural:
                for page in sorted((files / "usr/share/debian-reference").glob(f"*.{language}.html")):
                    for anchor, text in parse_reference_page(page.read_bytes()).items():
                        yield {"language": language, "article_id": f"{page.name.partition('.')[0]}#{anchor}", "text": text}
    if "py" in languages:
        for name in REFERENCE_PACKAGES:
            root = Path(importlib.util.find_spec(name).origin).parent
            for path in list_python(root):
                text = path.read_text(encoding="utf-8")
                if text.strip():
                    yield {"language": "py", "article_id": f"{name}/{path.relative_to(root).as_posix()}", "text": text}


def parse_reference_page(html: bytes) -> dict[str, str]:
    """Return {anchor: text} of the page's sections, each without those within it."""
    tree = lxml.html.document_fromstring(html, parser=lxml.html.HTMLParser(encoding="utf-8"))
    sections: dict[str, list[str]] = {}
    for element in tree.iter(*BLOCKS):
        section = next((parent for parent in element.iterancestors("div") if parent.get("class") == "section"), None)
        anchor = None if section is None else next((link.get("id") for link in section.iter("a") if link.get("id")), None)
        if anchor is not None and not any(parent.tag in BLOCKS for parent in element.iterancestors()):
            sections.setdefault(anchor, []).extend(block_lines(element))
    return {anchor: "\n".join(lines) for anchor, lines in sections.items() if lines}


def list_python(root: Path) -> list[Path]:
    """Return the Python files under `root` that a person would read, without tests and data tables."""
    return sorted(path for path in root.rglob("*.py") if not SKIPPED_PYTHON & set(path.relative_to(root).parts))


def python_documents(part: float = 1.0) -> Iterator[dict]:
    """Yield the installed CPython library, or the first part of it, one document a file, without tests and data tables."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = list_python(root)
    if not files:
        raise CorpusUnavailable(f"language='py' of corpus 'help' needs the CPython library as files, and {root} holds none; choose corpus='mini'")
    for path in files[:round(part * len(files))]:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:  # a handful of old files declare another encoding
            continue
        if text.strip():
            yield {"language": "py", "article_id": path.relative_to(root).as_posix(), "text": text}


def folder_documents(folder: Path, languages: list[str]) -> Iterator[dict]:
    """Yield the texts of `<language>/**`: .txt, .md, .jsonl, .parquet, and files of code.

    The article id is the path under the language's folder: without its ending, so that a.txt and a.md can be translations
    of one another, but with it for code, where a.c and a.h are two files. A row of .jsonl or .parquet has `text` and, if
    given, `article_id`. Empty texts are left out. Raises CorpusUnavailable for a language without text, ValueError for a
    file that is binary, not UTF-8, or not rows with a text.
    """
    for language in languages:
        root, found = folder / language, False
        for path in list_files(root):
            name = path.relative_to(root)
            name = (name if language in CODE_LANGUAGES else name.with_suffix("")).as_posix()
            for number, row in enumerate(read_rows(path)):
                if not row["text"].strip():
                    log.warning("%s: row %d is empty and left out", path, number + 1)
                    continue
                found = True
                default_id = f"{name}:{number}" if path.suffix in (".jsonl", ".parquet") else name
                given = row.get("article_id")
                yield {"language": language, "article_id": default_id if given is None else str(given), "text": row["text"]}
        if not found:
            present = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
            raise CorpusUnavailable(f"languages: {language!r} has no text in {folder}; it holds: {', '.join(present) or 'nothing'}")


def list_files(root: Path) -> list[Path]:
    endings = TEXT_ENDINGS | CODE_ENDINGS
    return sorted(path for path in root.rglob("*") if path.suffix in endings and "__pycache__" not in path.parts and path.is_file())


def read_rows(path: Path) -> list[dict]:
    """Return the rows of a file, each with a `text`; ValueError names the file that is damaged, binary, not UTF-8, or without texts."""
    try:
        if path.suffix == ".parquet":
            rows = pyarrow.parquet.read_table(path).to_pylist()
        else:
            text = path.read_text(encoding="utf-8-sig")
            # Not splitlines(): JSON allows some of its line ends, such as U+2028, within a string.
            rows = [json.loads(line) for line in text.split("\n") if line.strip()] if path.suffix == ".jsonl" else [{"text": text}]
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError, pyarrow.ArrowException, OSError) as error:
        kind = "Parquet" if path.suffix == ".parquet" else f"UTF-8 {path.suffix[1:]}"
        raise ValueError(f"{path} cannot be read as {kind}: {error}") from None
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise ValueError(f"{path}: row {number} is not allowed; every row must have a text that is a string, such as {{\"text\": \"...\"}}")
        if "\0" in row["text"]:
            raise ValueError(f"{path}: row {number} holds zero bytes, so it is binary and not text; move it out of the folder")
    return rows


def hub_documents(languages: list[str], characters: int, common_articles: bool, folder: Path) -> Iterator[dict]:
    """Yield Wiki40B articles and CodeParrot files, streamed from the hub into `folder`; see `hub.download`."""
    check_languages(languages, CORPUS_LANGUAGES["wiki40b"])
    try:
        yield from hub.download(languages, characters, common_articles, folder)
    except hub.HubUnavailable as error:
        raise CorpusUnavailable(f"corpus='wiki40b' cannot be read from the hub ({error}); what was read is kept and the same command goes on from there; "
                                "or choose corpus='help', 'mini' or 'folder:PATH'") from None


def corpus_candidates(corpus: str, languages: list[str]) -> Iterator[tuple[str, str]]:
    """Yield (corpus, why) in the order to try: one pair for a corpus chosen by name, for `auto` help, wiki40b, mini.

    A candidate of `auto` is yielded only when what can be told at once (tools on the path, the hub's answer) speaks for it.
    Raises CorpusUnavailable where `auto` would end at mini and mini lacks a language.
    """
    check_corpus(corpus)
    if corpus == "folder:PATH":
        raise ValueError("corpus='folder:PATH' is not allowed; put your own folder after folder:, with one sub-folder per language")
    if corpus != "auto":
        yield corpus, "chosen by name"
        return
    if set(languages) <= set(CORPUS_LANGUAGES["help"]) and shutil.which("apt-get") and shutil.which("dpkg-deb"):
        yield "help", "apt-get is here and brings LibreOffice's help"
    if set(languages) <= set(CORPUS_LANGUAGES["wiki40b"]) and hub.is_reachable():
        yield "wiki40b", "the package servers gave no help pages, and the hub answers"
    if not set(languages) <= set(CORPUS_LANGUAGES["mini"]):
        raise CorpusUnavailable(f"languages={languages!r}: no corpus within reach has all of them; check the network, or choose corpus='folder:PATH'")
    yield "mini", "neither the package servers nor the hub are within reach"


def read_documents(corpus: str, languages: list[str], characters: int, common_articles: bool, scratch: Path) -> Iterator[dict]:
    """Yield the documents of a corpus named as by `corpus_candidates`.

    `characters` caps the hub's stream per language, and `scratch` keeps what it has read. Raises ValueError when two
    documents of a language share an article id, CorpusUnavailable when a language has none.
    """
    check_languages(languages, corpus_languages(corpus))
    if corpus == "help":
        documents = help_documents(languages)
    elif corpus == "reference":
        documents = reference_documents(languages)
    elif corpus == "wiki40b":
        documents = hub_documents(languages, characters, common_articles, scratch)
    else:
        documents = folder_documents(corpus_folder(corpus), languages)
    seen = set()
    for document in documents:
        key = document["language"], document["article_id"]
        if key in seen:
            raise ValueError(f"article_id={key[1]!r} stands more than once in language {key[0]!r} of corpus {corpus!r}; ids must be unique")
        seen.add(key)
        yield document
    missing = [language for language in languages if language not in {key[0] for key in seen}]
    if missing:
        raise CorpusUnavailable(f"corpus={corpus!r} gave no document in: {', '.join(missing)}; choose other languages or another corpus"
                                + (", or set common_articles=False" if common_articles and corpus == "wiki40b" else ""))


def corpus_folder(corpus: str) -> Path:
    return repository() / "data" / "mini" if corpus == "mini" else Path(corpus.removeprefix("folder:")).expanduser()


def corpus_version(corpus: str, languages: list[str]) -> dict:
    """Return what, beside its name, tells one state of a corpus from another; it becomes part of the artefact's name."""
    if corpus == "help":
        return {"python": platform.python_version()} if "py" in languages else {}
    if corpus == "reference":
        return {name: version({"sklearn": "scikit-learn"}.get(name, name)) for name in REFERENCE_PACKAGES} if "py" in languages else {}
    if corpus == "wiki40b":
        return {}
    digest, folder = hashlib.sha256(), corpus_folder(corpus)
    for language in languages:
        for path in sorted((folder / language).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return {"sha256": digest.hexdigest()}
