"""Where documents come from: every source yields rows {language, article_id, text}."""

import importlib.util
import platform
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import lxml.etree
import lxml.html

from mome.checks import check_choice
from mome.data import hub
from mome.data.files import describe_reading
from mome.data.folder import CorpusUnavailable, corpus_folder, folder_documents
from mome.languages import CORPUS_LANGUAGES, check_corpus, check_languages
from mome.progress import track

BLOCKS, UTF8 = {"h1", "h2", "h3", "h4", "h5", "h6", "p", "pre"}, lxml.html.HTMLParser(encoding="utf-8")
# Folders of Python sources that are tests, tables or vendored wheels: nothing that a person reads.
NOT_READ = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "encodings",
            "pydoc_data", "ensurepip", "turtledemo"}
# Installed packages whose source is the reference's Python: other hands and subjects than the library's.
REFERENCE_PACKAGES = ("matplotlib", "pandas", "seaborn", "sklearn")
TOOLS = ("apt-get", "dpkg-deb")
APT_OPTIONS = ("Acquire::Retries=3", "Acquire::http::Timeout=30", "Acquire::https::Timeout=30",
               "Acquire::Languages=none", "APT::Sandbox::User=root")


def corpus_candidates(corpus: str, languages: list[str]) -> Iterator[tuple[str, str]]:
    """Yield (source, why) in the order to try: for `auto` help, wiki40b, mini; else the corpus as named.

    A candidate of `auto` is yielded only when what can be told at once (tools on the path, the hub's answer)
    speaks for it. Raises ValueError for a corpus that does not exist, CorpusUnavailable where `auto` would
    end at mini and mini lacks a language.
    """
    check_corpus(corpus)
    if corpus != "auto":
        yield corpus, "chosen by name"
        return
    wanted = set(languages)
    if wanted <= set(CORPUS_LANGUAGES["help"]) and do_packages_answer():
        yield "help", "the package servers answer and bring LibreOffice's help"
    if wanted <= set(CORPUS_LANGUAGES["wiki40b"]) and hub.is_reachable():
        yield "wiki40b", "the package servers bring no help pages, and the hub answers"
    if not wanted <= set(CORPUS_LANGUAGES["mini"]):
        raise CorpusUnavailable(f"languages={list(languages)!r}: no corpus within reach has all of them; "
                                "check the network, or choose corpus='folder:PATH'")
    yield "mini", "neither the package servers nor the hub are within reach"


def read_documents(source: str, languages: list[str], characters: int, common_articles: bool, scratch: Path,
                   folder: Path | None = None, report: dict | None = None) -> Iterator[dict]:
    """Yield the documents of help, wiki40b, reference, mini, or folder: the texts under the path `folder`.

    `characters` caps the hub's stream per language, `scratch` keeps what it has read, and `report` takes what
    `folder_documents` tells. Raises ValueError when two documents of a language share an article id,
    CorpusUnavailable when a language has none.
    """
    check_choice("source", source, (*CORPUS_LANGUAGES, "folder"))
    languages = check_languages(languages, CORPUS_LANGUAGES.get(source))
    if source in ("help", "reference"):
        documents = packaged_documents(source, languages)
    elif source == "wiki40b":
        documents = hub.download(languages, characters, common_articles, scratch)
    elif source == "folder" and not folder:
        raise ValueError(f"folder={folder!r} is not allowed; source='folder' needs the path of a folder")
    else:
        root = Path(folder) if source == "folder" else corpus_folder("mini")
        documents = folder_documents(root, languages, report := {} if report is None else report)
    name, seen = f"folder:{folder}" if source == "folder" else source, set()
    for document in documents:
        language, article_id = key = document["language"], document["article_id"]
        if key in seen:
            raise ValueError(f"article_id={article_id!r} stands more than once in language {language!r} of "
                             f"corpus {name!r}; ids must be unique")
        seen.add(key)
        yield document
    missing = [language for language in languages if language not in {found for found, _ in seen}]
    if missing:
        hint = ", or set common_articles=False" if common_articles and source == "wiki40b" else "".join(
            f"; {line}" for language in missing for line in describe_reading(language, report[language])
        ) if report else ""
        raise CorpusUnavailable(f"corpus={name!r} gave no document in: {', '.join(missing)}; choose other "
                                f"languages or another corpus{hint}")


def source_versions(source: str, languages: list[str]) -> dict[str, str]:
    """Return the versions of what is installed and read as py: Python for help, packages for reference."""
    if "py" in languages and source == "help":
        return {"python": platform.python_version()}
    if "py" in languages and source == "reference":
        return {name: version({"sklearn": "scikit-learn"}.get(name, name)) for name in REFERENCE_PACKAGES}
    return {}


def packaged_documents(source: str, languages: list[str]) -> Iterator[dict]:
    """Yield LibreOffice's help and the CPython library, or the Debian Reference and `REFERENCE_PACKAGES`.

    A page's article id is its path, a section's its page and anchor, the same in every language; a Python
    file's its path in the library or from its package on.
    """
    natural = [language for language in languages if language != "py"]
    with TemporaryDirectory(prefix=f"mome-{source}-") as scratch:
        if natural and source == "help":
            yield from parse_help_pages(fetch_help_packages(natural, Path(scratch)))
        elif natural:
            packages = [f"debian-reference-{language}" for language in natural]
            root = fetch_packages("reference", packages, Path(scratch)) / "usr/share/debian-reference"
            for language in natural:
                for page in sorted(root.glob(f"*.{language}.html")):
                    for anchor, text in parse_reference_page(page.read_bytes()).items():
                        article_id = f"{page.name.partition('.')[0]}#{anchor}"
                        yield {"language": language, "article_id": article_id, "text": text}
    for package in ([""] if source == "help" else REFERENCE_PACKAGES) if "py" in languages else ():
        yield from python_documents(package=package)


def fetch_help_packages(languages: list[str], scratch: Path) -> dict[str, Path]:
    """Download and unpack the help packages under `scratch`; return the folder of pages of each language."""
    codes = {language: "en-us" if language == "en" else language for language in languages}
    files = fetch_packages("help", [f"libreoffice-help-{code}" for code in codes.values()], scratch)
    folders = {path.name.lower(): path / "text" for path in (files / "usr/share/libreoffice/help").iterdir()}
    return {language: folders[code] for language, code in codes.items()}


def do_packages_answer() -> bool:
    """True when apt's tools are here and its servers give their lists now."""
    if not all(map(shutil.which, TOOLS)):
        return False
    with TemporaryDirectory(prefix="mome-ask-") as scratch:
        update_lists(Path(scratch), "Acquire::http::Timeout=10", "Acquire::https::Timeout=10")
        return any("Packages" in path.name for path in Path(scratch, "state/lists").iterdir())


def update_lists(scratch: Path, *options: str) -> list[str]:
    """Fetch the lists of packages into folders of their own; return the words with which apt uses them."""
    for folder in ("state/lists/partial", "cache/archives/partial", "debs", "pages"):
        (scratch / folder).mkdir(parents=True)
    options = (f"Dir::State={scratch / 'state'}", f"Dir::Cache={scratch / 'cache'}", *APT_OPTIONS, *options)
    apt = ["apt-get", "-q", *(word for option in options for word in ("-o", option))]
    # A failing third-party source makes `update` fail though Debian's lists are whole: a download decides.
    subprocess.run([*apt, "update"], cwd=scratch, capture_output=True, text=True, check=False)
    return apt


def fetch_packages(corpus: str, packages: list[str], scratch: Path) -> Path:
    """Download Debian packages and unpack them under `scratch`; return the folder that holds their files.

    apt keeps its state and cache there too: nothing is installed, no root needed, signatures are checked.
    """
    for tool in TOOLS:
        if shutil.which(tool) is None:
            raise CorpusUnavailable(f"corpus={corpus!r} needs {tool}, which this machine lacks; choose "
                                    "corpus='wiki40b', 'mini' or 'folder:PATH'")
    words = [*update_lists(scratch), "download", *packages]
    result = subprocess.run(words, cwd=scratch / "debs", capture_output=True, text=True, check=False)
    archives = sorted((scratch / "debs").glob("*.deb"))
    if result.returncode or len(archives) < len(packages):
        errors = [line for line in result.stderr.splitlines() if line.startswith("E:")]
        reason = [*errors, "no answer from the package servers"][0]
        raise CorpusUnavailable(f"corpus={corpus!r} cannot be downloaded ({reason}); check the network, or "
                                "choose corpus='mini' or 'folder:PATH'")
    for archive in archives:
        subprocess.run(["dpkg-deb", "-x", str(archive), str(scratch / "pages")], check=True)
    return scratch / "pages"


def parse_help_pages(roots: dict[str, Path], part: float = 1.0) -> Iterator[dict]:
    """Yield the pages with text of every language's folder, or the first part of them."""
    for language, root in roots.items():
        pages = sorted(root.rglob("*.html"))
        pages = pages[:round(part * len(pages))]
        for page in track(pages, f"parse help {language}", len(pages)):
            if text := parse_help_page(page.read_bytes()):
                yield {"language": language, "article_id": page.relative_to(root).as_posix(), "text": text}


def parse_help_page(html: bytes) -> str:
    """Return the page's headings and paragraphs, one a line, without navigation; empty when it has none."""
    try:
        tree = lxml.html.document_fromstring(html, parser=UTF8)
    except lxml.etree.ParserError:  # an empty document
        return ""
    area = tree.get_element_by_id("DisplayArea", lxml.html.Element("div"))
    for line_break in area.iter("br"):
        line_break.tail = f" {line_break.tail or ''}"
    return "\n".join(line for element in area.iter(*BLOCKS) for line in block_lines(element))


def block_lines(element) -> list[str]:
    """Return the lines of text of a heading, paragraph or piece of code; only code has more than one."""
    text = element.text_content()
    lines = text.splitlines() if element.tag == "pre" else [" ".join(text.split())]
    return [line.rstrip() for line in lines if line.strip()]


def parse_reference_page(html: bytes) -> dict[str, str]:
    """Return {anchor: text} of the page's sections, each without those within it."""
    sections: dict[str, list[str]] = {}
    for element in lxml.html.document_fromstring(html, parser=UTF8).iter(*BLOCKS):
        anchor = element.xpath("string(ancestor::div[@class='section'][1]//a[@id!='']/@id)")
        if anchor and not any(parent.tag in BLOCKS for parent in element.iterancestors()):
            sections.setdefault(anchor, []).extend(block_lines(element))
    return {anchor: "\n".join(lines) for anchor, lines in sections.items() if lines}


def python_documents(part: float = 1.0, package: str = "") -> Iterator[dict]:
    """Yield a package's or CPython's files, or the first part of them; CorpusUnavailable without any."""
    origin = importlib.util.find_spec(package).origin if package else ""
    root = Path(origin).parent if package else Path(sysconfig.get_paths()["stdlib"])
    files = sorted(path for path in root.rglob("*.py") if not NOT_READ & set(path.relative_to(root).parts))
    if not files:
        raise CorpusUnavailable(f"language='py' needs the source of {package or 'the CPython library'} as "
                                f"files, and {root} holds none; choose corpus='mini'")
    for path in files[:round(part * len(files))]:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:  # a handful of old files declare another encoding
            continue
        if text.strip():
            article_id = Path(package, path.relative_to(root)).as_posix()
            yield {"language": "py", "article_id": article_id, "text": text}
