"""Where documents come from. Nothing here reaches the network."""

import shutil
import sysconfig
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from mome.config import repository
from mome.data import corpora, hub
from mome.data.corpora import corpus_candidates, parse_help_page, read_documents, source_versions
from mome.data.folder import CorpusUnavailable
from mome.languages import CODE_LANGUAGES, CORPUS_LANGUAGES
from mome.progress import heard_by

MINI = list(CORPUS_LANGUAGES["mini"])
NOWHERE = Path("/nowhere")  # the scratch folder of sources that keep nothing there


@pytest.fixture(autouse=True)
def no_bars(monkeypatch):
    monkeypatch.setenv("MOME_BATCH", "1")


@pytest.fixture(scope="module")
def mini() -> list[dict]:
    return read("mini", MINI)


def read(source: str, languages: list[str], folder: Path | None = None) -> list[dict]:
    return list(read_documents(source, languages, 1, True, NOWHERE, folder))


def reach(monkeypatch, tools: bool, hub_answers: bool) -> None:
    """Make it look as if the package tools and the hub were, or were not, within reach."""
    monkeypatch.setattr(shutil, "which", lambda tool: f"/usr/bin/{tool}" if tools else None)
    monkeypatch.setattr(corpora, "do_packages_answer", lambda: tools)
    monkeypatch.setattr(hub, "is_reachable", lambda: hub_answers)


def write(root: Path, files: dict) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())


# The mini corpus

def test_mini_has_the_same_articles_in_its_natural_languages_and_code_that_keeps_its_ending(mini):
    ids = {name: {row["article_id"] for row in mini if row["language"] == name} for name in MINI}
    assert {language: len(found) for language, found in ids.items()} == {
        "en": 64, "fr": 64, "de": 64, "py": 64, "es": 20, "it": 20, "sql": 20, "bash": 20}
    assert ids["en"] == ids["fr"] == ids["de"]
    assert ids["es"] == ids["it"] < ids["en"]
    assert {language for language in MINI if language in CODE_LANGUAGES} == {"py", "sql", "bash"}
    endings = {(row["language"], Path(row["article_id"]).suffix) for row in mini}
    prose = {(language, "") for language in ("en", "fr", "de", "es", "it")}
    assert endings == prose | {("py", ".py"), ("sql", ".sql"), ("bash", ".sh")}
    assert all(set(row) == {"language", "article_id", "text"} and row["text"].strip() for row in mini)
    assert list(dict.fromkeys(row["language"] for row in mini)) == MINI
    assert len({(row["language"], row["text"]) for row in mini}) == len(mini)


def test_a_document_of_mini_is_its_file_letter_for_letter(mini):
    text = next(row["text"] for row in mini if (row["language"], row["article_id"]) == ("fr", "apple"))
    assert text == (repository() / "data/mini/fr/apple.txt").read_text(encoding="utf-8")
    assert "dégage de l'éthylène" in text


def test_every_python_file_of_mini_is_python(mini):
    for row in mini:
        if row["language"] == "py":
            compile(row["text"], row["article_id"], "exec")


def test_a_subset_of_languages_reads_those_only():
    assert {row["language"] for row in read("mini", ["de"])} == {"de"}
    assert read("mini", ("de",)) == read("mini", ["de"])


# A folder of one's own

def test_a_folder_is_read_from_the_path_that_is_given(tmp_path):
    write(tmp_path, {"corpus/en/a.txt": "apple"})
    expected = [{"language": "en", "article_id": "a", "text": "apple"}]
    assert read("folder", ["en"], tmp_path / "corpus") == expected
    assert read("folder", ["en"], f"{tmp_path}/corpus/") == expected


@pytest.mark.parametrize("files", [{"de/a.csv.xls": "Apfel"}, {"de/.a.txt": "Apfel"}, {}])
def test_a_language_without_files_is_named_beside_those_there_before_anything_is_read(tmp_path, files):
    write(tmp_path, {"en/a.txt": "apple", ".git/a.txt": "no"} | files)
    documents = read_documents("folder", ["en", "de"], 1, True, NOWHERE, tmp_path)
    with pytest.raises(CorpusUnavailable, match=r"de without texts in .*; it holds: en(; German: 1 .*)?$"):
        next(documents)


def test_an_empty_absent_or_unnamed_folder_and_one_of_empty_files_are_refused_by_name(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(CorpusUnavailable, match=r"en, fr without texts in .* it holds: nothing"):
            read("folder", ["en", "fr"], folder)
    write(tmp_path, {"en/a.txt": "apple", "de/a.txt": " \n"})
    said = rf"corpus='folder:{tmp_path}' gave no document in: de; .*; German: 1 left out, empty: de/a\.txt"
    with pytest.raises(CorpusUnavailable, match=said):
        read("folder", ["en", "de"], tmp_path)
    with pytest.raises(ValueError, match="folder=None is not allowed"):
        read("folder", ["en"])


@pytest.mark.parametrize("files", [
    {"en/a.txt": "apple", "en/a.md": "apple again"},
    {"en/a.txt": "apple", "en/b.jsonl": '{"text": "again", "article_id": "a"}'},
    {"en/a.jsonl": '{"text": "one", "article_id": "a"}\n{"text": "two", "article_id": "a"}'}])
def test_an_article_id_that_stands_twice_in_a_language_is_refused(tmp_path, files):
    write(tmp_path, files | {"fr/a.txt": "pomme"})
    message = "article_id='a' stands more than once in language 'en' of corpus 'folder:/"
    with pytest.raises(ValueError, match=message):
        read("folder", ["fr", "en"], tmp_path)


# Which sources and languages there are

@pytest.mark.parametrize("source", ["auto", "help@2026-11-25", "folder:/home"])
def test_a_source_is_one_of_five_names(source):
    message = f"source='{source}' is unknown; choose one of: help, wiki40b, reference, mini, folder"
    with pytest.raises(ValueError, match=message):
        read(source, ["en"])


@pytest.mark.parametrize("source, language", [
    ("help", "ar"), ("wiki40b", "eu"), ("mini", "tlh"), ("reference", "eu")])
def test_a_language_that_a_source_does_not_have_is_refused_beside_those_it_has(source, language):
    with pytest.raises(ValueError, match=f"languages='{language}' is unknown; choose one of: en, fr, de"):
        read(source, ["en", language])


# LibreOffice's help

PAGE = """<!DOCTYPE html><html lang="fr"><head><title>Titre d'onglet</title></head><body>
<header><h1>Aide</h1></header><aside><p>Menu : Accueil</p></aside>
<div id="DisplayArea"><nav>Retour</nav>
<h1 id="hd">Insérer une   <a href="x.html">cellule</a></h1>
<p class="paragraph">Ouvre la <span>boîte</span> de dialogue
    « Où ça ? » &eacute;t&#233; &amp; cœur.</p><p> </p>
<table><tr><td><p>Icône</p></td><td><p>Note</p></td></tr></table>
<ul><li><p>Premier point</p></li></ul>
<pre>Sub Main
    Print "déjà"

End Sub</pre></div>
<footer><p>Pied de page</p></footer></body></html>"""


def test_a_help_page_becomes_its_headings_paragraphs_and_code_lines_without_navigation():
    assert parse_help_page(PAGE.encode()).split("\n") == [
        "Insérer une cellule", "Ouvre la boîte de dialogue « Où ça ? » été & cœur.", "Icône", "Note",
        "Premier point", "Sub Main", '    Print "déjà"', "End Sub"]


@pytest.mark.parametrize("html, text", [
    ('<html><head><meta charset="iso-8859-1"></head><div id="DisplayArea"><p>Grüße, œuvre</p></div>',
     "Grüße, œuvre"),
    ('<div id="DisplayArea"><p>one<br>two<br/>three</p></div>', "one two three"),
    ("", ""), (" \n", ""), ("<!-- nothing -->", ""), ("<html><body><p>Menu</p></body></html>", ""),
    ('<div id="DisplayArea"></div>', ""), ('<div id="DisplayArea"><p> </p></div>', "")])
def test_a_page_is_utf8_whatever_it_says_its_line_breaks_part_words_and_it_may_be_empty(html, text):
    assert parse_help_page(html.encode()) == text


def unpack_to(monkeypatch, root: Path) -> None:
    """Let the help packages be unpacked already, to root/<language>."""
    monkeypatch.setattr(corpora, "fetch_help_packages",
                        lambda languages, _: {language: root / language for language in languages})


def test_help_pages_share_their_article_id_in_all_languages(monkeypatch, tmp_path):
    for language in ("en", "fr"):
        write(tmp_path / language, {"swriter/01/a.html": PAGE, "swriter/menu.html": "<p>Menu</p>"})
    unpack_to(monkeypatch, tmp_path)
    assert [(row["language"], row["article_id"]) for row in read("help", ["en", "fr"])] == [
        ("en", "swriter/01/a.html"), ("fr", "swriter/01/a.html")]


def test_a_part_of_the_pages_is_the_first_of_them_in_order(tmp_path):
    write(tmp_path, {f"{name}.html": PAGE for name in "dbca"})
    for part, names in ((1.0, "abcd"), (0.5, "ab"), (0.25, "a")):
        rows = corpora.parse_help_pages({"fr": tmp_path}, part)
        assert [row["article_id"] for row in rows] == [f"{name}.html" for name in names]


def test_pages_move_a_progress_of_their_own(monkeypatch, tmp_path):
    write(tmp_path, {"a.html": PAGE})
    heard = []
    with heard_by(heard.append):
        list(corpora.parse_help_pages({"fr": tmp_path}))
    assert heard == [{"text": "parse help fr", "done": 1, "total": 1, "note": ""}]


def test_python_documents_are_the_library_without_its_tests_and_tables(monkeypatch, tmp_path):
    write(tmp_path, {"ast.py": "import sys", "json/tool.py": "x = 1", "test/test_ast.py": "no",
                     "json/tests/a.py": "no", "encodings/cp1.py": "no", "site-packages/mome.py": "no",
                     "old.py": "# é".encode("latin-1"), "empty.py": "\n", "notes.txt": "no"})
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    assert read("help", ["py"]) == [{"language": "py", "article_id": "ast.py", "text": "import sys"},
                                    {"language": "py", "article_id": "json/tool.py", "text": "x = 1"}]
    assert [row["article_id"] for row in corpora.python_documents(0.25)] == ["ast.py"]
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path / "absent")})
    with pytest.raises(CorpusUnavailable, match=r"'py' needs the source of the CPython library.*'mini'"):
        read("help", ["py"])


@pytest.mark.parametrize("missing", ["apt-get", "dpkg-deb"])
@pytest.mark.parametrize("source", ["help", "reference"])
def test_without_the_package_tools_the_error_names_the_tool_and_other_corpora(monkeypatch, source, missing):
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool == missing else f"/usr/bin/{tool}")
    message = f"corpus='{source}' needs {missing}.*'wiki40b', 'mini' or 'folder:PATH'"
    with pytest.raises(CorpusUnavailable, match=message):
        read(source, ["en"])


def test_help_that_cannot_be_downloaded_says_why_also_when_apt_says_nothing(monkeypatch):
    stderr = "W: old list\nE: Unable to locate package libreoffice-help-fr\nE: more"
    failed = corpora.subprocess.CompletedProcess([], 100, "", stderr)
    reach(monkeypatch, tools=True, hub_answers=False)
    monkeypatch.setattr(corpora.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(CorpusUnavailable, match=r"'help' cannot .* \(E: Unable to .*-fr\).*'mini'"):
        read("help", ["fr"])
    reach(monkeypatch, tools=True, hub_answers=False)
    done = corpora.subprocess.CompletedProcess([], 0, "", "")
    monkeypatch.setattr(corpora.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(CorpusUnavailable, match="no answer from the package servers"):
        read("help", ["fr"])


def fake_packages(monkeypatch, folders: dict[str, str]) -> list[list[str]]:
    """Take the place of apt-get and dpkg-deb; return the commands that are run.

    `folders` maps the code of a package to the folder that it unpacks to.
    """
    commands = []

    def run(words, cwd=None, **_):
        commands.append(words)
        if "download" in words:
            write(cwd, {f"{name}.deb": "" for name in words[words.index("download") + 1:]})
        elif words[0] == "dpkg-deb":
            folder = folders[Path(words[2]).stem.removeprefix("libreoffice-help-")]
            page = PAGE.replace("Note", folder)
            write(Path(words[3]) / "usr/share/libreoffice/help", {f"{folder}/text/swriter/a.html": page})
        return corpora.subprocess.CompletedProcess(words, 0, "", "")

    reach(monkeypatch, tools=True, hub_answers=False)
    monkeypatch.setattr(corpora.subprocess, "run", run)
    return commands


def test_the_help_of_every_language_is_its_own_package_whatever_the_case_of_its_folder(monkeypatch):
    folders = {"en-us": "en-US", "en-gb": "en-GB", "es": "es", "pt-br": "pt-BR", "zh-cn": "zh-CN"}
    commands = fake_packages(monkeypatch, folders)
    rows = read("help", ["es", "en", "zh-cn", "pt-br", "en-gb"])
    asked = commands[1][commands[1].index("download") + 1:]
    assert sorted(asked) == sorted(f"libreoffice-help-{code}" for code in folders)
    assert [row["language"] for row in rows] == ["es", "en", "zh-cn", "pt-br", "en-gb"]
    for row in rows:
        assert folders["en-us" if row["language"] == "en" else row["language"]] in row["text"].split("\n")
    languages = [language for language in CORPUS_LANGUAGES["help"] if language != "py"]
    folders = {language: language.upper() for language in languages} | {"en-us": "en-US"}
    commands = fake_packages(monkeypatch, folders)
    assert len(read("help", languages)) == len(languages) == 34
    asked = commands[1][commands[1].index("download") + 1:]
    assert len(set(asked)) == 34
    assert "libreoffice-help-en" not in asked


def test_apt_keeps_its_state_in_the_scratch_folder_and_tries_again(monkeypatch, tmp_path):
    commands = fake_packages(monkeypatch, {"fr": "fr"})
    corpora.fetch_packages("help", ["libreoffice-help-fr"], tmp_path)
    expected = {f"Dir::State={tmp_path}/state", f"Dir::Cache={tmp_path}/cache", "Acquire::Retries=3"}
    assert all(expected <= set(words) for words in commands[:2])
    assert (tmp_path / "pages/usr/share/libreoffice/help/fr/text/swriter/a.html").exists()


def test_a_corpus_that_is_silent_in_a_language_is_not_taken_for_whole(monkeypatch, tmp_path):
    write(tmp_path, {"en/a.html": PAGE, "fr/a.html": "<html></html>"})
    unpack_to(monkeypatch, tmp_path)
    with pytest.raises(CorpusUnavailable, match=r"corpus='help' gave no document in: fr; .* another corpus$"):
        read("help", ["en", "fr"])
    write(tmp_path, {"usr/share/debian-reference/ch01.en.html": REFERENCE_PAGE})
    monkeypatch.setattr(corpora, "fetch_packages", lambda *_: tmp_path)
    with pytest.raises(CorpusUnavailable, match="corpus='reference' gave no document in: fr"):
        read("reference", ["en", "fr"])
    monkeypatch.setattr(hub, "download", lambda *_: iter(()))
    message = r"corpus='wiki40b' gave no document in: en, fr;.*common_articles=False"
    with pytest.raises(CorpusUnavailable, match=message):
        read("wiki40b", ["en", "fr"])


# The Debian Reference

REFERENCE_PAGE = """<?xml version="1.0" encoding="UTF-8"?>
<html xmlns="http://www.w3.org/1999/xhtml"><head><title>Kapitel 1</title></head><body>
<div class="navheader"><table><tr><th>Chapter 1. GNU/Linux tutorials</th></tr>
<tr><td><a href="pr01.html">Prev</a></td></tr></table><p>Home</p></div>
<div class="chapter"><div class="titlepage"><h1 class="title"><a id="_tutorials"></a>Chapter 1</h1></div>
<p>Before any section.</p>
<div class="toc"><p><strong>Table of Contents</strong></p></div>
<div class="section"><div class="titlepage"><h2 class="title"><a id="_console"></a>1.1.  Console
  <em>basics</em></h2></div>
<p>Für die <strong>Shell</strong> braucht man
   Übung.</p>
<div class="section"><h3 class="title"><a id="_prompt"></a>1.1.1. The prompt</h3>
<p>Upon starting &amp; login:</p><pre class="screen">foo login:
    root   \n
<p>Password:</p></pre>
<div class="itemizedlist"><ul><li class="listitem"><p>first point</p></li>
<li class="listitem"><p>second point</p></li></ul></div></div>
<p>After the inner section.</p></div>
<div class="section"><a id="_empty"></a><div class="empty"> </div></div>
<div class="section"><p>A section without an anchor.</p></div></div>
<div class="navfooter"><hr/><p>Next: Chapter 2</p></div></body></html>"""


def test_a_reference_page_becomes_its_sections_by_anchor_each_without_those_within_if_it_has_any():
    assert corpora.parse_reference_page(REFERENCE_PAGE.encode()) == {
        "_console": "1.1. Console basics\nFür die Shell braucht man Übung.\nAfter the inner section.",
        "_prompt": "1.1.1. The prompt\nUpon starting & login:\nfoo login:\n    root\nPassword:\n"
                   "first point\nsecond point"}
    page = b'<html><body><div class="navheader"><p>Home</p></div><h1>Title</h1></body></html>'
    assert corpora.parse_reference_page(page) == {}


def test_reference_documents_are_sections_that_share_their_ids_in_all_languages(monkeypatch, tmp_path):
    asked = []
    second = REFERENCE_PAGE.replace('"_console"', '"_files"').replace('"_prompt"', '"_modes"')
    pages = {f"ch0{number}.{language}.html": page for number, page in ((1, REFERENCE_PAGE), (2, second))
             for language in ("en", "pt", "pt-br", "zh-cn")}
    others = ("ch01.de.html", "debian-reference.en.txt.gz", "images/next.png")
    write(tmp_path / "usr/share/debian-reference", pages | {name: "no" for name in others})
    monkeypatch.setattr(corpora, "fetch_packages",
                        lambda source, packages, _: asked.append((source, packages)) or tmp_path)
    rows = read("reference", ["zh-cn", "en", "pt"])
    assert asked == [("reference", ["debian-reference-zh-cn", "debian-reference-en", "debian-reference-pt"])]
    ids = ["ch01#_console", "ch01#_prompt", "ch02#_files", "ch02#_modes"]
    assert [(row["language"], row["article_id"]) for row in rows] == [
        (language, name) for language in ("zh-cn", "en", "pt") for name in ids]
    assert all(set(row) == {"language", "article_id", "text"} and row["text"].strip() for row in rows)


def test_the_python_of_the_reference_is_that_of_packages_and_needs_no_download(monkeypatch, tmp_path):
    monkeypatch.setattr(corpora, "fetch_packages", lambda *_: pytest.fail("a package was fetched"))
    monkeypatch.setattr(corpora, "REFERENCE_PACKAGES", ("one", "two"))
    monkeypatch.setattr(corpora.importlib.util, "find_spec",
                        lambda name: ModuleSpec(name, None, origin=f"{tmp_path}/{name}/__init__.py"))
    write(tmp_path, {"one/__init__.py": "", "one/plot.py": "x = 1", "one/tests/test_plot.py": "no",
                     "one/old.py": "# é".encode("latin-1"),
                     "two/__init__.py": "y = 2", "two/deep/plot.py": "z = 3"})
    assert [(row["article_id"], row["text"]) for row in read("reference", ["py"])] == [
        ("one/plot.py", "x = 1"), ("two/__init__.py", "y = 2"), ("two/deep/plot.py", "z = 3")]


# The hub

def test_the_hub_is_told_how_much_is_wanted_and_where_to_keep_it(monkeypatch, tmp_path):
    asked, row = [], {"language": "en", "article_id": "Q1", "text": "text"}
    monkeypatch.setattr(hub, "download", lambda *arguments: asked.append(arguments) or [row])
    assert list(read_documents("wiki40b", ["en"], 40, False, tmp_path)) == [row]
    assert asked == [(["en"], 40, False, tmp_path)]


# Which corpus is tried

@pytest.mark.parametrize("tools, hub_answers, languages, expected", [
    (True, True, ["en", "fr", "py"], ["help", "wiki40b", "mini"]),
    (True, False, ["en"], ["help", "mini"]),
    (False, True, ["en"], ["wiki40b", "mini"]),
    (False, False, ["en", "fr", "de", "py"], ["mini"])])
def test_auto_tries_help_first_then_the_hub_then_mini_as_far_as_they_are_within_reach(
        monkeypatch, tools, hub_answers, languages, expected):
    reach(monkeypatch, tools, hub_answers)
    candidates = list(corpus_candidates("auto", languages))
    assert [source for source, _ in candidates] == expected
    assert candidates[-1][1].startswith("neither the package servers nor the hub")


@pytest.mark.parametrize("tools, lists, answers", [
    (True, ["deb_Packages"], True), (True, ["deb_InRelease"], False), (True, [], False),
    (False, ["deb_Packages"], False)])
def test_package_servers_answer_when_apt_is_here_and_brings_lists(monkeypatch, tools, lists, answers):
    def run(words, cwd, **_):
        for name in lists:
            (cwd / "state/lists" / name).touch()

    monkeypatch.setattr(shutil, "which", lambda tool: tool if tools else None)
    monkeypatch.setattr(corpora.subprocess, "run", run)
    assert corpora.do_packages_answer() is answers


def test_auto_skips_a_source_that_lacks_a_language_and_asks_the_hub_only_when_help_did_not_serve(monkeypatch):
    reach(monkeypatch, tools=True, hub_answers=True)
    assert next(corpus_candidates("auto", ["en", "ar"]))[0] == "wiki40b"
    monkeypatch.setattr(hub, "is_reachable", lambda: pytest.fail("the hub was asked"))
    candidates = corpus_candidates("auto", ["en", "eu"])
    assert next(candidates)[0] == "help"
    with pytest.raises(CorpusUnavailable, match=r"\['en', 'eu'\]: no corpus within reach"):
        next(candidates)
    reach(monkeypatch, tools=True, hub_answers=True)
    monkeypatch.setattr(hub, "is_reachable", lambda: pytest.fail("the hub was asked"))
    assert next(corpus_candidates("auto", ["en"]))[0] == "help"


@pytest.mark.parametrize("languages", [["en", "fi"], ("py", "js")])
def test_auto_never_falls_to_a_mini_that_lacks_a_language(monkeypatch, languages):
    reach(monkeypatch, tools=False, hub_answers=False)
    with pytest.raises(CorpusUnavailable, match="no corpus within reach has all of them; check the network"):
        list(corpus_candidates("auto", languages))


@pytest.mark.parametrize("reachable", [False, True])
def test_a_corpus_chosen_by_name_never_falls_back(monkeypatch, tmp_path, reachable):
    reach(monkeypatch, tools=reachable, hub_answers=reachable)
    write(tmp_path, {"en/a.txt": "apple"})
    for name in ("help", "wiki40b", "reference", "mini", f"folder:{tmp_path}"):
        assert list(corpus_candidates(name, ["en"])) == [(name, "chosen by name")]


def test_a_corpus_that_does_not_exist_is_refused():
    for name in ("wikipedia", "folder:PATH", "folder:/no/such/folder"):
        with pytest.raises(ValueError, match=f"corpus='{name}'"):
            next(corpus_candidates(name, ["en"]))


# What tells one state of a source from another

def test_versions_of_this_machine_tell_states_of_help_and_reference_apart_only_with_code():
    assert source_versions("help", ["en", "py"]) == {"python": corpora.platform.python_version()}
    assert source_versions("help", ["en"]) == {}
    versions = source_versions("reference", ["en", "py"])
    assert set(versions) == set(corpora.REFERENCE_PACKAGES)
    assert versions["sklearn"] == corpora.version("scikit-learn")
    assert source_versions("reference", ["en"]) == {}
    for source in ("wiki40b", "mini", "folder"):
        assert source_versions(source, ["en", "py"]) == {}
